# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that boots and writes without a pause while its snapshots are taken, read, deleted and
gone back to. It writes numbered blocks, see guest-writer.c: a snapshot must hold all of them up
to some number and none after it, on all disks at one moment."""
import struct

import pytest

BLOCK = 4096
DISKS = {"vda": 8 << 20, "vdb": 3 << 20}


@pytest.fixture
def vm(new_vm, guest):
    made = new_vm("web1", DISKS, define=False).boot_guest(guest, "kws=blocks").define()
    made.start()
    made.wait_for_guest(1)
    return made


def numbers(image):
    """{slot: number} of the blocks that are written; each must be whole."""
    found = {}
    content = image.read_bytes()
    for slot in range(len(content) // BLOCK):
        words = struct.unpack_from(f"<{BLOCK // 8}Q", content, slot * BLOCK)
        assert len(set(words)) == 1, f"block {slot} is torn: {sorted(set(words))}"
        if words[0]:
            found[slot] = words[0]
    return found


def check_prefix(image, slots):
    """All numbers up to the highest are there, but for those that a later one has overwritten."""
    found = numbers(image)
    highest = max(found.values(), default=0)
    wanted = {n % slots: n for n in range(max(1, highest - slots + 1), highest + 1)}
    assert found == wanted
    return highest


def moment(snapshot, surely_written=0):
    """The highest number on each disk. They are of one moment: each number goes to vda, then to
    vdb. What the guest had said to be written before is there."""
    first, second = (check_prefix(snapshot / f"{target}.raw", size // BLOCK)
                     for target, size in DISKS.items())
    assert first - second in (0, 1)
    assert second >= surely_written
    return first, second


def test_snapshots_hold_a_prefix(tree, vm):
    moments = {}
    for number in range(12):
        vm.wait_for_guest(vm.written_by_guest() + 300)
        before = vm.written_by_guest()
        (tree / f"s{number}").mkdir()
        moments[f"s{number}"] = moment(tree / f"s{number}", before)
        if number >= 3:
            (tree / f"s{number - 2}").rmdir()
            del moments[f"s{number - 2}"]
    assert {name: moment(tree / name) for name in moments} == moments
    assert list(moments.values()) == sorted(moments.values())
    tree.sync()
    assert {name: moment(tree / name) for name in moments} == moments


def test_back_and_on(tree, vm):
    """What the guest finds after a revert is what it had written by then."""
    vm.wait_for_guest(1000)
    (tree / "s1").mkdir()
    then = moment(tree / "s1", 1000)
    vm.wait_for_guest(then[0] + 2000)
    (tree / "s2").mkdir()
    (tree / "s1" / "revert").write_text("1 force")
    (tree / "back").mkdir()
    assert moment(tree / "back") == then
    (tree / "s2").rmdir()
    vm.console.unlink()
    vm.start()
    vm.wait_for_guest(128)
    (tree / "s3").mkdir()
    assert moment(tree / "s1") == moment(tree / "back") == then
