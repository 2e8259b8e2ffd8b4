# SPDX-License-Identifier: GPL-2.0-or-later
"""Each step of taking a spare, and what can break just then: afterwards the spare is the instance,
or a spare that can be taken, or gone; none is handed out twice, and nothing is left over. As
test_clone_faults.py, in the three states that spares wait in."""
import os

import pytest

from clones import remove_clones
from commands import sync, wait_until, write_once
from faults import CLONE_FAULTS, CLONE_STEPS, FaultyMount, is_settled
from vm import VM

STATES = "defined", "paused", "saved"


class Stage:
    def __init__(self, libvirtd, folder):
        self.libvirtd = libvirtd
        self.mount = FaultyMount(libvirtd, folder / "mount")
        self.vm = VM(libvirtd, folder / "web1", "web1", {"vda": 1 << 20}).define()
        self.mount.start()
        self.tree = self.mount.of(self.vm)
        self.vm.write("vda", 1, 0, 1 << 16)
        self.tree.mkdir("golden")
        self.bare = self.vm.images
        self.path = self.mount.point / "pool" / "web"
        os.symlink("../snapshots/web1/golden/clones", self.path)
        self.set("spare_wait", 0)
        self.set("spare", 1)

    def set(self, what, value):
        write_once(self.path / ".kws" / what, value)

    def status(self):
        return (self.path / ".kws" / "status").read_text().splitlines()

    @property
    def spares(self):
        return {line.split("\t")[0] for line in self.status() if line.endswith("\tspare")}

    def is_full(self, state):
        return f"spares 1 of 1 {state}" in self.status() and len(self.spares) == 1

    @property
    def instances(self):
        return set(os.listdir(self.path)) - {".kws"}

    def domains(self):
        return set(self.libvirtd.virsh("list", "--all", "--name").split())

    def vm_of(self, name):
        return os.path.basename(os.readlink(self.path / name / "vm"))

    def prepare(self, state):
        for name in self.instances:
            (self.path / name).rmdir()
        self.set("spare_state", state)
        wait_until(lambda: self.is_full(state), f"a spare is {state}")
        for name in self.spares:
            sync(self.mount.point / "snapshots" / name)

    def check(self, state):
        vms = {self.vm_of(name) for name in self.instances}
        assert self.domains() == self.mount.vms == {"web1"} | self.spares | vms
        images = self.vm.images - self.bare
        assert len(images) == len(self.spares | vms)
        memory = self.mount.folder / "state" / "spares"
        assert len(list(memory.glob("*"))) == (state == "saved")
        for name in self.instances:
            assert self.libvirtd.virsh("domstate", self.vm_of(name)) in ("shut off", "running")
        assert os.listdir(self.mount.point / "lost+found") == [".kws"]
        self.tree.check()

    def close(self):
        self.mount.give_up()
        remove_clones(self.libvirtd, self.domains() - {"web1"})
        self.vm.remove()


@pytest.fixture(scope="module")
def stage(libvirtd, base):
    folder = base / "pool-stage"
    folder.mkdir(mode=0o755)
    made = Stage(libvirtd, folder)
    yield made
    made.close()


def break_it(stage, state, step, when, fault):
    stage.prepare(state)
    error = stage.mount.break_in((stage.path / "web-01").mkdir, step, when, CLONE_FAULTS[fault])
    wait_until(lambda: is_settled(stage.tree), "all is finished or undone")
    wait_until(lambda: stage.is_full(state), f"there is a spare again: {stage.status()}")
    stage.check(state)
    there = "web-01" in stage.instances
    assert error or there, "it was said to be done"
    return "done" if there else "undone"


def whens(state, fault):
    """All of it for one state; of the others what is different there."""
    if fault == "libvirtd killed":
        return ("before",) if state == "defined" else ()
    return ("before", "after") if state == "defined" or fault == "kwsfs killed" else ("before",)


@pytest.mark.parametrize("fault", CLONE_FAULTS)
@pytest.mark.parametrize("state", STATES)
def test_fault(stage, add_fault, state, fault):
    for step in CLONE_STEPS:
        if step.split(".")[0] != "claim":
            continue
        for when in whens(state, fault):
            became = break_it(stage, state, step, when, fault)
            add_fault(f"claim, {state}", state == "paused", step, when, fault, became)
