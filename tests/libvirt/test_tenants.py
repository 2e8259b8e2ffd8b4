# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM whose disk lies on an image of another VM's snapshot: in the very mount that looks after
both of them."""
import errno
import os

import pytest

from commands import refused, run, wait_until

MIB = 1 << 20


@pytest.fixture(params=["qcow2", "raw", "link", "backup"])
def served(request, tree, vm, folder):
    """Three snapshots of the first VM, and a name for an image of the last."""
    vm.start()
    for number, name in enumerate(("s1", "s2", "s3"), start=1):
        vm.write("vda", number, number << 19, 640 << 10)
        tree.mkdir(name)
    vm.write("vda", 9, 0, 4 * MIB)
    os.chmod(tree.path, 0o755)
    if request.param == "backup":
        return tree.mount.point / "backup" / vm.name / "s3" / "vda.qcow2"
    if request.param == "link":
        (folder / "elsewhere").symlink_to(tree / "s3")
        return folder / "elsewhere" / "vda.qcow2"
    return tree / "s3" / f"vda.{request.param}"


@pytest.fixture
def tenant(mount, tree, new_vm, served):
    """The second VM, and its folder in the mount."""
    vm = new_vm("second", {"vda": 4 * MIB}, define=False)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", served.suffix[1:], "-b", served,
        vm.paths["vda"])
    vm.content["vda"] = bytearray(tree.reference["s3"]["vda"])
    vm.define()
    second = mount.of(vm)
    wait_until(second.path.exists, "it is there")
    return second


@pytest.mark.parametrize("running", [True, False])
def test_life_of_a_tenant(tree, tenant, served, running):
    second = tenant.vm
    if running:
        second.start()
    second.write("vda", 20, 64 << 10, 8192)
    tenant.mkdir("x")
    second.write("vda", 21, 128 << 10, 8192)
    tenant.mkdir("y")
    second.write("vda", 22, 256 << 10, 8192)
    for path in tenant / "x" / "vda.qcow2", tenant.mount.point / "backup/second/y/vda.qcow2":
        run("qemu-img", "check", "-q", path)
    tenant.check()

    with refused(errno.EBUSY):
        tree.path.joinpath("s3").rmdir()
    with refused(errno.EBUSY):
        os.rename(tree / "s3", tree / "s4")
    if running and "backup" in served.parts:
        with refused(errno.EBUSY):  # QEMU has the whole chain of these files open
            tree.path.joinpath("s1").rmdir()
        return
    tree.rmdir("s1")
    tree.sync()
    tenant.check()
    tenant.rmdir("x")
    tenant.sync()
    tree.rmdir("s2")
    tree.sync()
    tree.check()
    tenant.check()
    if not running:
        flat = tenant.mount.folder / "flat"
        run("qemu-img", "convert", "-O", "raw", second.active["vda"], flat)
        assert flat.read_bytes() == bytes(second.content["vda"])


def test_a_tenant_that_is_off_keeps_its_snapshot(tree, tenant, mount):
    """Also after the daemon was started again; and lets go of it when it goes."""
    with refused(errno.EBUSY):
        tree.path.joinpath("s3").rmdir()
    assert "second" in tree.kws("last_error")
    mount.stop()
    mount.start()
    with refused(errno.EBUSY):
        tree.path.joinpath("s3").rmdir()
    tree.check()
    tenant.vm.remove()
    wait_until(lambda: not tenant.path.exists(), "it has gone")
    tree.rmdir("s3")
    tree.check()
    tree.check_files()
