# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that is made larger between snapshots: a merge then makes the lower layer larger too,
and QEMU moves its L1 table for it."""
import os

import pytest

from commands import run

MIB = 1 << 20


def resize(vm, target, size):
    if vm.running:
        vm.virsh("blockresize", vm.name, target, f"{size}B")
    else:
        run("qemu-img", "resize", "-q", "-f", "qcow2", vm.active[target], size)
    vm.content[target].extend(bytes(size - len(vm.content[target])))


@pytest.fixture
def vm(new_vm):
    """Its disk has clusters of 512 bytes: one entry of its L1 table stands for 32 KiB."""
    vm = new_vm("web1", {"vda": MIB}, define=False)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=512", vm.paths["vda"], MIB)
    return vm.define()


@pytest.mark.parametrize("running", [True, False])
def test_an_open_image_of_a_disk_that_grew(tree, vm, running):
    if running:
        vm.start()
    vm.write("vda", 1, 0, MIB)
    tree.mkdir("one")
    resize(vm, "vda", 6 * MIB)
    vm.write("vda", 2, 512 << 10, 4 * MIB)
    tree.mkdir("two")
    with open(tree / "two" / "vda.raw", "rb", buffering=0) as file:
        tree.rmdir("one")
        tree.sync()
        assert os.pread(file.fileno(), 8 * MIB, 0) == tree.reference["two"]["vda"]
    tree.check()
    tree.check_files()


@pytest.mark.parametrize("running", [True, False])
def test_what_lies_beyond_the_end_of_a_smaller_layer(tree, vm, running):
    """The layers are 1, 2, 3 and 4 MiB large: beyond the end of one, what lies on it sees zeroes,
    also when they have been merged."""
    if running:
        vm.start()
    vm.write("vda", 1, 0, MIB)
    for number, name in enumerate(("one", "two", "three"), start=2):
        tree.mkdir(name)
        resize(vm, "vda", number * MIB)
        vm.write("vda", number, (number - 1) * MIB + 4096, 8192)
    for name in "two", "one", "three":
        tree.rmdir(name)
        tree.sync()
        tree.check()
    tree.check_files()
