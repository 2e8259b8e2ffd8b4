# SPDX-License-Identifier: GPL-2.0-or-later
"""Each step of each operation, and everything around it that can break just then. Afterwards what
is dead is started again, and then every snapshot that ls shows reads as it did, the tree is that
of before the operation or that of after it, so is the VM's disk, libvirt agrees, no file is left
over or missing, and the VM can go on writing.

The steps come from the program's own tables, by what an operation without faults passes through;
test_no_step_is_forgotten compares the two. KWS_FAULTS=all breaks things after each step as well
where it is the same as before the next one, with more operations, and starts a VM that is off."""
import contextlib
import os
import traceback

import pytest

from commands import run, wait_until, write_once
from disturb import disturbed
from faults import (CLONE_STEPS, FEATURE_STEPS, NO_FSYNC, STEPS, FaultyMount, SmallDisk, do_something,
                    filled, has_merged_all, try_sync)
from shape import Shape, recognised
from vm import VM

ALL = os.environ.get("KWS_FAULTS") == "all"
KIB = 1 << 10
DISKS = {"vda": 1 << 20, "vdb": 512 * KIB}
BLOCK = 64 * KIB
ONE_DISK = {"vda": 20 << 20}  # more than is merged out of the layer that a VM writes to in one go


class Stage:
    """A VM with three snapshots, one on the other, and data of its own on top of them; made once,
    and brought back to that shape before each operation."""

    def __init__(self, libvirtd, folder, disks):
        self.libvirtd, self.folder, self.disks = libvirtd, folder, disks
        self.count, self.most = 0, None
        self.closing = contextlib.ExitStack()
        try:
            disk = self.closing.enter_context(SmallDisk(folder))
            self.mount = FaultyMount(libvirtd, folder / "mount")
            self.closing.callback(self.mount.give_up)
            self.vm = VM(libvirtd, disk.path / "web1", "web1", disks)
            self.closing.callback(self.vm.remove)
            self.vm.define()
            self.mount.start()
        except BaseException:
            self.closing.close()
            raise
        self.tree = self.mount.of(self.vm)

    def fresh_name(self):
        self.count += 1
        return f"number {self.count}"

    def write(self):
        """Something else, somewhere else, on each disk."""
        self.count += 1
        for target, size in self.disks.items():
            offset = self.count % (size // BLOCK) * BLOCK
            self.vm.write(target, self.count % 255 + 1, offset, BLOCK)

    def write_most(self):
        """Nearly all of each disk, so that what is under it would be the less to move."""
        self.count += 1
        for target, size in self.disks.items():
            self.vm.write(target, self.count % 255 + 1, BLOCK, size - BLOCK)

    def line(self):
        """From the first snapshot to the one the VM stands on."""
        parents, at, line = self.tree.parents(), self.tree.link("current"), []
        while at:
            line.insert(0, at)
            at = parents[at]
        return line

    def prepare(self, running, most=None):
        """`most`: how many snapshots there are when nearly all of each disk is written, which says
        which way their layers are merged."""
        if self.vm.running and not running:
            self.vm.stop()
        for name in set(self.tree.reference) - set(self.line()):
            self.tree.rmdir(name)
        while len(self.tree.reference) > 3:
            self.tree.rmdir(self.line()[0])
        while most and self.most != most and len(self.tree.reference) >= most:
            self.tree.rmdir(self.line()[-1])
        self.tree.sync()
        if running and not self.vm.running:
            self.vm.start()
        while len(self.tree.reference) < 3:
            self.add(most)
        self.write()
        if most == 3:
            self.write_most()
        self.most = most
        self.mount.steps()
        return self.line()

    def add(self, most):
        if len(self.tree.reference) == most:
            self.write_most()
        self.write()
        self.tree.mkdir(self.fresh_name())

    # ---- afterwards ----

    def settle(self, by_itself, before, after):
        """What was left open is finished or undone: by itself if kwsfs starts or has libvirt back,
        else at the latest when the next operation comes. Returns what the tree is then."""
        if by_itself:
            wait_until(lambda: has_merged_all(self.tree), "all is finished or undone")
        elif not has_merged_all(self.tree):
            do_something(self.tree)
            assert has_merged_all(self.tree)
        return recognised(self.tree, before, after)

    def check(self, leaks):
        self.tree.check()
        self.tree.check_files(leaks)

    def check_writable(self, running):
        if (running or ALL) and not self.vm.running:
            self.vm.start()
        self.write()
        if self.vm.running:
            for target, top in self.vm.active.items():
                flat = self.folder / "flat"
                run("qemu-img", "convert", "-U", "-O", "raw", top, flat)
                assert flat.read_bytes() == bytes(self.vm.content[target]), target


class Stages:
    """Has one stage, and another one after something went wrong on it."""

    def __init__(self, libvirtd, base):
        self.libvirtd, self.base, self.count, self.at = libvirtd, base, 0, None

    def get(self, operation):
        disks = ONE_DISK if operation == delete_under_much else DISKS
        if self.at and self.at.disks != disks:
            self.drop()
        if not self.at:
            self.count += 1
            folder = self.base / f"stage{self.count}"
            folder.mkdir(mode=0o755)
            self.at = Stage(self.libvirtd, folder, disks)
        return self.at

    def drop(self):
        if self.at:
            self.at.closing.close()
        self.at = None


@pytest.fixture(scope="module")
def stages(libvirtd, base):
    made = Stages(libvirtd, base)
    yield made
    made.drop()


# ---- operations: each gets the snapshots' names, oldest first, and returns what to call and
# what the tree is then ----

def create(stage, before, line):
    name = stage.fresh_name()
    return (stage.tree / name).mkdir, before.with_new(name)


def group_create(stage, before, line):
    """Of a group that it is alone in; test_groups.py has larger ones."""
    name, group = stage.fresh_name(), stage.mount.point / "groups" / "shop"
    if not group.exists():
        group.mkdir()
        (group / "web1").symlink_to("../../snapshots/web1")
    return (group / name).mkdir, before.with_new(name)


def delete_first(stage, before, line):
    return (stage.tree / line[0]).rmdir, before.without(line[0])


def delete_middle(stage, before, line):
    return (stage.tree / line[1]).rmdir, before.without(line[1])


def delete_covered(stage, before, line):
    return delete_middle(stage, before, line)


def delete_current(stage, before, line):
    return (stage.tree / line[2]).rmdir, before.without(line[2])


def delete_under_much(stage, before, line):
    return delete_current(stage, before, line)


def rename_middle(stage, before, line):
    new = stage.fresh_name()
    return lambda: os.rename(stage.tree / line[1], stage.tree / new), before.renamed(line[1], new)


def rename_current(stage, before, line):
    new = stage.fresh_name()
    return lambda: os.rename(stage.tree / line[2], stage.tree / new), before.renamed(line[2], new)


def revert(stage, before, line):
    return (lambda: write_once(stage.tree / line[1] / "revert", "1 force"),
            before.reverted(line[1]))


OPERATIONS = [create, group_create, delete_middle, delete_covered, delete_current, delete_under_much,
              rename_current, revert]
MOST = {delete_middle: 1, delete_covered: 2, delete_under_much: 3}
OPERATIONS += [delete_first, rename_middle] if ALL else []


# ---- faults: what is broken while a step waits, until the operation has ended ----

def libvirtd_killed(stage):
    return stage.libvirtd.killed()


@contextlib.contextmanager
def qemu_killed(stage):
    if stage.vm.running:  # else it was a step that ended it
        stage.vm.kill()
    yield


@contextlib.contextmanager
def until_it_failed(stage, broken):
    with broken:
        yield
        try_sync(stage.tree)


def file_system_full(stage):
    return until_it_failed(stage, filled(stage.vm.folder))


def fsync_of_kwsfs(stage):
    return until_it_failed(stage, disturbed(stage.mount.process.pid, NO_FSYNC))


def fsync_of_qemu_img(stage):
    return until_it_failed(stage, stage.mount.qemu_img_fails())


@contextlib.contextmanager
def fsync_of_qemu(stage):
    """A QEMU for which fdatasync has once failed believes in it no more: it has to be ended."""
    with until_it_failed(stage, disturbed(stage.vm.qemu, NO_FSYNC)):
        yield
    stage.vm.stop()


@contextlib.contextmanager
def nothing(stage):
    yield
    if stage.mount.process.poll() is None:
        try_sync(stage.tree)


# The word for the hook, what is broken meanwhile, whether kwsfs is to put it right by itself.
FAULTS = {
    "step fails": ("fail", nothing, False),
    "kwsfs killed": ("kill", nothing, True),
    "libvirtd killed": ("pause", libvirtd_killed, True),
    "QEMU killed": ("pause", qemu_killed, False),
    "ENOSPC": ("pause", file_system_full, False),
    "EIO": ("pause", fsync_of_kwsfs, False),  # and of the qemu-img that it starts
    "EIO qemu-img": ("pause", fsync_of_qemu_img, False),
    "EIO QEMU": ("pause", fsync_of_qemu, False),
}


def is_of_interest(running, operation, fault):
    if not running and fault in ("QEMU killed", "EIO QEMU"):
        return False
    if running and operation == delete_covered:
        return False  # only what does not run is merged upwards
    if not running and operation == delete_under_much:
        return False
    if operation == revert and fault == "EIO QEMU":
        return False  # it ends QEMU
    if operation in (rename_middle, rename_current) and fault in ("ENOSPC", "EIO qemu-img", "EIO QEMU"):
        return False  # no image is touched
    if ALL:
        return True
    if fault == "EIO qemu-img":
        return False  # "EIO" is more than that
    # For the rest of a VM that is off there is tests/unit/test-steps.c.
    return running or operation in (delete_middle, delete_covered) or \
        operation == revert and fault not in ("step fails", "kwsfs killed")


def steps_of_interest(stages, operation, running, fault):
    """All of them; or not again what is the same in another operation."""
    steps = steps_of(stages, operation, running)
    if ALL:
        return steps
    if operation == delete_under_much:
        return [step for step in steps if step.startswith("split.")]
    if operation in (delete_current, delete_covered) or not running or fault == "EIO QEMU":
        return [step for step in steps if not step.startswith("delete.")]
    return steps


MATRIX = [pytest.param(running, operation, fault,
                       id=f"{'running' if running else 'off'}-{operation.__name__}-{fault}")
          for running in (True, False) for operation in OPERATIONS for fault in FAULTS
          if is_of_interest(running, operation, fault)]


# ---- the matrix ----

def most_of(operation, running):
    """In a VM that runs all is merged downwards."""
    return None if running and operation == delete_middle else MOST.get(operation)


passed = {}  # (operation, running): the steps that it passes through, in their order


def steps_of(stages, operation, running):
    """Learnt by running it once without a fault."""
    key = operation.__name__, running
    if key not in passed:
        stage = stages.get(operation)
        line = stage.prepare(running, most_of(operation, running))
        verb, after = operation(stage, Shape.of(stage.tree), line)
        verb()
        stage.tree.sync()
        passed[key] = list(dict.fromkeys(stage.mount.steps()))
        after.expect(stage.tree)
        stage.most = None
        stage.check(leaks=False)
    return passed[key]


def break_it(stage, operation, running, step, when, fault):
    """The tree is that of before or of after, and says which."""
    word, broken, by_itself = FAULTS[fault]
    line = stage.prepare(running, most_of(operation, running))
    before = Shape.of(stage.tree)
    verb, after = operation(stage, before, line)
    error = stage.mount.break_in(verb, step, when, word, broken(stage))
    now = stage.settle(by_itself, before, after)
    assert error or now is after, "it was said to be done"
    now.expect(stage.tree)
    stage.most = None if now is after else stage.most
    stage.check(leaks=word == "pause")
    stage.check_writable(running)
    return "done" if now is after else "undone"


def moments(fault):
    """What is broken after a step is broken before the next one; but the step itself fails
    otherwise, and the journal knows less."""
    return ("before", "after") if ALL or FAULTS[fault][0] != "pause" else ("before",)


@pytest.mark.parametrize(("running", "operation", "fault"), MATRIX)
def test_fault(stages, libvirtd, add_fault, running, operation, fault):
    bad = []
    for step in steps_of_interest(stages, operation, running, fault):
        for when in moments(fault):
            try:
                became = break_it(stages.get(operation), operation, running, step, when, fault)
            except Exception:
                became = "BAD"
                bad.append(f"{when} {step}:\n{traceback.format_exc()}\n" +
                           stages.get(operation).mount.log.read_text())
                stages.drop()
                if libvirtd.try_virsh("version").returncode:
                    libvirtd.start()
            add_fault(operation.__name__, running, step, when, fault, became)
    assert not bad, "\n".join(bad)


def test_no_step_is_forgotten(stages):
    met = {step for running in (True, False) for operation in OPERATIONS
           for step in steps_of(stages, operation, running)}
    assert met == set(STEPS) - set(CLONE_STEPS) - set(FEATURE_STEPS)
