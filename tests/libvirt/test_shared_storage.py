# SPDX-License-Identifier: GPL-2.0-or-later
"""VMs of another node on a golden image of this one: a server that many use serves it read-only out
of the mount, and on the node an overlay lies on it. docs/SHARED-STORAGE.md has it for admins."""
import base64
import contextlib
import errno
import hashlib
import os
import re

import pytest

import servers
from commands import refused, run, try_run, wait_until
from libvirtd import private_libvirtd
from vm import VM

SIZE = 64 << 20
CONTENT = os.urandom(1 << 20)
START = """
echo "golden $(sha256sum </disk/content)"
echo "only here" >/disk/own
sync
echo "has written"
while dd if=/dev/vda of=/dev/null bs=64k count=16 iflag=direct 2>/dev/null; do
	echo "has read"
	sleep 0.1
done
"""
DISK = """
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' error_policy='stop' rerror_policy='stop'/>
      <source file='{overlay}'/>
      {backing}
      <target dev='vda' bus='virtio'/>
    </disk>
"""
BACKING = """
      <backingStore type='network'>
        <format type='raw'/>
        <source protocol='iscsi' name='{iqn}/1'>
          <host name='127.0.0.1' port='{port}'/>
          <auth username='node2'><secret type='iscsi' usage='golden'/></auth>
        </source>
        <backingStore/>
      </backingStore>
"""
SECRET = """
<secret ephemeral='no' private='yes'><usage type='iscsi'><target>golden</target></usage></secret>
"""
PASSWORD = "a-long-password"


@pytest.fixture(scope="module")
def node2(base):
    """Another libvirt, which has nothing to do with kwsfs."""
    with private_libvirtd(base / "node2" / "libvirt") as daemon:
        yield daemon


@pytest.fixture
def golden(mount, new_vm, folder):
    """A snapshot with a file system on it; the VM has gone on since."""
    vm = new_vm("web1", {"vda": SIZE})
    (folder / "root").mkdir()
    (folder / "root" / "start").write_text(START)
    (folder / "root" / "content").write_bytes(CONTENT)
    run("mkfs.ext4", "-q", "-d", folder / "root", folder / "raw", SIZE >> 10)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", folder / "raw", vm.paths["vda"])
    vm.content["vda"][:] = (folder / "raw").read_bytes()
    tree = mount.of(vm)
    wait_until(tree.path.exists, "the VM is seen")
    tree.mkdir("golden")
    vm.write("vda", 7, 0, 1 << 20)
    return tree


class Instance(VM):
    """A VM of the other node: its overlay is all of it that is there."""

    def __init__(self, node, folder, guest, url, backing=""):
        super().__init__(node, folder / "node2", "instance")
        self.overlay = self.paths.pop("vda")
        self.overlay.unlink()
        # As its size is said, the image is not asked for it: that would take a password.
        run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", url,
            "-o", "extended_l2=on,cluster_size=128k", self.overlay, SIZE)
        self.more_devices = DISK.format(overlay=self.overlay, backing=backing)
        self.boot_guest(guest, "kws=start").define()

    def said(self, what):
        return self.console.read_text().count(what) if self.console.exists() else 0

    def wait_until_it_said(self, what, times=1):
        wait_until(lambda: self.said(what) >= times, f"the guest says {what}")


@contextlib.contextmanager
def running(*instance, **more):
    vm = Instance(*instance, **more)
    try:
        vm.start()
        yield vm
    finally:
        vm.remove()


def check(golden, vm, folder):
    """What it reads is the golden image's, what it wrote is in its overlay, and nowhere else."""
    vm.wait_until_it_said("has read")
    assert re.search(r"golden ([0-9a-f]{64})", vm.console.read_text())[1] == \
        hashlib.sha256(CONTENT).hexdigest()
    vm.stop()
    golden.check()
    # The overlay alone, with what it lies on out of the mount by its path.
    run("qemu-img", "rebase", "-u", "-F", "raw", "-b", golden / "golden" / "vda.raw", vm.overlay)
    run("qemu-img", "convert", "-O", "raw", vm.overlay, folder / "flat")
    assert try_run("e2fsck", "-fy", folder / "flat").returncode in (0, 1)  # it was not unmounted
    assert run("debugfs", "-R", "cat own", folder / "flat") == "only here\n"
    assert try_run("debugfs", "-R", "cat own", golden / "golden" / "vda.raw").stdout == ""


def is_in_use(golden):
    with refused(errno.EBUSY):
        (golden / "golden").rmdir()
    assert "open" in golden.kws("last_error")


def set_secret(node, folder):
    (folder / "secret.xml").write_text(SECRET)
    uuid = re.search(r"[0-9a-f-]{36}", node.virsh("secret-define", folder / "secret.xml"))[0]
    node.virsh("secret-set-value", uuid, base64.b64encode(PASSWORD.encode()).decode())


def test_iscsi(golden, node2, guest, folder):
    """With a password, and a server that is away while kwsfs is restarted."""
    port = servers.free_port()
    url = f"iscsi://127.0.0.1:{port}/{servers.IQN}/1"
    served = [folder / "tgt", golden / "golden" / "vda.raw", port, "node2", PASSWORD]
    set_secret(node2, folder)
    with contextlib.ExitStack() as instances:
        with servers.iscsi(*served):
            assert try_run("qemu-img", "info", url).returncode != 0  # for it knows no password
            is_in_use(golden)
            vm = instances.enter_context(running(node2, folder, guest, url, backing=BACKING.format(
                iqn=servers.IQN, port=port)))
            vm.wait_until_it_said("has read")
        before = vm.said("has read")
        golden.mount.kill()
        golden.mount.start_again()
        with servers.iscsi(*served):
            vm.wait_until_it_said("has read", before + 3)
            assert vm.state == "running"
            check(golden, vm, folder)
    golden.rmdir("golden")


def test_nbd(golden, node2, guest, folder):
    """libvirt reads in the overlay what it lies on. A VM whose server goes away is paused."""
    port = servers.free_port()
    url = f"nbd://127.0.0.1:{port}/golden"

    def served():
        return servers.running(
            folder, ["qemu-nbd", "--read-only", "--persistent", "--shared=0", "-f", "raw", "-b", "127.0.0.1",
                     "-p", port, "-x", "golden", golden / "golden" / "vda.raw"],
            lambda: try_run("qemu-img", "info", url).returncode == 0)

    with contextlib.ExitStack() as instances:
        with served():
            is_in_use(golden)
            vm = instances.enter_context(running(node2, folder, guest, url))
            vm.wait_until_it_said("has read")
        wait_until(lambda: vm.state == "paused", "the VM is paused")
        vm.stop()
        with served():
            vm.start()
            check(golden, vm, folder)
    golden.rmdir("golden")
