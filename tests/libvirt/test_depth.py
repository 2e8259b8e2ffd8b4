# SPDX-License-Identifier: GPL-2.0-or-later
"""The governor of chains: EMLINK in time, instead of a VM that does not start one day."""
import errno
import os
import sqlite3

import pytest

from commands import refused, run, wait_until
from kwsmount import Mount

LIBVIRTS_LIMIT = 200  # layers


def set_limit(tree, limit):
    (tree / ".kws" / "max_depth").write_text(f"{limit}\n")


def make(tree, vm, *names):
    for name in names:
        vm.write("vda", len(tree.reference) + 1, len(tree.reference) << 16, 65536)
        tree.mkdir(name)


def refuse(tree, name="too much", depth=None):
    """No snapshot, and no trace of the try."""
    files = sorted(tree.vm.folder.iterdir())
    with refused(errno.EMLINK):
        (tree / name).mkdir()
    said = tree.kws("last_error")
    assert "max_depth" in said and "nothing was done" in said
    assert depth is None or f"chain of {depth} layers" in said
    assert sorted(tree.vm.folder.iterdir()) == files
    tree.check()


@pytest.mark.parametrize("running", [True, False])
def test_mkdir_stops_at_the_limit(tree, vm, running):
    if running:
        vm.start()
    set_limit(tree, 4)
    make(tree, vm, "one", "two", "three")
    refuse(tree, depth=5)
    set_limit(tree, 5)
    make(tree, vm, "four")
    refuse(tree, depth=6)
    tree.rmdir("two")
    tree.sync()
    make(tree, vm, "five")
    refuse(tree)
    tree.check_files()


def test_layers_of_deleted_snapshots_count(tree, vm):
    """They are in the chain as long as two branches share them."""
    make(tree, vm, "one", "two", "left")
    tree.revert("two")
    make(tree, vm, "right")
    set_limit(tree, 4)
    tree.rmdir("two")
    tree.sync()
    assert "tombstones 2" in tree.kws("status")  # one for each disk
    refuse(tree, depth=5)
    tree.rmdir("left")
    tree.sync()
    make(tree, vm, "one more")
    tree.check()
    tree.check_files()


def test_going_back_counts(tree, vm):
    make(tree, vm, "one", "two", "three")
    set_limit(tree, 3)
    vm.start()
    for how in "1 force", "1 keep force":
        with refused(errno.EMLINK):
            (tree / "three" / "revert").write_text(how)
        assert "chain of 4 layers" in tree.kws("last_error")
    assert vm.running
    tree.check()
    tree.check_files()
    tree.revert("two", "1 force")
    tree.check()
    tree.check_files()


def test_the_deepest_disk_counts(mount, new_vm):
    vm = new_vm("web1", {"vda": 1 << 20, "vdb": 1 << 20}, define=False)
    for number in range(3):
        top = vm.folder / f"by-hand-{number}.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", vm.paths["vdb"], top)
        vm.paths["vdb"] = top
    vm.define()
    tree = mount.of(vm)
    set_limit(tree, 4)
    refuse(tree, depth=5)
    assert "disk vdb" in tree.kws("last_error")
    vm.start()
    refuse(tree, depth=5)
    set_limit(tree, 5)
    make(tree, vm, "one")
    tree.check()


def test_the_limit_of_a_vm_and_of_the_mount(libvirtd, folder, vm):
    mount = Mount(libvirtd, folder / "mount", "max_depth=3")
    try:
        tree = mount.start().of(vm)
        assert tree.kws("max_depth") == "3 default"
        make(tree, vm, "one", "two")
        refuse(tree, depth=4)
        set_limit(tree, 4)
        for wrong in "0", "1", "201", "-3", "3 4", "0x7", "", "no":
            with refused(errno.EINVAL):
                set_limit(tree, wrong)
        assert tree.kws("max_depth") == "4"
        mount.kill()
        mount.start()
        assert tree.kws("max_depth") == "4"
        make(tree, vm, "three")
        set_limit(tree, "default")
        assert tree.kws("max_depth") == "3 default"
        refuse(tree, depth=5)
    finally:
        mount.stop()


@pytest.mark.parametrize("version", [2, 3])
def test_a_registry_of_an_earlier_version(tree, vm, mount, version):
    """It had no limits, and then a column for them."""
    (tree / ".kws" / "quiesce").write_text("no")
    os.chmod(tree.path, 0o750)
    make(tree, vm, "one")
    mount.stop()
    registry = sqlite3.connect(mount.folder / "state" / "registry.db")
    registry.executescript("DROP TABLE policy; DROP TABLE ran; "
                           "ALTER TABLE snapshot DROP COLUMN expires")
    if version == 3:
        registry.execute("ALTER TABLE vm ADD COLUMN max_depth INTEGER NOT NULL DEFAULT 0")
        registry.execute("UPDATE vm SET max_depth = 7")
    registry.execute(f"PRAGMA user_version={version}")
    registry.commit()
    registry.close()
    for _ in range(2):
        mount.start()
        assert tree.kws("quiesce") == "no"
        assert tree.kws("max_depth") == ("7" if version == 3 else "128 default")
        assert os.stat(tree.path).st_mode & 0o777 == 0o750
        tree.check()
        mount.stop()


def test_the_most_that_libvirt_takes(libvirtd, mount, new_vm):
    """A VM on as many layers as max_depth can allow runs, starts again, and loses one again; on
    one more it would not."""
    vm = new_vm("web1", {"vda": 1 << 20}, define=False)
    for number in range(LIBVIRTS_LIMIT - 2):
        top = vm.folder / f"by-hand-{number}.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-u", "-b", vm.paths["vda"],
            top, 1 << 20)
        vm.paths["vda"] = top
    vm.define()
    vm.write("vda", 1, 0, 65536)
    tree = mount.of(vm)
    set_limit(tree, LIBVIRTS_LIMIT)
    vm.start()
    make(tree, vm, "the last")
    refuse(tree, depth=LIBVIRTS_LIMIT + 1)
    libvirtd.kill()
    libvirtd.start()
    wait_until(lambda: "libvirt connected" in tree.kws("status"), "it is back")
    vm.write("vda", 3, 8192, 4096)
    vm.stop()
    refuse(tree, depth=LIBVIRTS_LIMIT + 1)
    vm.start()
    tree.check()
    tree.rmdir("the last")
    tree.sync()
    assert len(list(vm.folder.glob("*.qcow2"))) == LIBVIRTS_LIMIT - 1
    vm.stop()

    for number in range(2):  # what the governor is there for
        vm.virsh("snapshot-create-as", "web1", f"by virsh {number}", "--disk-only")
    assert "too deeply nested" in libvirtd.try_virsh("start", "web1").stderr
