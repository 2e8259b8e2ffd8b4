# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU has done, and libvirt has not noted: libvirtd is killed at each of its own writes while
layers are merged. kwsfs finds another state each time; in all of them nothing is lost of what the
VM wrote before and after."""
import contextlib
import errno
import json
import os
import signal
import sqlite3

import pytest

from commands import DEADLINE, refused, run, wait_until
from disturb import disturbed
from faults import FaultyMount, do_something, is_settled, try_sync
from processes import has_ended
from shape import Shape, recognised

PART = 1 << 16


@pytest.fixture
def process(libvirtd):
    """Its id; libvirtd runs again afterwards."""
    yield int((libvirtd.folder / "libvirtd.pid").read_text())
    if libvirtd.try_virsh("version").returncode:
        libvirtd.start()


def write_anew(vm):
    """Over what was merged, and elsewhere."""
    for target in vm.paths:
        vm.write(target, 0x55, 0, PART)
        vm.write(target, 0x56, 8 * PART, PART // 2)
        vm.write(target, 0x57, 12 * PART, PART)


def end_lost_qemu(tree, vm):
    """libvirt 9.0 may write a state of the VM that it cannot read again. Then it says that the VM is off,
    whose QEMU goes on."""
    for verb in (tree / "next").mkdir, lambda: tree.revert("s1"):
        with refused(errno.EBUSY):
            verb()
        assert "end that first" in tree.kws("last_error")
    pid = vm.qemu
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: has_ended(pid), "it has ended")


@pytest.mark.parametrize("victim", ["s2", "s3"])
@pytest.mark.parametrize("number", range(3, 11))
def test_libvirtd_is_killed_when_it_writes(tree, vm, libvirtd, process, victim, number):
    vm.start()
    for at, name in enumerate(["s1", "s2", "s3"]):
        for target in vm.paths:
            vm.write(target, at + 1, at * PART, PART)
        tree.mkdir(name)
    for target in vm.paths:
        vm.write(target, 9, 8 * PART, PART)
    before = Shape.of(tree)
    with disturbed(process, f"rename:signal=KILL:when={number}"):
        with contextlib.suppress(OSError):
            (tree / victim).rmdir()
        try_sync(tree)
        if "libvirt gone" in tree.kws("status"):
            wait_until(lambda: has_ended(process), "libvirtd has ended")
    if has_ended(process):
        libvirtd.start()
    wait_until(lambda: "libvirt connected" in tree.kws("status"), "it is connected")
    lost = False
    if vm.running:
        write_anew(vm)
    elif vm.qemu:
        end_lost_qemu(tree, vm)
        lost = True
    content = vm.content
    try:
        do_something(tree)
    except OSError as e:
        assert e.errno == errno.EBUSY and "shut the VM down" in tree.kws("last_error")
        vm.stop()
        do_something(tree)
    wait_until(lambda: is_settled(tree), "all is finished or undone")
    recognised(tree, before, before.without(victim)).expect(tree)
    vm.content = content
    tree.check()
    if vm.running:
        vm.stop()
    wait_until(lambda: is_settled(tree), "all that can be merged is")
    tree.check_files(leaks=True)
    if not lost:  # libvirt keeps its files for that QEMU
        vm.start()


def tell_of_a_pivot(mount):
    """As if the VM had been told to switch to the lower layer when the power went."""
    registry = sqlite3.connect(mount.folder / "state" / "registry.db")
    plan, = registry.execute("SELECT plan FROM operation").fetchone()
    registry.execute("UPDATE operation SET plan = ?", (json.dumps({**json.loads(plan), "flags": 1}),))
    registry.commit()
    registry.close()


def test_it_cannot_be_told_which_layer_was_written_last(libvirtd, folder, new_vm):
    """However often it is tried, nothing is merged over what the VM may have written."""
    mount = FaultyMount(libvirtd, folder / "mount").start()
    try:
        vm = new_vm("web1")
        tree = mount.of(vm)
        tree.mkdir("s1")
        lower = vm.active["vda"]
        vm.write("vda", 7, 0, 1 << 20)
        tree.mkdir("s2")
        vm.write("vda", 1, 0, PART)
        mount.arm("merge.data", "before", "kill")
        with contextlib.suppress(OSError):
            tree.rmdir("s2")
        wait_until(lambda: not mount.armed, "it is to be merged")
        mount.process.wait(timeout=DEADLINE)
        tell_of_a_pivot(mount)
        run("qemu-io", "-f", "qcow2", "-c", f"write -P 2 0 {PART}", lower)
        mount.start_again()
        for _ in range(3):
            with refused(errno.EIO):
                (tree / "next").mkdir()
            assert "cannot be told which one it wrote last" in tree.kws("last_error")
            with refused(errno.EIO):
                tree.sync()
        run("qemu-io", "-r", "-U", "-f", "qcow2", "-c", f"read -P 2 0 {PART}", lower)
        vm.start()  # with the upper one, as its definition says
        (tree / "next").mkdir()
        (tree / "next").rmdir()
        tree.sync()
        tree.reference.pop("s2", None)
        tree.check()
        vm.stop()
        tree.check_files()
    finally:
        print(mount.log.read_text())
        mount.give_up()
