# SPDX-License-Identifier: GPL-2.0-or-later
"""A second VM whose disk is an overlay on a served file: it boots, reads what the snapshot holds
and writes on, and the snapshot stays as it was."""
import errno
import json
import os
import re

import pytest

from chain import sha256
from commands import refused, run, wait_until

MIB = 1 << 20
LINES = 3


@pytest.fixture
def snapshot(mount, new_vm, folder):
    """Of a VM whose disk has an ext4 with a diary in it, which is in two layers. It is given to
    the user that QEMU runs as, by the VM's directory."""
    vm = new_vm("web1", {"vda": 24 * MIB})
    tree = mount.of(vm)
    (folder / "fs").mkdir()
    (folder / "fs" / "random").write_bytes(os.urandom(5 * MIB))
    (folder / "fs" / "diary").write_text("".join(f"line {n}\n" for n in range(1, LINES + 1)))
    run("mkfs.ext4", "-q", "-d", folder / "fs", folder / "raw", "24M")
    run("qemu-img", "convert", "-O", "qcow2", folder / "raw", vm.active["vda"])
    (tree / "s1").mkdir()
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", folder / "raw", vm.active["vda"])
    (tree / "s2").mkdir()
    os.chmod(tree.path, 0o755)
    return tree / "s2"


def read_from_ext4(image, name, point):
    """By a mount that may write, for what the guest wrote last is in the journal."""
    point.mkdir()
    run("mount", "-o", "loop", image, point)
    try:
        return (point / name).read_bytes()
    finally:
        run("umount", point)


def wait_for_line(vm, pattern):
    return wait_until(lambda: re.search(pattern, vm.console.read_text(), re.MULTILINE), pattern)


@pytest.mark.parametrize("shape", ["qcow2", "raw"])
def test_boot_from_an_overlay(snapshot, new_vm, guest, folder, shape):
    served = snapshot / f"vda.{shape}"
    before, owner = sha256(served), os.stat(served)
    run("cmp", snapshot / "vda.raw", folder / "raw")
    vm = new_vm("second", {"vda": 24 * MIB}, define=False).boot_guest(guest, "kws=diary")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", served, "-F", shape, vm.paths["vda"])
    vm.define().start()
    wait_for_line(vm, rf"^my diary has {LINES} lines")
    with refused(errno.EBUSY):
        snapshot.rmdir()
    wait_for_line(vm, rf"^wrote line {LINES + 3}\r?$")
    vm.stop()

    assert sha256(served) == before
    now = os.stat(served)
    assert (now.st_uid, now.st_gid, now.st_mode) == (owner.st_uid, owner.st_gid, owner.st_mode)
    run("cmp", snapshot / "vda.raw", folder / "raw")
    run("qemu-img", "check", "-q", vm.paths["vda"])
    chain = json.loads(run("qemu-img", "info", "--backing-chain", "--output=json", vm.paths["vda"]))
    assert [layer["filename"] for layer in chain] == [str(vm.paths["vda"]), str(served)]

    run("qemu-img", "convert", "-O", "raw", vm.paths["vda"], folder / "flat")
    diary = read_from_ext4(folder / "flat", "diary", folder / "disk").decode().splitlines()
    assert diary[:LINES] == [f"line {n}" for n in range(1, LINES + 1)]
    assert diary[LINES + 2].startswith(f"line {LINES + 3}, written at ")
    vm.remove()
    snapshot.rmdir()
