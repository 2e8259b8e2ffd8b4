# SPDX-License-Identifier: GPL-2.0-or-later
"""Each step of what is done with clones, and what can break just then: afterwards the clone is
there as a whole or not at all, nothing is left over of it, and the VM that it was made from is as
it was. As test_faults.py, with one VM for all."""
import json
import os
import sqlite3

import pytest

from clones import Clones, remove_clones
from commands import wait_until
from faults import CLONE_FAULTS, CLONE_STEPS, FaultyMount, do_something, is_settled
from vm import VM


class Stage:
    def __init__(self, libvirtd, folder):
        self.libvirtd = libvirtd
        self.mount = FaultyMount(libvirtd, folder / "mount")
        self.vm = VM(libvirtd, folder / "web1", "web1", {"vda": 1 << 20, "vdb": 1 << 20}).define()
        self.vm.start()
        self.mount.start()
        self.tree = self.mount.of(self.vm)
        self.vm.write("vda", 1, 0, 1 << 16)
        self.tree.mkdir("golden")
        self.vm.write("vda", 2, 0, 1 << 16)
        self.clones = Clones(self.tree, "golden")
        self.bare = self.vm.images

    def settle(self):
        wait_until(lambda: is_settled(self.tree), "all is finished or undone")
        do_something(self.tree)

    def is_there(self):
        """The clone, all of it or nothing."""
        there = "web-01" in self.clones.names
        assert ("web-01" in self.mount.vms) == there
        assert ("web-01" in self.libvirtd.virsh("list", "--all", "--name").split()) == there
        images = set(map(str, self.clones.vm("web-01").paths.values())) if there else set()
        assert self.vm.images == self.bare | images
        assert os.listdir(self.mount.point / "lost+found") == [".kws"]
        return there

    def close(self):
        self.mount.give_up()
        remove_clones(self.libvirtd, ["web-01"])
        self.vm.remove()


@pytest.fixture(scope="module")
def stage(libvirtd, base):
    folder = base / "clone-stage"
    folder.mkdir(mode=0o755)
    made = Stage(libvirtd, folder)
    yield made
    made.close()


def clone(stage):
    if stage.is_there():
        (stage.clones / "web-01").rmdir()
    return (stage.clones / "web-01").mkdir, True


def unclone(stage):
    if not stage.is_there():
        stage.clones.make("web-01")
    (stage.clones / "web-01" / "state").write_text("start")
    return (stage.clones / "web-01").rmdir, False


OPERATIONS = {"clone": clone, "unclone": unclone}


def break_it(stage, operation, step, when, fault):
    verb, wanted = OPERATIONS[operation](stage)
    error = stage.mount.break_in(verb, step, when, CLONE_FAULTS[fault])
    stage.settle()
    wait_until(lambda: is_whole(stage), "the clone is there, or not")
    there = stage.is_there()
    assert error or there == wanted, "it was said to be done"
    stage.tree.check()
    if there:
        (stage.clones / "web-01" / "state").write_text("start")
    return "done" if there == wanted else "undone"


def is_whole(stage):
    try:
        stage.is_there()
    except (AssertionError, OSError):
        return False
    return True


@pytest.mark.parametrize("fault", CLONE_FAULTS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_fault(stage, add_fault, operation, fault):
    for step in CLONE_STEPS:
        if step.split(".")[0] != operation:
            continue
        for when in ("before", "after") if CLONE_FAULTS[fault] != "pause" else ("before",):
            became = break_it(stage, operation, step, when, fault)
            add_fault(operation, True, step, when, fault, became)


def test_defined_late(stage):
    """libvirtd does what a kwsfs asked of it that was killed, after the next one has looked."""
    clone(stage)
    stage.mount.arm("clone.define", "before", "kill")
    with pytest.raises(OSError):
        (stage.clones / "web-01").mkdir()
    with sqlite3.connect(stage.mount.folder / "state" / "registry.db") as registry:
        [(plan,)] = registry.execute("SELECT plan FROM operation WHERE kind = 'clone'").fetchall()
    registry.close()
    definition = stage.mount.folder / "late.xml"
    definition.write_text(json.loads(plan)["xml"])
    stage.mount.start_again()
    stage.settle()
    wait_until(lambda: is_whole(stage), "it is undone")
    assert not stage.is_there()
    stage.libvirtd.virsh("define", definition)
    wait_until(lambda: "web-01" not in stage.libvirtd.virsh("list", "--all", "--name").split(),
               "it goes")
    assert not stage.is_there()


def test_no_operation_is_forgotten():
    elsewhere = {"promote", "claim"}  # test_promote.py, test_pool_faults.py
    assert {step.split(".")[0] for step in CLONE_STEPS} == set(OPERATIONS) | elsewhere
