# SPDX-License-Identifier: GPL-2.0-or-later
"""Deleting: everything else stays as it is, and nothing is left over."""
import errno
import os
import time

import pytest

from commands import refused, run


def make_chain(tree, vm, names=("one", "two", "three", "four")):
    for number, name in enumerate(names, start=1):
        vm.write("vda", number, number << 18, 512 << 10)
        vm.write("vdb", number, number << 12, 8192)
        tree.mkdir(name)
    vm.write("vda", 99, 0, 4096)


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("order", [
    ("one", "two", "three", "four"), ("four", "three", "two", "one"),
    ("two", "three", "one", "four"), ("three", "one", "four", "two")])
def test_any_order(tree, vm, running, order):
    if running:
        vm.start()
    make_chain(tree, vm)
    for name in order:
        tree.rmdir(name)
        tree.check()
        tree.check_files()
    assert {os.path.basename(path) for path in vm.active.values()} == {"vda.qcow2", "vdb.qcow2"}


@pytest.mark.parametrize("running", [True, False])
def test_branches(tree, vm, running):
    make_chain(tree, vm)
    for branch in "left", "right":
        tree.revert("two")
        vm.write("vda", ord(branch[0]), 0, 65536)
        tree.mkdir(branch)
        vm.write("vda", ord(branch[1]), 0, 65536)
    if running:
        vm.start()
    for name in "two", "left", "one", "three", "right", "four":
        tree.rmdir(name)
        tree.check()
        tree.check_files()


def test_a_fork_is_collected_when_one_branch_is_left(tree, vm):
    make_chain(tree, vm, ("base", "left"))
    tree.revert("base")
    tree.mkdir("right")
    tree.rmdir("base")
    tree.sync()
    assert "tombstones 2" in tree.kws("status")  # one for each disk
    tree.check()
    tree.rmdir("left")
    tree.check_files()
    tree.check()
    assert "tombstones 0" in tree.kws("status")


def test_the_name_is_free_at_once(tree, vm):
    vm.start()
    make_chain(tree, vm)
    for number in range(5):
        tree.rmdir("two")
        vm.write("vda", 200 + number, 0, 4096)
        tree.mkdir("two")
    tree.check()
    tree.check_files()


def test_mkdir_at_any_moment_of_a_merge(tree, vm):
    vm.start()
    make_chain(tree, vm)
    for number in range(30):
        name = ("two", "three")[number % 2]
        tree.rmdir(name)
        vm.write("vda", 100 + number, number << 16, 65536)
        time.sleep(number / 1000)
        tree.mkdir(name)
    tree.check()
    tree.check_files()


def test_mkdir_while_layers_are_merged(tree, vm):
    vm.start()
    make_chain(tree, vm)
    tree.rmdir("two")
    tree.mkdir("five")
    tree.rmdir("three")
    tree.mkdir("six")
    tree.check()
    tree.check_files()


def test_pinned(tree, vm):
    make_chain(tree, vm)
    (tree / "two" / "pin").write_text("1\n")
    with refused(errno.EPERM):
        (tree / "two").rmdir()
    assert "pin" in tree.kws("last_error")
    (tree / "two" / "pin").write_text("0\n")
    tree.rmdir("two")
    tree.check()


def test_open_images_are_not_deleted(tree, vm):
    make_chain(tree, vm)
    with open(tree / "two" / "vda.raw", "rb"):
        with refused(errno.EBUSY):
            (tree / "two").rmdir()
        tree.rmdir("three")  # its data go into a layer of which nobody reads
        tree.rmdir("one")
        tree.sync()
        tree.check()
    tree.rmdir_closed("two")
    tree.check_files()


def test_a_reader_never_sees_its_bytes_change(tree, vm):
    """An image that is open while the layers under and over it are merged."""
    vm.start()
    make_chain(tree, vm)
    with open(tree / "three" / "vda.raw", "rb", buffering=0) as image:
        first = image.read(64 << 10)
        for name in "one", "two", "four":
            tree.rmdir(name)
            vm.write("vda", ord(name[0]), 0, 4 << 20)
            tree.sync()
        image.seek(0)
        whole = b"".join(iter(lambda: image.read(256 << 10), b""))
    assert first == tree.reference["three"]["vda"][:64 << 10]
    assert whole == tree.reference["three"]["vda"]


@pytest.mark.parametrize("running", [True, False])
def test_a_compressed_base_is_not_written_in_part(mount, new_vm, running, folder):
    """QEMU would move its clusters under a reader: so its tombstone stays, and all else is merged."""
    vm = new_vm()
    vm.write("vda", 1, 0, 2 << 20)
    run("qemu-img", "convert", "-c", "-O", "qcow2", vm.paths["vda"], folder / "packed")
    os.replace(folder / "packed", vm.paths["vda"])
    tree = mount.of(vm)
    if running:
        vm.start()
    for number, name in enumerate(["one", "two", "three"], start=2):
        tree.mkdir(name)
        vm.write("vda", number, number * 8192, 4096)
    before = vm.paths["vda"].read_bytes()
    for name in "one", "two":
        tree.rmdir(name)
        tree.check()
        tree.check_files()
    assert vm.paths["vda"].read_bytes() == before
    assert "tombstones 1" in tree.kws("status")
    tree.rmdir("three")
    tree.check_files()
    assert len(list(vm.folder.glob("*.qcow2"))) == 2


def test_the_base_of_another_vm_is_not_written(mount, new_vm):
    first = new_vm("first")
    tree = mount.of(first)
    first.write("vda", 1, 0, 1 << 20)
    tree.mkdir("shared")
    second = new_vm("second", define=False)
    os.unlink(second.paths["vda"])
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", first.paths["vda"],
        second.paths["vda"])
    second.define()
    before = first.paths["vda"].read_bytes()
    tree.rmdir("shared")
    tree.sync()
    assert first.paths["vda"].read_bytes() == before
    second.virsh("undefine", "second")
    tree.mkdir("again")
    tree.rmdir("again")
    os.unlink(second.paths["vda"])
    tree.sync()
    tree.check()


def test_an_overlay_that_nobody_names_is_not_orphaned(tree, vm, folder):
    """Somebody made it by hand beside the disk."""
    make_chain(tree, vm, ("one", "two"))
    stray = vm.folder / "by-hand.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b",
        vm.snapshot_layers()["two"]["vda"], stray)
    run("qemu-img", "convert", "-O", "raw", stray, folder / "before")
    tree.rmdir("two")
    tree.rmdir("one")
    tree.sync()
    run("qemu-img", "convert", "-O", "raw", stray, folder / "after")
    run("cmp", folder / "before", folder / "after")
    tree.check()


def test_nothing_but_a_snapshot_is_removed(tree, vm):
    tree.mkdir("one")
    for path in tree.path, tree / ".kws":
        with refused(errno.EPERM):
            path.rmdir()
    for path in tree / "one" / "vda.raw", tree / "one" / "info.json", tree / "current":
        with refused(errno.EPERM):
            path.unlink()
    tree.check()
