# SPDX-License-Identifier: GPL-2.0-or-later
"""libvirtd goes away and comes back: images are served on, everything else waits for it."""
import concurrent.futures
import errno
import json
import os
import re
import time

import pytest

from commands import refused, wait_until
from faults import FaultyMount


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
    tree.check_files(leaks=not vm.running)  # QEMU may not have survived it


def monitor(vm, execute, **arguments):
    return json.loads(vm.virsh("qemu-monitor-command", vm.name,
                               json.dumps({"execute": execute, "arguments": arguments})))


def test_qemu_has_images_that_libvirt_has_forgotten(tree, vm):
    """As after a libvirtd that was killed while it took a snapshot: it counts on from before."""
    vm.start()
    tree.mkdir("one")
    nodes = monitor(vm, "query-named-block-nodes", flat=True)["return"]
    last = max(int(number) for node in nodes
               for number in re.findall(r"^libvirt-(\d+)-", node["node-name"]))
    for number in range(last + 1, last + 1 + len(vm.paths)):
        monitor(vm, "blockdev-add", driver="null-co", **{"node-name": f"libvirt-{number}-storage"})
    assert vm.libvirtd.try_virsh("snapshot-create-as", vm.name, "by virsh", "--disk-only",
                                 "--diskspec", "vdb,snapshot=no").returncode != 0
    tree.mkdir("two")
    tree.check()
    tree.check_files()


def switch_over(vm, overlay, target):
    """What libvirtd asks QEMU to do for a snapshot; but this one was killed then, and knows of
    nothing."""
    used = vm.active[target]
    nodes = monitor(vm, "query-named-block-nodes", flat=True)["return"]
    node = next(node["node-name"] for node in nodes
                if node["file"] == used and node["drv"] == "qcow2")
    monitor(vm, "blockdev-add", driver="qcow2", **{"node-name": f"new-{target}"}, backing=None,
            file={"driver": "file", "filename": str(overlay)})
    assert "error" not in monitor(vm, "blockdev-snapshot", node=node, overlay=f"new-{target}")


@pytest.mark.parametrize("seen", [True, False])
def test_qemu_has_switched_over_and_libvirt_does_not_know(libvirtd, folder, new_vm, seen):
    """The VM writes to the overlays of a snapshot that was never told to be there: not a byte of
    that is lost. The daemon sees it while the VM runs, or only when it is off."""
    mount = FaultyMount(libvirtd, folder / "mount")
    try:
        mount.start()
        vm = new_vm("web1", {"vda": 1 << 20, "vdb": 1 << 20})
        tree = mount.of(vm)
        vm.start()
        make_two(tree, vm)
        before = set(vm.folder.glob("*.qcow2"))
        mount.arm("create.snapshot", "before", "pause")
        with concurrent.futures.ThreadPoolExecutor(1) as other:
            trying = other.submit((tree / "three").mkdir)
            wait_until(lambda: not mount.armed, "the overlays are there")
            for overlay in set(vm.folder.glob("*.qcow2")) - before:
                switch_over(vm, overlay, overlay.stem[-3:])
            if seen:
                libvirtd.kill()
                mount.go()
            else:
                mount.kill()
            assert isinstance(trying.exception(), OSError)
        if seen:
            libvirtd.start()
        for target in vm.paths:
            vm.write(target, 9, 0, 1 << 16)
        if seen:
            wait_until(lambda: "libvirt connected" in tree.kws("status"), "it is connected again")
            with refused(errno.EBUSY):
                (tree / "four").mkdir()
            assert "shut the VM down" in tree.kws("last_error")
            tree.check()
        vm.stop()
        if not seen:
            mount.start_again()
        (tree / "four").mkdir()
        (tree / "four").rmdir()
        tree.check()
        tree.check_files()
    finally:
        mount.give_up()


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
