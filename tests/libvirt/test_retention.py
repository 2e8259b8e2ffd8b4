# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots that go by themselves, and those that must not. borg, whose prune counts as
Proxmox' does, judges the rules."""
import datetime
import errno
import os
import random
import re
import shutil
import sqlite3
import time
from types import SimpleNamespace

import libvirt
import pytest
from borg.helpers import prune_split

from commands import refused, run, try_run, wait_until, write_once

RULES = {"keep_last": "secondly", "keep_hourly": "hourly", "keep_daily": "daily",
         "keep_weekly": "weekly", "keep_monthly": "monthly", "keep_yearly": "yearly"}
COUNTS = [*RULES, "max_count"]
DAY = 24 * 3600


def turn(tree, knob, value):
    write_once(tree / ".kws" / knob, value)


def make(tree, *names):
    for name in names:
        tree.vm.write("vda", len(tree.reference) + 1, len(tree.reference) << 16, 65536)
        tree.mkdir(name)


def backdate(tree, moments):
    """{snapshot: seconds since the epoch}: as if they had been taken then. Mounts anew."""
    tree.mount.stop()
    with tree.vm.libvirtd.domain(tree.vm.name) as domain:
        for name, moment in moments.items():
            snapshot = domain.snapshotLookupByName(name)
            flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
            if snapshot.isCurrent():
                flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
            xml = re.sub("<creationTime>.*</creationTime>",
                         f"<creationTime>{int(moment)}</creationTime>",
                         snapshot.getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE))
            domain.snapshotCreateXML(xml, flags)
    registry = sqlite3.connect(tree.mount.folder / "state" / "registry.db")
    for name, moment in moments.items():
        registry.execute("UPDATE snapshot SET created_ns = ? WHERE name = ?",
                         (int(moment) * 10**9, name))
    registry.commit()
    registry.close()
    tree.mount.start()


def plan(tree):
    """{snapshot: (what becomes of it, why)}"""
    lines = (tree / ".kws" / "prune").read_text().splitlines()
    assert lines[0].startswith("# ")
    words = [line.split(None, 3) for line in lines[1:]]
    return {name: (what, why) for what, _, why, name in words}


def gone(tree, *names):
    """They go by themselves, the others stay."""
    wait_until(lambda: not tree.names & set(names), f"{names} are deleted")
    for name in names:
        del tree.reference[name]
    tree.sync()
    tree.check()
    tree.check_files()


# ---- knobs ----

def test_a_knob_says_what_holds_and_from_where(tree, mount, new_vm):
    other = mount.of(new_vm("web2"))
    everyone = mount.point / "snapshots" / ".kws"
    assert tree.kws("keep_daily") == "none default"
    assert (everyone / "keep_daily").read_text() == "none default\n"
    write_once(everyone / "keep_daily", "7")
    assert (everyone / "keep_daily").read_text() == "7\n"
    assert tree.kws("keep_daily") == other.kws("keep_daily") == "7 inherited"
    turn(tree, "keep_daily", "3")
    assert (tree.kws("keep_daily"), other.kws("keep_daily")) == ("3", "7 inherited")
    mount.kill()
    mount.start_again()
    assert (tree.kws("keep_daily"), other.kws("keep_daily")) == ("3", "7 inherited")
    turn(tree, "keep_daily", "0")
    assert tree.kws("keep_daily") == "none"
    for back in "default", "7 inherited":
        turn(tree, "keep_daily", "3")
        turn(tree, "keep_daily", back)
        assert tree.kws("keep_daily") == "7 inherited"
    write_once(everyone / "keep_daily", "default")
    assert tree.kws("keep_daily") == "none default"


def test_what_is_read_can_be_written_back(tree, mount):
    everyone = mount.point / "snapshots" / ".kws"
    write_once(everyone / "ttl", "1y6m")
    turn(tree, "min_free", "5%")
    for folder in everyone, tree / ".kws":
        for path in folder.iterdir():
            if path.is_file() and os.stat(path).st_mode & 0o200:
                before = path.read_text()
                path.write_text(before)
                assert path.read_text() == before, path


