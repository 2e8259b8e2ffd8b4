# SPDX-License-Identifier: GPL-2.0-or-later
"""A walk over the tree at random: whatever was done, and in whatever order, every snapshot reads
as it did when it was taken, libvirt agrees, and no file is left over or missing. KWS_SEED and
KWS_STEPS set another walk than the default ones."""
import errno
import os
import random

import pytest

from commands import refused

SEEDS = [int(os.environ["KWS_SEED"])] if "KWS_SEED" in os.environ else [1, 2]
STEPS = int(os.environ.get("KWS_STEPS", 200))
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
    if vm.running:
        vm.stop()
    tree.check_files()
    for name in sorted(tree.reference):
        tree.rmdir(name)
    tree.check()
    tree.check_files()
    assert "tombstones" not in tree.kws("status") or "tombstones 0" in tree.kws("status")
