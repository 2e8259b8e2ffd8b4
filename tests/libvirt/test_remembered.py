# SPDX-License-Identifier: GPL-2.0-or-later
"""kwsfs starts with what it knew of VMs. Whatever was done to them meanwhile, nobody is served
anything else than what libvirt says and the images hold."""
import os
import re
import signal

import pytest

from kwsmount import RememberingMount


@pytest.fixture
def mount_class():
    return RememberingMount


@pytest.fixture
def five(tree, vm):
    """Five snapshots of a VM that is off, and a fork."""
    for number in range(4):
        vm.write("vda", number + 1, number << 16, 1 << 16)
        tree.mkdir(f"s{number}")
    tree.revert("s1")
    vm.write("vda", 99, 1 << 20, 1 << 16)
    tree.mkdir("fork")
    return tree


@pytest.fixture(params=["ended", "killed"])
def away(mount, request):
    """Does something while kwsfs is away."""
    def while_away(what):
        mount.process.send_signal(signal.SIGTERM if request.param == "ended" else signal.SIGKILL)
        mount.process.wait(timeout=60)
        what()
        mount.start_again()

    return while_away


def texts_of(tree):
    return {f"{name}/{file}": (tree / name / file).read_text()
            for name in tree.names for file in ("domain.xml", "info.json", "description")}


def stats_of(tree):
    """What ls shows, but for what became of it by looking."""
    found = {}
    for folder, _, files in os.walk(tree.path):
        for path in (os.path.join(folder, name) for name in [".", *files]):
            stat = os.lstat(path)
            found[os.path.relpath(path, tree.path)] = (
                stat.st_ino, stat.st_mode, stat.st_nlink, stat.st_size, stat.st_blocks,
                stat.st_mtime_ns)
    return {path: stat for path, stat in found.items() if not path.startswith(".kws")}


def test_nothing_has_changed(five, away):
    texts, stats = texts_of(five), stats_of(five)
    away(lambda: None)
    assert stats_of(five) == stats
    assert texts_of(five) == texts
    for path, stat in stats.items():
        if path.endswith("domain.xml"):
            assert stat[3] == len((five.path / path).read_bytes())
    five.check()
    five.check_files()


def test_time_of_a_deletion(five, away):
    """rsync and make go by it: the folder did not become older by a restart."""
    five.rmdir("fork")
    five.sync()
    changed = os.stat(five.path).st_mtime_ns
    away(lambda: None)
    assert os.stat(five.path).st_mtime_ns == changed


def test_a_snapshot_made_by_virsh(five, away, vm):
    def take():
        vm.virsh("snapshot-create-as", vm.name, "theirs", "--disk-only")

    away(take)
    five.reference["theirs"] = vm.copy_of_content()
    five.check()


@pytest.mark.parametrize("name", ["s0", "s1", "s3"])
def test_a_snapshot_deleted_by_virsh(five, away, vm, name):
    away(lambda: vm.virsh("snapshot-delete", vm.name, name, "--metadata"))
    del five.reference[name]
    five.check()


def test_another_snapshot_of_the_same_name(five, away, vm):
    """The disks' sources are the same again: only its XML tells that s3 has gone and that s2
    now bears its name."""
    xml = vm.virsh("snapshot-dumpxml", vm.name, "s2")

    def swap():
        vm.virsh("snapshot-delete", vm.name, "s3", "--metadata")
        vm.virsh("snapshot-delete", vm.name, "s2", "--metadata")
        file = vm.folder / "other.xml"
        file.write_text(xml.replace("<name>s2</name>", "<name>s3</name>"))
        vm.virsh("snapshot-create", vm.name, file, "--redefine")
        file.unlink()

    away(swap)
    five.reference["s3"] = five.reference.pop("s2")
    # Opened by what was remembered, without a look into its folder.
    assert (five / "s3" / "vda.raw").read_bytes() == five.reference["s3"]["vda"]
    five.check()


def test_a_description_edited_with_virsh(five, away, vm):
    xml = vm.virsh("snapshot-dumpxml", vm.name, "s1")

    def edit():
        file = vm.folder / "edited.xml"
        file.write_text(re.sub("<name>", "<description>by hand</description><name>", xml, count=1))
        vm.virsh("snapshot-create", vm.name, file, "--redefine")
        file.unlink()

    away(edit)
    assert (five / "s1" / "description").read_text() == "by hand\n"
    five.check()


def test_operations_at_once(five, away, vm):
    """They do not go by what is only remembered."""
    away(lambda: vm.virsh("snapshot-delete", vm.name, "s0", "--metadata"))
    del five.reference["s0"]
    five.rmdir("s1")
    five.revert("s3")
    vm.write("vda", 55, 2 << 20, 1 << 16)
    five.mkdir("new")
    five.check()
    five.sync()
    five.check()


def test_an_undefined_vm(five, away, vm, libvirtd):
    away(lambda: libvirtd.try_virsh("undefine", vm.name, "--snapshots-metadata"))
    assert vm.name not in os.listdir(five.mount.point / "snapshots")