WRONG = {
    **{knob: ["-1", "x", "1.5", "3 4", "0x7", "100001", "99999999999999999999"] for knob in COUNTS},
    "keep_within": ["7", "d", "7 d", "7x", "1d1d", "-1d", "100001d", "1.5d"],
    "ttl": ["7", "soon", "+7d"],
    "min_free": ["0%", "100%", "5 %", "-1", "10Q", "1GB", "G"],
    "schedule": ["sometimes", "25:00", "--help", "*-13-*"],
    "prune_schedule": ["now and then"],
    "schedule_name": ["", ".hidden", "a/b", "%H:%M", "latest", "x" * 241,
                      "my default"],
}


@pytest.mark.parametrize("knob", WRONG)
def test_wrong_values(tree, mount, knob):
    everyone = mount.point / "snapshots" / ".kws"
    for file in tree / ".kws" / knob, everyone / knob:
        before = file.read_text()
        for value in WRONG[knob]:
            with refused(errno.EINVAL, errno.ENAMETOOLONG):
                write_once(file, value)
            said = (file.parent / "last_error").read_text()
            assert said.startswith(f"{knob} cannot be '{value[:40]}"), said
            assert file.read_text() == before
    turn(tree, knob, "default")


def test_all_units_of_durations(tree):
    for value in "1y5m7d2h", "90min", "30s", "2w", "1h30min", "none":
        turn(tree, "ttl", value)
        assert tree.kws("ttl") == value


# ---- number ----

def test_max_count(tree, vm):
    vm.start()
    turn(tree, "max_count", "3")
    make(tree, "one", "two", "three")
    tree.sync()
    tree.check()
    make(tree, "four")
    gone(tree, "one")
    (tree / "two" / "pin").write_text("1")
    make(tree, "five")
    gone(tree, "three")
    turn(tree, "max_count", "2")
    gone(tree, "four")
    assert plan(tree) == {"two": ("keep", "pinned"), "five": ("keep", "-")}


def test_max_count_never_takes_the_newest_or_the_current(tree, vm):
    make(tree, "one", "two", "three")
    tree.revert("one")
    for name in "two", "three":
        (tree / name / "pin").write_text("1")
    turn(tree, "max_count", "1")
    tree.sync()
    tree.check()
    assert plan(tree)["one"] == ("keep", "-")
    make(tree, "four")
    gone(tree, "one")
    assert tree.names == {"two", "three", "four"}


def test_max_count_waits_for_readers(tree, vm):
    make(tree, "one", "two")
    with open(tree / "one" / "vda.raw", "rb") as image:
        turn(tree, "max_count", "1")
        tree.sync()
        assert plan(tree)["one"] == ("wait", "open")
        assert tree.names == {"one", "two"}
        assert image.read() == tree.reference["one"]["vda"]
    gone(tree, "one")


def test_mkdir_succeeds_at_the_limit_of_one(tree, vm):
    vm.start()
    turn(tree, "max_count", "1")
    for number in range(4):
        make(tree, f"s{number}")
        if number:
            gone(tree, f"s{number - 1}")


# ---- time ----

def test_expires(tree, vm):
    vm.start()
    make(tree, "soon", "later", "never")
    assert (tree / "soon" / "expires").read_text() == "none default\n"
    write_once(tree / "later" / "expires", "2099-12-24T18:00:00Z")
    assert (tree / "later" / "expires").read_text() == "2099-12-24T18:00:00Z\n"
    write_once(tree / "never" / "expires", "none")
    before = time.time()
    write_once(tree / "soon" / "expires", "+5s")
    after = time.time()
    text = (tree / "soon" / "expires").read_text().strip()
    moment = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    assert int(before) + 4 <= moment <= after + 5  # whole seconds, by a clock that may be a tick behind
    gone(tree, "soon")
    assert time.time() >= moment


