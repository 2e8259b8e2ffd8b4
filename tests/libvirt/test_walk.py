# SPDX-License-Identifier: GPL-2.0-or-later
"""A walk over the tree at random: whatever was done, and in whatever order, every snapshot reads
as it did when it was taken, libvirt agrees, and no file is left over or missing. KWS_SEED and
KWS_STEPS set another walk than the default ones. So it is if kwsfs, libvirtd or QEMU is killed on
the way at any moment: then the operation was done, or it was not."""
import concurrent.futures
import errno
import os
import random
import time

import pytest

from commands import refused, wait_until, write_once
from faults import do_something, is_settled
from shape import Shape, recognised

SEEDS = [int(os.environ["KWS_SEED"])] if "KWS_SEED" in os.environ else [1, 2]
STEPS = int(os.environ.get("KWS_STEPS", 200))
STEPS_WITH_FAULTS = int(os.environ.get("KWS_STEPS", 120))
MOST = 12  # snapshots at a time

WEIGHTS = {"mkdir": 5, "write": 4, "rmdir": 3, "revert": 2, "mv": 1, "start": 2, "stop": 1}


class Walk:
    def __init__(self, tree, vm, dice):
        self.tree, self.vm, self.dice = tree, vm, dice
        self.count = 0

    def fresh_name(self):
        self.count += 1
        return f"number {self.count}"

    def any(self):
        return self.dice.choice(sorted(self.tree.reference))

    def step(self):
        doable = [verb for verb in WEIGHTS if self.can(verb)]
        verb = self.dice.choices(doable, [WEIGHTS[verb] for verb in doable])[0]
        return verb, getattr(self, verb)()

    def can(self, verb):
        if verb in ("rmdir", "revert", "mv"):
            return bool(self.tree.reference)
        return {"mkdir": len(self.tree.reference) < MOST, "start": not self.vm.running,
                "stop": self.vm.running}.get(verb, True)

    def mkdir(self):
        self.tree.mkdir(self.fresh_name())

    def rmdir(self):
        self.tree.rmdir(self.any())

    def mv(self):
        self.tree.mv(self.any(), self.fresh_name())

    def write(self):
        if not self.vm.running:
            self.tree.sync()  # qemu-io and a merge would be in each other's way
        target = self.dice.choice(list(self.vm.paths))
        size = len(self.vm.content[target])
        offset = self.dice.randrange(size // 4096) * 4096
        length = min(self.dice.choice([4096, 65536, 200 * 1024]), size - offset)
        self.vm.write(target, self.dice.randrange(256), offset, length)

    def revert(self):
        name, how = self.any(), self.dice.choice(["1", "1 force", "1 start force"])
        if self.vm.running and how == "1":
            with refused(errno.EBUSY):
                self.tree.revert(name, how)
        else:
            self.tree.revert(name, how)

    def start(self):
        self.tree.sync()  # while layers are merged by qemu-img, the VM cannot be started
        self.vm.start()

    def stop(self):
        self.vm.stop()


class WalkWithFaults(Walk):
    """Every third operation is interrupted; also the merges that go on after it."""

    def __init__(self, tree, vm, dice):
        super().__init__(tree, vm, dice)
        self.killed = "nobody"

    def mkdir(self):
        name = self.fresh_name()
        self.attempt((self.tree / name).mkdir, Shape.of(self.tree).with_new(name))

    def rmdir(self):
        name = self.any()
        self.attempt((self.tree / name).rmdir, Shape.of(self.tree).without(name))

    def mv(self):
        old, new = self.any(), self.fresh_name()
        self.attempt(lambda: os.rename(self.tree / old, self.tree / new),
                     Shape.of(self.tree).renamed(old, new))

    def can(self, verb):
        if verb == "revert":
            return bool(set(self.tree.reference) - {self.tree.link("current")})
        return super().can(verb)

    def revert(self):
        """To another one than that on which the VM stands: so that it is seen if it was done."""
        name = self.dice.choice(sorted(set(self.tree.reference) - {self.tree.link("current")}))
        how = self.dice.choice(["1 force", "1 start force"])
        self.attempt(lambda: write_once(self.tree / name / "revert", how),
                     Shape.of(self.tree).reverted(name))

    def attempt(self, verb, after):
        before = Shape.of(self.tree)
        with concurrent.futures.ThreadPoolExecutor(1) as other:
            trying = other.submit(verb)
            if self.dice.random() < 1 / 3:
                self.kill()
            error = trying.exception()
        assert error is None or isinstance(error, OSError) and self.killed != "nobody", error
        self.start_what_is_dead()
        now = recognised(self.tree, before, after)
        assert error or now is after, "it was said to be done"
        now.expect(self.tree)

    def kill(self):
        """One of them, somewhere in the time that an operation takes with its merges."""
        self.killed = self.dice.choice(["kwsfs", "libvirtd"] + ["QEMU"] * self.vm.running)
        print(self.killed, "is killed")
        time.sleep(self.dice.uniform(0, 0.2))
        if self.killed == "kwsfs":
            self.tree.mount.kill()
        elif self.killed == "libvirtd":
            self.vm.libvirtd.kill()
        else:
            self.vm.kill()

    def start_what_is_dead(self):
        if self.killed == "kwsfs":
            self.tree.mount.start_again()
        elif self.killed == "libvirtd":
            self.vm.libvirtd.start()
        if self.killed != "nobody":
            wait_until(lambda: "libvirt connected" in self.tree.kws("status"), "it is connected")
            try:
                do_something(self.tree)
            except OSError as e:
                # QEMU has switched over to the new overlays, and libvirt does not know.
                assert e.errno == errno.EBUSY and "shut the VM down" in self.tree.kws("last_error")
                self.vm.stop()
                do_something(self.tree)
            wait_until(lambda: is_settled(self.tree), "all is finished or undone")


def end(tree, vm, leaks):
    """Nothing is left of all that was."""
    if vm.running:
        vm.stop()
    tree.check_files(leaks)
    for name in sorted(tree.reference):
        tree.rmdir(name)
    tree.check()
    tree.check_files(leaks)
    assert "tombstones 0" in tree.kws("status")


@pytest.mark.parametrize("seed", SEEDS)
def test_walk(mount, tree, vm, seed):
    print(f"KWS_SEED={seed} KWS_STEPS={STEPS}")
    walk = Walk(tree, vm, random.Random(seed))
    for number in range(STEPS):
        done = walk.step()
        print(number, done[0])
        tree.check()
        if number % 10 == 9:
            tree.check_files()
            done = mount.fsck()
            assert done.returncode == 0, done.stdout + done.stderr
    end(tree, vm, leaks=False)


@pytest.mark.parametrize("seed", SEEDS[:1])
def test_walk_with_faults(tree, vm, seed):
    print(f"KWS_SEED={seed} KWS_STEPS={STEPS_WITH_FAULTS}")
    walk = WalkWithFaults(tree, vm, random.Random(seed))
    for number in range(STEPS_WITH_FAULTS):
        walk.killed = "nobody"
        done = walk.step()
        print(number, done[0])
        tree.check()
        if number % 10 == 9 or walk.killed != "nobody":
            tree.check_files(leaks=True)
    end(tree, vm, leaks=True)
