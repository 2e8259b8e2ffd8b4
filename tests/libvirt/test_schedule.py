# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots by the calendar. systemd-analyze, which kwsfs asks, is not judged; what becomes of
its answers is."""
import calendar
import re
import sqlite3
import time

import pytest

from commands import run, wait_until, write_once

EVERY_SECOND = "*:*:*"
DAY = 24 * 3600


def turn(tree, knob, value):
    write_once(tree / ".kws" / knob, value)


def planned(tree, key):
    """Seconds since the epoch, None if nothing is."""
    for line in tree.kws("status").splitlines():
        if line.startswith(f"{key} "):
            return calendar.timegm(time.strptime(line.split()[1], "%Y-%m-%dT%H:%M:%SZ"))
    return None


def next_of(expression):
    said = run("systemd-analyze", "calendar", expression, env={"TZ": "UTC"})
    return calendar.timegm(time.strptime(
        re.search(r"Next elapse: (.*) UTC", said)[1], "%a %Y-%m-%d %H:%M:%S"))


def last_ran(tree, seconds_ago):
    """As if everything had been done then for the last time; while kwsfs is away."""
    registry = sqlite3.connect(tree.mount.folder / "state" / "registry.db")
    registry.execute("UPDATE ran SET at = ?", (int(time.time() - seconds_ago),))
    registry.commit()
    registry.close()


def wait_for(tree, n):
    wait_until(lambda: len(tree.names) >= n, f"{n} snapshots")


@pytest.mark.parametrize("running", [True, False])
def test_snapshots_are_taken(tree, vm, running):
    if running:
        vm.start()
    turn(tree, "schedule_name", "at %Y-%m-%d %H.%M.%S")
    before = time.time()
    turn(tree, "schedule", EVERY_SECOND)
    wait_for(tree, 3)
    turn(tree, "schedule", "")
    tree.sync()
    assert tree.kws("schedule") == "none" and planned(tree, "next_snapshot") is None
    for name in tree.names:
        moment = calendar.timegm(time.strptime(name, "at %Y-%m-%d %H.%M.%S"))
        assert before - 1 <= moment <= time.time()
        tree.reference[name] = vm.copy_of_content()
    tree.check()
    tree.check_files()


def test_the_rules_are_carried_out_after_each(tree, vm):
    vm.start()
    for name in "by hand", "and another one":
        tree.mkdir(name)
    (tree / "by hand" / "pin").write_text("1")
    turn(tree, "prune_schedule", "2098-01-01")  # not at midnight
    turn(tree, "keep_last", "2")
    tree.sync()
    tree.check()
    turn(tree, "schedule", EVERY_SECOND)
    wait_until(lambda: "and another one" not in tree.names, "it is pruned")
    wait_until(lambda: len(tree.names) == 3 and "by hand" in tree.names, "only two are kept")
    turn(tree, "schedule", "none")
    tree.sync()
    assert len(tree.names) == 3
    tree.reference = {name: vm.copy_of_content() for name in tree.names}
    tree.check()
    tree.check_files()


def test_nothing_is_taken_when_it_is_set(tree, vm, mount):
    expressions = {"schedule": "*-*-* 02:00", "prune_schedule": "Mon 03:00"}
    turn(tree, "keep_daily", "7")
    for knob, expression in expressions.items():
        turn(tree, knob, expression)
    for _ in range(2):
        tree.sync()
        assert tree.names == set()
        assert planned(tree, "next_snapshot") == next_of(expressions["schedule"])
        assert planned(tree, "next_prune") == next_of(expressions["prune_schedule"])
        mount.kill()
        mount.start_again()


def test_a_missed_run_is_made_up_once(tree, vm, mount):
    turn(tree, "schedule", "daily")
    tree.sync()
    mount.stop()
    last_ran(tree, 3 * DAY)
    mount.start()
    wait_for(tree, 1)
    tree.sync()
    assert len(tree.names) == 1
    assert planned(tree, "next_snapshot") == next_of("daily")
    mount.stop()
    mount.start()
    tree.sync()
    assert len(tree.names) == 1


def test_a_missed_prune_is_made_up(tree, vm, mount):
    for name in "one", "two", "three":
        tree.mkdir(name)
    turn(tree, "keep_last", "1")
    tree.sync()
    tree.check()
    mount.stop()
    last_ran(tree, 3 * DAY)
    mount.start()
    wait_until(lambda: tree.names == {"three"}, "the others are pruned")
    tree.reference = {"three": tree.reference["three"]}
    tree.check()
    tree.check_files()


def test_it_waits_for_libvirt(tree, vm, libvirtd):
    turn(tree, "schedule", EVERY_SECOND)
    wait_for(tree, 1)
    libvirtd.kill()
    try:
        wait_until(lambda: "libvirt gone" in tree.kws("status"), "it is seen that libvirtd is gone")
        time.sleep(1)  # one that was on its way is there, too
        had = len(tree.names)
        time.sleep(2)
        assert len(tree.names) == had
    finally:
        libvirtd.start()
    wait_for(tree, had + 1)
    turn(tree, "schedule", "none")


def test_one_that_cannot_be_taken(tree, vm):
    """It is said, and the next one is tried in its time."""
    turn(tree, "schedule_name", "the same each time")
    turn(tree, "schedule", EVERY_SECOND)
    wait_until(lambda: "the scheduled snapshot was not taken" in tree.kws("last_error"), "it is said")
    assert tree.names == {"the same each time"}
    assert "there is a snapshot 'the same each time' already" in tree.kws("last_error")
    turn(tree, "schedule_name", "default")
    wait_for(tree, 2)
    turn(tree, "schedule", "none")


def test_for_all_vms(tree, mount, new_vm):
    other = mount.of(new_vm("web2"))
    turn(other, "schedule", "none")
    write_once(mount.point / "snapshots" / ".kws" / "schedule", EVERY_SECOND)
    late = mount.of(new_vm("web3"))
    for each in tree, late:
        wait_until(lambda folder=each.path: list(folder.glob("auto-*")), "a snapshot is there")
    write_once(mount.point / "snapshots" / ".kws" / "schedule", "none")
    assert other.names == set()
    for each in tree, late, other:
        each.sync()


def test_status_is_one_screen(tree, vm):
    vm.start()
    tree.mkdir("one")
    vm.write("vda", 1, 0, 1 << 20)
    tree.mkdir("two words")
    lines = tree.kws("status").splitlines()
    assert lines[:5] == ["state running", "libvirt connected", "snapshots 2", "tombstones 0",
                         "job idle"]
    for target in "vda", "vdb":
        assert f"depth {target} 3 of 128" in lines
        chain = [line.split(None, 4) for line in lines if line.startswith(f"layer {target} ")]
        assert [words[2] for words in chain] == ["0", "1", "2"]
        assert [words[4] for words in chain] == ["active", "snapshot two words", "snapshot one"]
        path = vm.active[target]
        for words in chain:
            info = run("stat", "-c", "%b", path)
            assert int(words[3]) == int(info) * 512
            path = re.search(r"backing file: (\S+)", run("qemu-img", "info", "-U", path) +
                             "backing file: none")[1]
    tree.revert("one", "1 force")
    tree.rmdir("two words")
    tree.sync()
    assert "layer vda 1" in tree.kws("status") and "deleted" not in tree.kws("status")
    tree.rmdir("one")
    tree.sync()
    assert "depth vda 1 of 128" in tree.kws("status").splitlines()


def test_status_names_the_base(mount, new_vm):
    vm = new_vm("web1", {"vda": 1 << 20}, define=False)
    base, vm.paths["vda"] = vm.paths["vda"], vm.folder / "top.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, vm.paths["vda"])
    vm.define()
    lines = mount.of(vm).kws("status").splitlines()
    assert [line.split(None, 4)[4] for line in lines if line.startswith("layer ")] == \
        ["active", "base"]
