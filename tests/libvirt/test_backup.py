# SPDX-License-Identifier: GPL-2.0-or-later
"""/kws/backup: what rsync brings to another host is a working chain there, and the next run moves
only what is new."""
import errno
import json
import os
import re

import pytest

from commands import refused, run


def backup_of(tree):
    return tree.mount.point / "backup" / tree.vm.name


def make_snapshots(tree, vm):
    vm.write("vda", 1, 0, 2 << 20)
    vm.write("vdb", 2, 0, 65536)
    tree.mkdir("one")
    vm.start()
    vm.write("vda", 3, 1 << 20, 4096)
    tree.mkdir("two")
    vm.write("vda", 4, (3 << 20) + 4096, 100 << 10)
    vm.write("vdb", 5, 8192, 4096)
    tree.mkdir("three")
    vm.write("vda", 6, 0, 65536)


def rsync(tree, there):
    said = run("rsync", "-a", "--delete", "--no-whole-file", "--stats", f"{backup_of(tree)}/", there)
    assert all(path.is_dir() or path.suffix == ".qcow2" for path in there.rglob("*"))
    return int(re.search(r"Literal data: ([\d,]+)", said)[1].replace(",", ""))


def check_copy(tree, there):
    """Every snapshot is there, is sound, and reads as it did when it was taken."""
    assert set(os.listdir(there)) == set(tree.reference)
    for name, disks in tree.reference.items():
        for target, content in disks.items():
            image = there / name / f"{target}.qcow2"
            run("qemu-img", "check", "-q", image)
            run("qemu-img", "convert", "-O", "raw", image, there.parent / "flat")
            assert (there.parent / "flat").read_bytes() == content, (name, target)


def test_a_working_chain_elsewhere(tree, vm, folder):
    make_snapshots(tree, vm)
    rsync(tree, folder / "there")
    check_copy(tree, folder / "there")
    info = run("qemu-img", "info", folder / "there" / "two" / "vda.qcow2")
    assert "backing file: ../one/vda.qcow2" in info and "backing file format: qcow2" in info


def test_the_next_run_moves_only_what_is_new(tree, vm, folder):
    make_snapshots(tree, vm)
    assert rsync(tree, folder / "there") > 2 << 20
    assert rsync(tree, folder / "there") == 0
    vm.write("vda", 7, 2 << 20, 128 << 10)
    tree.mkdir("four")
    assert rsync(tree, folder / "there") < (128 << 10) + (64 << 10) * 12
    check_copy(tree, folder / "there")


@pytest.mark.parametrize("gone", ["one", "two", "three"])
def test_after_a_delete(tree, vm, folder, gone):
    make_snapshots(tree, vm)
    rsync(tree, folder / "there")
    before = {name: os.stat(backup_of(tree) / name / "vda.qcow2").st_mtime_ns
              for name in tree.reference}
    tree.rmdir(gone)
    for _ in range(2):  # while its layer is being merged, and when it is
        rsync(tree, folder / "there")
        check_copy(tree, folder / "there")
        tree.sync()
    child = {"one": "two", "two": "three"}.get(gone)
    for name in tree.reference:
        changed = os.stat(backup_of(tree) / name / "vda.qcow2").st_mtime_ns != before[name]
        assert changed == (name == child)


def test_branches_and_renames(tree, vm, folder):
    make_snapshots(tree, vm)
    vm.stop()
    tree.revert("one")
    vm.write("vda", 9, 0, 4096)
    tree.mkdir("aside")
    rsync(tree, folder / "there")
    check_copy(tree, folder / "there")
    tree.rmdir("one")  # a fork without a name
    tree.mv("two", "dos")
    rsync(tree, folder / "there")
    check_copy(tree, folder / "there")
    tree.revert("three")
    tree.rmdir("aside")
    tree.sync()
    rsync(tree, folder / "there")
    check_copy(tree, folder / "there")


def test_zeroes_hide_what_is_below(tree, vm, folder):
    vm.write("vda", 1, 0, 1 << 20)
    tree.mkdir("one")
    layer = vm.active["vda"]
    run("qemu-io", "-f", "qcow2", "-c", f"write -z {65536 + 4096} 200000", "-c", "write -z 512k 64k",
        layer)
    for start, length in ((65536 + 4096, 200000), (512 << 10, 64 << 10)):
        vm.content["vda"][start:start + length] = bytes(length)
    tree.mkdir("two")
    rsync(tree, folder / "there")
    check_copy(tree, folder / "there")


def test_it_is_a_view(tree, vm):
    make_snapshots(tree, vm)
    for path in backup_of(tree) / "new", backup_of(tree) / "one" / "new":
        with refused(errno.EPERM, errno.EACCES):
            path.mkdir()
    with refused(errno.EPERM, errno.EACCES):
        (backup_of(tree) / "one").rmdir()
    with refused(errno.EPERM, errno.EACCES):
        (backup_of(tree) / "one" / "vda.qcow2").unlink()
    assert {path.name for path in backup_of(tree).iterdir()} == {"one", "two", "three"}
    tree.check()


def differences(path):
    text = path.read_text()
    assert len({len(line) for line in text.splitlines()}) <= 1 and len(text) == path.stat().st_size
    return [json.loads(line) for line in text.splitlines()]


def test_map_of_what_differs(tree, vm):
    make_snapshots(tree, vm)
    for name, parent in ("one", None), ("two", "one"), ("three", "two"):
        for target, content in tree.reference[name].items():
            rebuilt = bytearray(tree.reference[parent][target]) if parent else bytearray(len(content))
            for piece in differences(tree / name / f"{target}.map"):
                start, end = piece["start"], piece["start"] + piece["length"]
                assert piece["present"] and piece["data"] != piece["zero"] and piece["depth"] == 0
                rebuilt[start:end] = content[start:end] if piece["data"] else bytes(end - start)
            assert rebuilt == content, (name, target)
    assert differences(tree / "two" / "vdb.map") == []
    held = sum(piece["length"] for piece in differences(tree / "two" / "vda.map"))
    assert held == 4096


def test_map_after_a_delete(tree, vm):
    make_snapshots(tree, vm)
    before = differences(tree / "three" / "vda.map")
    tree.rmdir("two")
    after = differences(tree / "three" / "vda.map")
    assert sum(piece["length"] for piece in after) == 4096 + sum(p["length"] for p in before)
    tree.sync()
    assert differences(tree / "three" / "vda.map") == after


def test_scattered_writes_make_a_small_file(tree, vm, folder):
    """What rsync moves is what was written, not the clusters around it."""
    vm.write("vda", 1, 0, 4 << 20)
    tree.mkdir("one")
    vm.start()
    for number in range(60):
        vm.write("vda", 2, number * 65536 + 8192, 4096)
    tree.mkdir("two")
    rsync(tree, folder / "there")
    check_copy(tree, folder / "there")
    assert os.stat(folder / "there" / "two" / "vda.qcow2").st_size < 60 * 4096 + (64 << 10)
