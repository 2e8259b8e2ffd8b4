# SPDX-License-Identifier: GPL-2.0-or-later
"""The power goes, at any moment of an operation, and takes with it all that no disk was told to
flush. A story is told on a machine (user-mode-linux) that logs what reaches its disk; for a point
of that log the disk is put together as it was then, and libvirtd and kwsfs are started on it: every
snapshot that was acknowledged reads as it did, and no other is there; what the guest flushed is on
the VM's disks; libvirt agrees; no file is left over or missing; and the VM starts.

libvirt's files, the images and kwsfs's state are on three file systems: flushing one does nothing
for the others. A cut comes before or after each kind of step, and after each verb has returned;
KWS_FAULTS=steps cuts before and after. KWS_FAULTS=all cuts there in each operation, and wherever
anything became durable, then also with half of what the disk need not have written yet;
KWS_FAULTS=30 at 30 of those. KWS_SEED chooses others."""
import collections
import errno
import os
import pathlib
import random
import shutil

import pytest

from blocklog import Log
from commands import refused, run, wait_until
from kwsmount import Mount, SteppingMount
from libvirtd import Libvirtd
import story
from uml import Disk, Machine

TELLER = pathlib.Path(__file__).parents[1] / "lib" / "tell-story"
MIB = 1 << 20
SEED = int(os.environ.get("KWS_SEED", 1))
FAULTS = os.environ.get("KWS_FAULTS", "some")


class Place:
    """The folders that are on the disk, and what runs there."""

    def __init__(self, folder):
        self.folder = folder
        self.disk = Disk(folder / "disk", [folder / name for name in ("libvirt", "images", "kwsfs")],
                         64 * MIB)
        self.libvirtd = Libvirtd(folder / "libvirt")
        self.cache = folder / "cache"  # of libvirtd: the same for every machine that boots here
        self.mount = None

    def set_up(self):
        """Defines the VM, of which the story is told."""
        self.disk.mount(self.disk.path)
        try:
            self.libvirtd.start()
            story.new_vm(self.libvirtd, self.folder / "images" / "web1").define()
            self.libvirtd.stop()
            shutil.copytree(self.folder / "libvirt" / "cache", self.cache)
            self.empty("run")
        finally:
            self.stop()

    def empty(self, name):
        shutil.rmtree(self.folder / "libvirt" / name)
        (self.folder / "libvirt" / name).mkdir()

    def start(self, device):
        """What a machine with that disk does when it boots."""
        self.disk.mount(device)
        self.empty("run")
        self.empty("cache")
        shutil.copytree(self.cache, self.folder / "libvirt" / "cache", dirs_exist_ok=True)
        self.libvirtd.start()
        self.vm = story.new_vm(self.libvirtd, self.folder / "images" / "web1")
        self.mount = Mount(self.libvirtd, self.folder / "kwsfs")
        self.tree = self.mount.start().of(self.vm)

    def stop(self):
        try:
            if self.mount:
                self.mount.stop()
        finally:
            self.mount = None
            self.libvirtd.stop()
            self.disk.unmount()

    def content(self, target):
        flat = self.folder / "flat"
        run("qemu-img", "convert", "-O", "raw", self.vm.active[target], flat)
        return flat.read_bytes()

    def check(self, moments):
        """What is there must be one of these, in all of its parts."""
        tree, vm = self.tree, self.vm
        said = tree.names, tree.link("current")
        moments = [m for m in moments if (set(m.snapshots), m.current) == said]
        assert moments, f"the snapshots are {tree.parents()}, current {said[1]}"
        assert tree.parents() == moments[0].parents
        tree.reference = moments[0].snapshots
        tree.check()
        tree.sync()
        for target in vm.paths:
            vm.content[target] = self.content(target)
            assert any(m.allows(target, vm.content[target]) for m in moments), f"{target} is another"
        tree.check()
        tree.check_files(leaks=True)

    def check_that_it_goes_on(self):
        self.vm.start()
        self.tree.mkdir("afterwards")
        self.tree.rmdir("afterwards")
        self.tree.check()
        self.tree.check_files()


# After which entry of the log; what happened there; the number of the operation; whether it had
# returned; whether half of what is not durable is on the disk all the same.
Cut = collections.namedtuple("Cut", "entry what operation returned torn", defaults=(False,))


def all_cuts(log, operations):
    """Where the power may go: at every mark, and at every barrier in between."""
    cuts, operation, returned = [], None, True
    for number, entry in enumerate(log.entries):
        kind, _, rest = (entry.mark or "").partition(":")
        if kind in ("begin", "end"):
            operation, returned = int(rest), kind == "end"
        if operation is None:
            continue
        if kind == "step":
            cuts.append(Cut(number, rest.replace(":", " "), operation, returned))
        elif kind == "end":
            cuts.append(Cut(number, f"{operations[operation][0]} has returned", operation, True))
        elif entry.is_barrier:
            cuts.append(Cut(number, "barrier", operation, returned))
            if log.not_durable_at(number):
                cuts.append(Cut(number, "barrier, torn", operation, returned, True))
    assert {"create", "delete", "rename", "revert", "merge"} <= {cut.what.split()[0] for cut in cuts}
    return cuts


