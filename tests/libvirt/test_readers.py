# SPDX-License-Identifier: GPL-2.0-or-later
"""Readers beside what QEMU does with the layers they read."""
import errno
import mmap
import os
import subprocess
import threading
import xml.etree.ElementTree as ET

import pytest

from commands import refused, run, wait_until
from disturb import disturbed


def read_anew(folder, size):
    """Opens the disk, and reads it past the page cache. From inside its folder: whoever looks into
    the VM's waits for libvirt, which waits for QEMU."""
    return subprocess.run(["dd", "if=vda.raw", f"bs={size}", "iflag=direct", "status=none"],
                          cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
                          check=True).stdout


def make_chain(tree, vm):
    for number, name in enumerate(("one", "two", "three", "four"), start=1):
        vm.write("vda", number, number << 19, 640 << 10)
        vm.write("vdb", number, number << 16, 80 << 10)
        tree.mkdir(name)
    vm.write("vda", 99, 0, 4096)


@pytest.mark.parametrize("gone", ["one", "two", "three"])
def test_while_qemu_takes_a_layer_out(tree, vm, gone):
    """QEMU writes the new backing file's name before the last of what that file then holds."""
    vm.start()
    make_chain(tree, vm)
    folders = {name: os.open(tree / name, os.O_PATH) for name in tree.reference}
    rounds = 0
    try:
        with disturbed(vm.qemu, "fdatasync:delay_enter=500ms"):
            tree.rmdir(gone)
            merging = threading.Thread(target=tree.sync)
            merging.start()
            while merging.is_alive():
                for name, disks in tree.reference.items():
                    read = read_anew(f"/proc/self/fd/{folders[name]}", 4 << 20)
                    assert read == disks["vda"], (name, rounds)
                rounds += 1
            merging.join()
    finally:
        for folder in folders.values():
            os.close(folder)
    assert rounds > 2, "there was time to look"
    tree.check()
    tree.check_files()


@pytest.mark.parametrize("gone", ["one", "two"])
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_qemu_dies_while_it_takes_a_layer_out(tree, vm, gone, call):
    """At a moment at which the chain that the headers tell of does not hold everything."""
    vm.start()
    make_chain(tree, vm)
    with disturbed(vm.qemu, f"{call}:signal=KILL:when=1"):
        tree.rmdir(gone)
        wait_until(lambda: not vm.running, "QEMU has died")
    tree.check()
    tree.mkdir("five")
    tree.check()
    tree.check_files(leaks=True)


def forget_chains(vm):
    """Lets libvirt ask the images what they lie on when the VM starts."""
    domain = ET.fromstring(vm.virsh("dumpxml", vm.name, "--inactive"))
    for disk in domain.findall("devices/disk"):
        for store in disk.findall("backingStore"):
            disk.remove(store)
    path = vm.folder / "domain.xml"
    path.write_text(ET.tostring(domain, encoding="unicode"))
    vm.virsh("define", path)
    path.unlink()


@pytest.mark.parametrize("knows", [True, False])
def test_the_vm_starts_again_before_anybody_looked(tree, vm, knows):
    """Either libvirt still knows of the layer, or the VM runs without what is missing. Snapshots
    read as they should all the same, nothing is done to it, and when it is off the rest is
    merged."""
    vm.start()
    make_chain(tree, vm)
    layers = vm.snapshot_layers()
    overlay, gone = layers["four"]["vda"], layers["three"]["vda"]
    with disturbed(vm.qemu, "fdatasync:delay_enter=2s"):
        tree.rmdir("two")
        wait_until(lambda: gone not in run("qemu-img", "info", "-U", overlay), "it is taken out")
        tree.mount.kill()
        vm.kill()
    if not knows:
        forget_chains(vm)
    vm.start()
    tree.mount.start()
    tree.check()
    if not knows:
        with refused(errno.EIO):
            tree.sync()
        with refused(errno.EIO):
            (tree / "five").mkdir()
        assert "shut the VM down" in tree.kws("last_error")
        tree.check()
    vm.stop()
    tree.mkdir("five")
    tree.check()
    tree.check_files(leaks=True)


@pytest.mark.parametrize("part", [256 << 10, 4 << 10])
def test_a_layer_that_is_cut_off_while_it_is_read(tree, vm, part):
    """What is lost is an error, the rest is read on, and the daemon lives."""
    vm.write("vda", 1, 0, 4 << 20)
    tree.mkdir("one")
    layer = vm.snapshot_layers()["one"]["vda"]
    fd = os.open(tree / "one" / "vda.raw", os.O_RDONLY | os.O_DIRECT)
    buffer, lost = mmap.mmap(-1, part), 0
    try:
        for at in range(0, 4 << 20, part):
            os.preadv(fd, [buffer], at)
        whole = os.stat(layer).st_size
        os.truncate(layer, whole // 2)
        for at in range(0, 4 << 20, part):
            try:
                os.preadv(fd, [buffer], at)
                assert buffer[:] == b"\1" * part, at
            except OSError as e:
                assert e.errno == errno.EIO
                lost += part
        assert (2 << 20) <= lost < (3 << 20)
    finally:
        os.close(fd)
    assert tree.mount.process.poll() is None