def test_expires_takes_what_people_write(tree, vm, mount):
    make(tree, "one")
    file = tree / "one" / "expires"
    for text in "2099-12-24", "2099-12-24 18:00", "2099-12-24 18:00:30", "2099-12-24T18:00:30":
        write_once(file, text)
        wanted = int(run("date", "-d", text, "+%s"))
        assert int(run("date", "-d", file.read_text().strip(), "+%s")) == wanted
    first = int(run("date", "-d", "1 year 6 months", "+%s"))
    write_once(file, "+1y6m")
    last = int(run("date", "-d", "1 year 6 months", "+%s"))
    assert first - 1 <= int(run("date", "-d", file.read_text().strip(), "+%s")) <= last
    before = file.read_text()
    for wrong in "tomorrow", "2020-01-01", "+", "+0d", "-1d", "14d", "2099-13-01", "2099-12-24 x":
        with refused(errno.EINVAL):
            write_once(file, wrong)
        assert wrong in tree.kws("last_error")
    assert file.read_text() == before
    mount.kill()
    mount.start_again()
    assert file.read_text() == before
    write_once(file, "default")
    assert file.read_text() == "none default\n"


def test_a_pin_and_a_reader_outlast_the_expiry(tree, vm):
    make(tree, "one", "two", "three")
    (tree / "one" / "pin").write_text("1")
    with open(tree / "two" / "vda.raw", "rb"):
        for name in "one", "two":
            write_once(tree / name / "expires", "+1s")
        time.sleep(2.5)
        tree.sync()
        assert plan(tree) == {"one": ("keep", "pinned"), "two": ("wait", "open"),
                              "three": ("keep", "-")}
        tree.check()
    gone(tree, "two")
    (tree / "one" / "pin").write_text("0")
    gone(tree, "one")


def test_what_expired_while_nobody_was_there(tree, vm, mount):
    make(tree, "one", "two")
    write_once(tree / "one" / "expires", "+2s")
    mount.kill()
    time.sleep(2.5)
    mount.start_again()
    gone(tree, "one")


def test_the_one_that_the_vm_stands_on_may_expire(tree, vm):
    """As with rmdir: what the VM has written since stays."""
    vm.start()
    make(tree, "one")
    vm.write("vda", 99, 8192, 65536)
    write_once(tree / "one" / "expires", "+1s")
    gone(tree, "one")


def test_ttl(tree, vm):
    make(tree, "old", "older", "kept", "new")
    now = time.time()
    backdate(tree, {"older": now - 9 * DAY, "old": now - 8 * DAY, "kept": now - 7.5 * DAY,
                    "new": now - 6 * DAY})
    write_once(tree / "kept" / "expires", "none")
    turn(tree, "ttl", "1w")
    gone(tree, "old", "older")
    assert (tree / "new" / "expires").read_text().endswith("Z default\n")


# ---- rules ----

class Moment:
    """What borg calls an archive."""
    def __init__(self, name, seconds):
        self.id = name
        self.ts = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


def as_borg_keeps(moments, counts):
    kept = {}
    archives = [Moment(name, seconds) for name, seconds in moments.items()]
    for rule, name in RULES.items():
        prune_split(archives, name, counts.get(rule, 0), kept)
        # borg also keeps the very oldest while there are few; Proxmox does not.
        for archive, (why, _) in list(kept.items()):
            if why.endswith("[oldest]"):
                del kept[archive]
    return set(kept)


@pytest.fixture
def aged(tree):
    """Twenty snapshots of the last two years, near each other and far from each other."""
    random.seed(int(os.environ.get("KWS_SEED", "5")))
    ages = set()
    while len(ages) < 20:
        ages.add(int(random.choice([3600, DAY, 30 * DAY, 700 * DAY]) * random.random()))
    names = [f"s{number}" for number in range(20)]
    for name in names:
        tree.mkdir(name)
    tree.moments = dict(zip(names, [int(time.time()) - age for age in sorted(ages, reverse=True)]))
    backdate(tree, tree.moments)
    turn(tree, "prune_schedule", "2098-01-01")  # not at midnight
    return tree