def chosen(cuts, state, dice):
    """Those that are tried: see above. Without a guest only what is not the same with one."""
    if FAULTS == "all":
        return cuts
    if FAULTS not in ("some", "steps"):
        return sorted(dice.sample(cuts, int(FAULTS)))
    kinds = collections.defaultdict(list)
    for cut in cuts:
        if not cut.what.startswith("barrier") and (state == "running" or
                                                   cut.what.startswith(("merge", "pull", "revert"))
                                                   or "returned" in cut.what):
            kinds[cut.what if FAULTS == "steps" else cut.what.rpartition(" ")[0]].append(cut)
    return sorted(dice.choice(alike) for alike in kinds.values())


def moments_at(cut, told, operations):
    if cut.returned:
        return [told[cut.operation + 1]]
    return told[cut.operation].amid(operations[cut.operation])


def try_cut(place, device, moments, goes_on):
    """None, or what is wrong."""
    try:
        try:
            place.start(device)
            place.check(moments)
            if goes_on:
                place.check_that_it_goes_on()
        finally:
            place.stop()
    except (AssertionError, OSError) as e:
        return f"{type(e).__name__}: {e}"
    return None


def record(place, state):
    """Tells the story; gives the log."""
    log = place.folder / "log"
    with open(log, "wb") as file:
        file.truncate(1 << 30)
    machine = Machine(place.folder, place.disk, log)
    machine.run(TELLER, place.folder, state, KWS_BUILD=os.environ["KWS_PLAIN"],
                PYTHONDONTWRITEBYTECODE=1, PATH="/usr/sbin:/usr/bin:/sbin:/bin")
    return Log(log)


@pytest.mark.parametrize("state", ["running", "off"])
def test_power_cut(folder, state):
    place = Place(folder)
    place.set_up()
    disk, copy = folder / "replayed", folder / "copy"
    shutil.copy(place.disk.path, disk)
    log = record(place, state)
    operations = story.OPERATIONS[state]
    told = story.moments(operations)
    dice = random.Random(SEED)
    done, wrong = 0, []
    print(f"KWS_SEED={SEED} KWS_FAULTS={FAULTS}")
    with open(disk, "r+b") as replayed:
        for cut in chosen(all_cuts(log, operations), state, dice):
            log.write(replayed, log.entries[done:cut.entry + 1])
            done = cut.entry + 1
            run("cp", "--sparse=always", disk, copy)
            if cut.torn:
                with open(copy, "r+b") as torn:
                    log.write(torn, [e for e in log.not_durable_at(cut.entry) if dice.random() < .5])
            complaint = try_cut(place, copy, moments_at(cut, told, operations),
                                cut.returned or FAULTS == "all")
            print(f"{cut.entry:5} {' '.join(map(str, operations[cut.operation])):32} {cut.what:28} "
                  f"{complaint or 'whole'}", flush=True)
            wrong += [cut] if complaint else []
    log.close()
    assert not wrong


AT_THE_SWITCH = """#!/bin/sh
[ "$2 $3" = "snapshot before" ] || exit 0
overlay=$(echo {folder}/kws-*-vda.qcow2)
qemu-io -c "write -P 9 0 64k" \\
	'json:{{"driver": "qcow2", "backing": null, "file": {{"driver": "file", "filename": "'"$overlay"'"}}}}' &&
	kill -9 $PPID
"""


@pytest.fixture
def cut_off(mount, vm, folder):
    """A VM whose guest wrote to the overlay of its first snapshot, of which libvirt knows nothing."""
    vm.start()
    vm.write("vda", 1, 0, 1 << 20)
    mount.stop()
    at_step = folder / "at-step"
    at_step.write_text(AT_THE_SWITCH.format(folder=vm.folder))
    at_step.chmod(0o755)
    stepping = SteppingMount(mount.libvirtd, mount.folder, at_step)
    try:
        tree = stepping.start().of(vm)
        with refused(errno.ENOTCONN, errno.ECONNABORTED):
            (tree / "one").mkdir()
    finally:
        stepping.kill()
        run("umount", "-l", mount.point)
    vm.stop()
    return vm


def test_what_a_guest_wrote_while_the_power_went(mount, cut_off):
    """libvirt's config is that of before; the overlay, to which QEMU had switched, is not lost."""
    cut_off.content["vda"][:64 << 10] = bytes([9]) * (64 << 10)
    tree = mount.start().of(cut_off)
    wait_until(tree.path.exists, "the VM is shown")
    tree.check()
    tree.check_files()


def test_it_has_run_without_it_since(mount, cut_off, folder):
    """Both states of the disk are kept: the VM has the one that it ran with, lost+found the other."""
    overlay, = cut_off.folder.glob("kws-*-vda.qcow2")
    cut_off.write("vda", 2, 0, 4096)
    tree = mount.start().of(cut_off)
    wait_until(lambda: "has run without it since" in mount.log.read_text(), "the log says so")
    tree.mkdir("two")
    tree.check()
    lost = mount.point / "lost+found"
    orphan, = wait_until(lambda: list(lost.glob("web1-vda-*")), "it is shown")
    assert orphan.read_bytes() == overlay.read_bytes()
    orphan.unlink()
    assert not overlay.exists()
    tree.check()
    tree.check_files()
