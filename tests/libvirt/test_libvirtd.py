# SPDX-License-Identifier: GPL-2.0-or-later
"""libvirtd goes away and comes back: images are served on, everything else waits for it."""
import errno
import os
import time

import pytest

from commands import refused, wait_until


@pytest.fixture(params=["kill", "terminate"])
def end(libvirtd, request):
    def end_it():
        # Not in the middle of a command to a VM's monitor: about one time in thirty QEMU 7.2 does
        # not survive that, whoever is listening.
        time.sleep(0.5)
        getattr(libvirtd, request.param)()

    yield end_it
    if libvirtd.try_virsh("version").returncode != 0:
        libvirtd.start()


def make_two(tree, vm):
    vm.write("vda", 1, 0, 1 << 20)
    tree.mkdir("one")
    vm.write("vda", 2, 4096, 65536)
    tree.mkdir("two")


@pytest.mark.parametrize("running", [True, False])
def test_restart(libvirtd, end, mount, tree, vm, running):
    if running:
        vm.start()
    make_two(tree, vm)
    image = open(tree / "one" / "vda.raw", "rb", buffering=0)
    end()
    wait_until(lambda: "libvirt gone" in tree.kws("status"), "it is seen that libvirtd is gone")
    with image:
        assert image.read(1 << 20) == tree.reference["one"]["vda"][:1 << 20]
    assert tree.names == {"one", "two"}
    for name, disks in tree.reference.items():
        for target, content in disks.items():
            assert (tree / name / f"{target}.raw").read_bytes() == content
    for verb in ((tree / "three").mkdir, (tree / "one").rmdir,
                 lambda: os.rename(tree / "one", tree / "uno"),
                 lambda: (tree / "one" / "revert").write_text("1 force"),
                 lambda: (tree / "one" / "description").write_text("text")):
        with refused(errno.EHOSTDOWN):
            verb()
    assert "libvirt" in tree.kws("last_error")
    libvirtd.start()
    wait_until(lambda: "libvirt connected" in tree.kws("status"), "it is connected again")
    assert tree.kws("state") == ("running" if running else "shut off")
    tree.mkdir("three")
    tree.rmdir("one")
    tree.check()
    tree.check_files()


def test_a_merge_goes_on_when_it_is_back(libvirtd, end, mount, tree, vm):
    vm.start()
    make_two(tree, vm)
    tree.rmdir("one")
    end()  # while it merges, or after
    wait_until(lambda: "libvirt gone" in tree.kws("status"), "it is seen that libvirtd is gone")
    if "tombstones 0" not in tree.kws("status"):
        with refused(errno.EHOSTDOWN):
            tree.sync()
    libvirtd.start()
    wait_until(lambda: "libvirt connected" in tree.kws("status"), "it is connected again")
    tree.sync()
    tree.check()
    tree.check_files()


def test_news_of_the_time_without_it(libvirtd, end, mount, tree, vm, new_vm):
    vm.start()
    make_two(tree, vm)
    end()
    wait_until(lambda: "libvirt gone" in tree.kws("status"), "it is seen that libvirtd is gone")
    libvirtd.start()
    libvirtd.try_virsh("destroy", "web1")
    new_vm("web2")
    wait_until(lambda: tree.kws("state") == "shut off", "the VM's new state is seen")
    wait_until(lambda: "web2" in os.listdir(mount.point / "snapshots"), "the new VM is seen")
    tree.check()
