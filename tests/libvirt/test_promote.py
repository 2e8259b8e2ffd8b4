# SPDX-License-Identifier: GPL-2.0-or-later
"""`promote`: a clone becomes independent, and not a byte of its disks changes by it; what ends it in
the middle, at each of its steps, and what stands against it."""
import contextlib
import errno
import json
import os
import threading
import xml.etree.ElementTree as ET

import pytest

from clones import Clones, remove_clones
from commands import refused, run, sync, wait_until, write_once
from disturb import disturbed
from faults import CLONE_FAULTS, CLONE_STEPS, FaultyMount, SmallDisk, do_something, filled, is_settled
from vm import VM

MIB = 1 << 20
NAMES = ["web-01", "web-02"]
SLOW = "pwrite64,pwritev,io_submit,io_uring_enter:delay_exit=300ms"


def config(vm):
    """{target: file} of what the next start uses."""
    xml = ET.fromstring(vm.virsh("dumpxml", vm.name, "--inactive"))
    return {disk.find("target").get("dev"): disk.find("source").get("file")
            for disk in xml.findall("devices/disk")}


def chain(path):
    return [layer["filename"] for layer in
            json.loads(run("qemu-img", "info", "-U", "--backing-chain", "--output=json", path))]


class Stage:
    """A VM that is off with one snapshot, and clones of that."""

    def __init__(self, mount, source, folder):
        self.mount, self.source, self.folder = mount, source, folder
        self.tree = mount.of(source)
        for number, (target, content) in enumerate(source.content.items(), start=1):
            source.write(target, number, 0, len(content) // 2)
        self.tree.mkdir("golden")
        self.clones = Clones(self.tree, "golden")
        self.vms = [source]

    def clone(self, name="web-01", running=False):
        """With data of its own."""
        made = self.clones.make(name)
        if running:
            made.start()
        for target, content in made.content.items():
            made.write(target, 77, len(content) // 4, MIB // 4)
        self.vms.append(made)
        return made

    def promote(self, clone):
        write_once(self.clones / clone.name / "promote", "1")

    def check(self, clone, independent=True):
        """What virsh and qemu-img say of it; and of all that nothing is left over."""
        assert (clone.name in self.clones.names) != independent
        assert clone.active == config(clone)
        for target, content in clone.content.items():
            assert (len(chain(clone.active[target])) == 1) == independent, target
            flat = self.folder / "flat"
            run("qemu-img", "convert", "-U", "-O", "raw", clone.active[target], flat)
            assert flat.read_bytes() == bytes(content), target
        self.check_files()

    def check_files(self):
        for vm in self.vms:
            sync(self.mount.point / "snapshots" / vm.name)
        needed = {layer for vm in self.vms for top in vm.active.values() for layer in chain(top)}
        assert self.source.images == needed
        assert os.listdir(self.mount.point / "lost+found") == [".kws"]
        self.tree.check()


@pytest.fixture
def new_stage(mount, new_vm, folder, libvirtd):
    yield lambda disks: Stage(mount, new_vm("golden", disks), folder)
    remove_clones(libvirtd, NAMES)


@pytest.fixture
def stage(new_stage):
    return new_stage({"vda": 8 * MIB})


@pytest.mark.parametrize("running", [True, False])
def test_two_disks(new_stage, mount, running):
    stage = new_stage({"vda": 8 * MIB, "vdb": 4 * MIB})
    clone, other = stage.clone("web-01", running), stage.clone("web-02", running)
    left = clone.active
    stage.promote(clone)
    assert clone.state == ("running" if running else "shut off")
    stage.check(clone)
    assert not any(os.path.exists(path) for path in left.values())
    stage.check(other, independent=False)
    with refused(errno.EPERM):
        (stage.tree / "golden").rmdir()

    tree = mount.of(clone)  # a VM like any other, that starts as such
    tree.mkdir("s1")
    if running:
        clone.stop()
    clone.start()
    clone.write("vda", 9, 0, MIB)
    tree.check()
    tree.rmdir("s1")
    tree.sync()

    stage.promote(other)
    stage.check(other)
    stage.tree.rmdir("golden")
    stage.check_files()


def test_what_is_read_does_nothing_when_it_is_written(stage):
    clone = stage.clone()
    promote = stage.clones / clone.name / "promote"
    promote.write_text(promote.read_text())
    for other in ("0", "yes", "1 force"):
        with refused(errno.EINVAL):
            promote.write_text(other)
    stage.check(clone, independent=False)


def test_a_guest_goes_on_writing(stage):
    """What it writes while its disk is copied is on the new one, also if its QEMU dies then."""
    clone = stage.clone(running=True)
    stop, numbers = threading.Event(), iter(range(1, 100000))

    def write():
        while not stop.is_set():
            number = next(numbers)
            clone.write("vda", number % 250 + 1, number * 37 % 128 * (MIB // 16), MIB // 16)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with disturbed(clone.qemu, "pwrite64,pwritev:delay_exit=1ms"):
            stage.promote(clone)
    finally:
        stop.set()
        writer.join()
    assert next(numbers) > 5
    stage.check(clone)
    clone.write("vda", 9, 0, MIB)
    clone.kill()
    stage.check(clone)


def test_snapshots_of_its_own(stage, mount):
    clone = stage.clone(running=True)
    tree = mount.of(clone)
    tree.mkdir("s1")
    with refused(errno.EBUSY):
        stage.promote(clone)
    assert "it has snapshots, 's1' for one" in tree.kws("last_error")
    tree.check()
    tree.rmdir("s1")
    stage.promote(clone)
    stage.check(clone)


def test_one_that_is_saved(stage):
    """The memory that is kept knows today's disks."""
    clone = stage.clone(running=True)
    clone.virsh("managedsave", clone.name)
    with refused(errno.EBUSY):
        stage.promote(clone)
    clone.start()
    stage.promote(clone)
    stage.check(clone)


def test_one_that_is_paused_stays_so(stage):
    clone = stage.clone(running=True)
    clone.virsh("suspend", clone.name)
    stage.promote(clone)
    assert clone.state == "paused"
    clone.virsh("resume", clone.name)
    stage.check(clone)


# ---- what ends it ----

@contextlib.contextmanager
def promoting(stage, clone):
    """While it is copied, slowly: the job, and a list that gets what came of it."""
    error = []

    def promote():
        try:
            stage.promote(clone)
        except OSError as e:
            error.append(e.errno)

    trying = threading.Thread(target=promote)
    jobs = stage.mount.point / "snapshots" / clone.name / ".kws" / "jobs"
    with disturbed(clone.qemu or stage.mount.process.pid, SLOW):
        trying.start()
        try:
            yield wait_until(lambda: list(jobs.iterdir()), "a job runs")[0], error
        finally:
            trying.join()


def status_of(job):
    return dict(line.split(" ", 1) for line in (job / "status").read_text().splitlines())


@pytest.mark.parametrize("running", [True, False])
def test_a_job_is_seen_and_canceled(stage, running):
    clone = stage.clone(running=running)
    with promoting(stage, clone) as (job, error):
        status = wait_until(lambda: "total" in status_of(job) and status_of(job), "it has begun")
        assert status["kind"] == "promote" and status["disk"] == "vda" and status["step"] == "data"
        (job / "cancel").write_text("1\n")
    assert error == [errno.ECANCELED]
    assert clone.running == running
    stage.check(clone, independent=False)
    stage.promote(clone)
    stage.check(clone)


def test_the_vm_ends_meanwhile(stage):
    clone = stage.clone(running=True)
    with promoting(stage, clone) as (_, error):
        clone.kill()
    assert error == [errno.EBUSY]
    stage.check(clone, independent=False)


def test_kwsfs_is_stopped_meanwhile(stage, mount):
    """It does not wait for the end of the copy, and leaves nothing of it."""
    clone = stage.clone(running=True)
    with promoting(stage, clone) as (_, error):
        mount.stop()
    assert error
    assert len(chain(clone.active["vda"])) == 2 and clone.state == "running"
    assert stage.source.images == {layer for vm in stage.vms for layer in chain(vm.active["vda"])}
    mount.start()
    stage.check(clone, independent=False)


def test_it_cannot_be_started_while_it_is_copied(stage):
    clone = stage.clone()
    with promoting(stage, clone) as (job, error):
        wait_until(lambda: int(status_of(job).get("done", 0)), "qemu-img is at it")
        assert stage.source.libvirtd.try_virsh("start", clone.name).returncode != 0
    assert error == []
    stage.check(clone)
    clone.start()


# ---- room ----

@pytest.fixture
def small_stage(mount, folder, libvirtd):
    """On a file system of 96 MiB, of which the base takes 32."""
    with SmallDisk(folder) as disk, contextlib.ExitStack() as closing:
        vm = VM(libvirtd, disk.path / "golden", "golden", {"vda": 64 * MIB})
        closing.callback(vm.remove)
        closing.callback(remove_clones, libvirtd, NAMES)
        yield Stage(mount, vm.define(), folder)


@pytest.mark.parametrize("running", [True, False])
def test_there_is_no_room(small_stage, running):
    clone = small_stage.clone(running=running)
    with filled(clone.folder), refused(errno.ENOSPC):
        small_stage.promote(clone)
    assert "MiB more than are free" in small_stage.mount.of(clone).kws("last_error")
    assert clone.state == ("running" if running else "shut off")
    small_stage.check(clone, independent=False)


@pytest.mark.parametrize("running", [True, False])
def test_the_room_goes_meanwhile(small_stage, running):
    clone = small_stage.clone(running=running)
    with promoting(small_stage, clone) as (_, error), filled(clone.folder):
        wait_until(lambda: error, "it is given up")
    assert error == [errno.ENOSPC]
    assert clone.state == ("running" if running else "shut off")
    small_stage.check(clone, independent=False)
    small_stage.promote(clone)
    small_stage.check(clone)


# ---- each step ----

@pytest.fixture(scope="module")
def faulty_stage(libvirtd, base):
    folder = base / "promote-stage"
    folder.mkdir(mode=0o755)
    with contextlib.ExitStack() as closing:
        mount = FaultyMount(libvirtd, folder / "mount")
        closing.callback(mount.give_up)
        vm = VM(libvirtd, folder / "golden", "golden", {"vda": 2 * MIB}).define()
        closing.callback(vm.remove)
        closing.callback(remove_clones, libvirtd, NAMES)
        yield Stage(mount.start(), vm, folder)


FAULTS = dict(CLONE_FAULTS, **{"QEMU killed": "pause"})


def a_clone(stage, running):
    """The one that there is, or a new one in the place of what was one."""
    clone = stage.vms[1] if len(stage.vms) > 1 else None
    if clone and clone.name not in stage.clones.names:
        files = clone.active.values()
        clone.remove()
        for path in files:
            os.unlink(path)
        stage.vms.remove(clone)
        wait_until(lambda: clone.name not in stage.mount.vms, "it is gone")
        clone = None
    clone = clone or stage.clone(running=running)
    if running and not clone.running:
        clone.start()
    return clone


@contextlib.contextmanager
def killed(clone):
    clone.kill()
    yield


def break_it(stage, running, step, when, fault, number):
    clone = a_clone(stage, running)
    error = stage.mount.break_in(lambda: stage.promote(clone), step, when, FAULTS[fault],
                                 killed(clone) if fault == "QEMU killed" else None)
    tree = stage.mount.of(clone)
    wait_until(lambda: is_settled(tree), "all is finished or undone")
    if fault == "libvirtd killed":
        do_something(tree)  # else it has been put right before kwsfs answered
        tree.sync()
    done = clone.name not in stage.clones.names
    assert error or done, "it was said to be done"
    assert clone.state == ("running" if running and fault != "QEMU killed" else "shut off")
    if clone.running:
        clone.write("vda", number % 200 + 1, MIB, MIB // 2)
    stage.check(clone, independent=done)
    return "done" if done else "undone"


@pytest.mark.parametrize("running, fault", [(True, fault) for fault in FAULTS] +
                         [(False, "kwsfs killed")])
def test_fault(faulty_stage, add_fault, running, fault):
    moments = ("before", "after") if FAULTS[fault] != "pause" else ("before",)
    points = [(step, when) for step in CLONE_STEPS if step.startswith("promote.") for when in moments]
    for number, (step, when) in enumerate(points):
        became = break_it(faulty_stage, running, step, when, fault, number)
        add_fault("promote", running, step, when, fault, became)