def test_the_rules_keep_what_borg_keeps(aged):
    for _ in range(40):
        counts = {rule: random.choice([0, 0, 1, 2, 3, 7]) for rule in RULES}
        for rule, count in counts.items():
            turn(aged, rule, count)
        kept = {name for name, (what, why) in plan(aged).items()
                if what == "keep" and why != "current"}
        expected = as_borg_keeps(aged.moments, counts) if any(counts.values()) else aged.names
        assert kept | {aged.link("current")} == expected | {aged.link("current")}, counts
    aged.check()


def test_prune_does_what_it_reads(aged, vm):
    turn(aged, "keep_daily", "3")
    turn(aged, "keep_monthly", "4")
    (aged / "s1" / "pin").write_text("1")
    aged.sync()
    aged.check()  # a rule alone does nothing
    planned = plan(aged)
    going = [name for name, (what, _) in planned.items() if what == "remove"]
    assert len(going) > 5 and planned["s1"] == ("keep", "pinned")
    with refused(errno.EINVAL):
        write_once(aged / ".kws" / "prune", "yes")
    write_once(aged / ".kws" / "prune", (aged / ".kws" / "prune").read_text().splitlines()[0])
    aged.check()
    write_once(aged / ".kws" / "prune", "now")
    assert aged.names == set(planned) - set(going)
    gone(aged, *going)
    assert {what for what, _ in plan(aged).values()} == {"keep"}


def test_prune_says_what_it_could_not_delete(tree, vm):
    make(tree, "one", "two", "three")
    turn(tree, "prune_schedule", "2098-01-01")  # not at midnight
    turn(tree, "keep_last", "1")
    with open(tree / "two" / "vda.raw", "rb"):
        assert plan(tree)["two"] == ("wait", "open")
        write_once(tree / ".kws" / "prune", "now")
        assert tree.names == {"two", "three"}
    wait_until(lambda: plan(tree)["two"][0] == "remove", "it is closed")
    write_once(tree / ".kws" / "prune", "now")
    gone(tree, "one", "two")


def test_keep_within_counts_from_the_newest(tree, vm):
    make(tree, "a", "b", "c", "d")
    last = time.time() - 300 * DAY
    backdate(tree, {"a": last - 40 * DAY, "b": last - 6.9 * DAY, "c": last - DAY, "d": last})
    turn(tree, "prune_schedule", "2098-01-01")  # not at midnight
    turn(tree, "keep_within", "7d")
    assert {name: what for name, (what, _) in plan(tree).items()} == \
        {"a": "remove", "b": "keep", "c": "keep", "d": "keep"}
    turn(tree, "keep_within", "1m2w")
    assert {what for what, _ in plan(tree).values()} == {"keep"}


# ---- room ----

def test_min_free(mount, new_vm, folder):
    """On a small file system the oldest go, one after the other, until there is room."""
    disk, point = folder / "small.img", folder / "small"
    run("truncate", "-s", "256M", disk)
    run("mkfs.ext4", "-q", "-m", "0", disk)
    point.mkdir()
    run("mount", "-o", "loop", disk, point)
    vm = new_vm("web1", {"vda": 64 << 20}, define=False)
    try:
        images = point / "images"
        images.mkdir(mode=0o755)
        shutil.move(vm.paths["vda"], images)
        vm.paths["vda"] = images / "vda.qcow2"
        vm.define()
        tree = mount.of(vm)
        vm.start()
        for number in range(4):
            vm.write("vda", number + 1, 0, 32 << 20)
            tree.mkdir(f"s{number}")
        tree.sync()
        free = os.statvfs(point).f_bavail * os.statvfs(point).f_frsize
        turn(tree, "min_free", f"{(free >> 20) + 20}M")
        assert plan(tree).get("s0", ("remove", "min_free")) == ("remove", "min_free")
        gone(tree, "s0")
        time.sleep(12)  # longer than it takes it to look again
        tree.check()
    finally:
        vm.remove()
        wait_until(lambda: try_run("umount", point).returncode == 0, "nobody has it open")
