# SPDX-License-Identifier: GPL-2.0-or-later
"""VMs made from a snapshot: they share its blocks, and nothing else."""
import errno
import json
import os
import signal

import pytest

from clones import Clones, remove_clones
from commands import refused, run, wait_until
from faults import is_settled
from vm import format_of


@pytest.fixture
def clones(tree, vm, libvirtd):
    """Those of a snapshot with data on it; the VM has gone on since."""
    vm.write("vda", 1, 0, 1 << 20)
    tree.mkdir("golden")
    vm.write("vda", 2, 4096, 1 << 16)
    yield Clones(tree, "golden")
    remove_clones(libvirtd, ["web-01", "web-02", "web-03"])


def backing_chain(path):
    return [layer["filename"] for layer in
            json.loads(run("qemu-img", "info", "-U", "--backing-chain", "--output=json", path))]


def check_disks(vm, folder):
    """What the VM would start with."""
    for target, path in vm.active.items():
        run("qemu-img", "convert", "-U", "-O", "raw", path, folder / "flat")
        assert (folder / "flat").read_bytes() == bytes(vm.content[target]), (vm.name, target)


@pytest.mark.parametrize("running", [True, False])
def test_a_clone_is_a_vm(clones, tree, vm, mount, folder, running):
    if running:
        vm.start()
    before = vm.images
    clone = clones.make("web-01")
    assert clones.names == {"web-01"} and mount.vms == {"web1", "web-01"}
    assert clone.state == "shut off" == (clones / "web-01" / "state").read_text().rstrip("\n")
    assert os.path.samefile(clones / "web-01" / "vm", mount.point / "snapshots" / "web-01")
    assert vm.images - before == set(clone.active.values())
    golden = vm.snapshot_layers()["golden"]
    for target, path in clone.active.items():
        assert backing_chain(path)[1] == golden[target]
        features = json.loads(run("qemu-img", "info", "--output=json", path))
        assert features["format-specific"]["data"]["extended-l2"]
        assert os.stat(path).st_blocks * 512 < 1 << 20
    check_disks(clone, folder)
    clone.start()
    clone.write("vda", 7, 8192, 1 << 18)
    vm.write("vda", 8, 1 << 19, 1 << 18)
    clone.flush("vda")
    check_disks(clone, folder)
    tree.check()
    clone.stop()
    check_disks(clone, folder)
    (clones / "web-01").rmdir()
    assert clones.names == set() and mount.vms == {"web1"} and vm.images == before
    if running:
        vm.stop()
    tree.check()
    tree.check_files()


def test_state(clones, libvirtd):
    clone = clones.make("web-01")
    state = clones / "web-01" / "state"
    for word, becomes in [("start", "running"), ("reset", "running"), ("start", "running"),
                          ("stop", "shut off"), ("stop", "shut off")]:
        state.write_text(word)
        assert state.read_text().rstrip("\n") == clone.state == becomes
    state.write_text("start\n")
    clone.virsh("suspend", clone.name)
    wait_until(lambda: state.read_text() == "paused\n", "it is seen")
    state.write_text("start")
    assert clone.state == "running"
    state.write_text(state.read_text())  # does nothing, as everywhere
    for word in "1", "start stop", "shut off":
        with refused(errno.EINVAL):
            state.write_text(word + "\n")
    assert clone.state == "running"
    (clones / "web-01").rmdir()
    assert "web-01" not in libvirtd.virsh("list", "--all")


def test_what_is_refused(clones, tree, vm, mount):
    for name, code in [("web1", errno.EEXIST), (".web", errno.EINVAL), ("a\nb", errno.EINVAL)]:
        with refused(code):
            (clones / name).mkdir()
    clones.make("web-01")
    with refused(errno.EEXIST):
        (clones / "web-01").mkdir()
    with refused(errno.EPERM):
        (tree / "golden").rmdir()
    assert "web-01" in tree.kws("last_error")
    with refused(errno.EPERM):
        os.rename(clones / "web-01", clones / "web-02")
    with refused(errno.EPERM):
        os.unlink(clones / "web-01" / "state")
    # Of a clone with a snapshot nothing is removed.
    own = mount.point / "snapshots" / "web-01" / "s1"
    own.mkdir()
    with refused(errno.EPERM):
        (clones / "web-01").rmdir()
    assert "s1" in (own.parent / ".kws" / "last_error").read_text()
    own.rmdir()
    (clones / "web-01").rmdir()
    (tree / "golden").rmdir()


def test_what_a_clone_stands_on_stays(clones, tree, vm, folder):
    """Nothing is merged into it or out of it, as long as the clone is there."""
    vm.start()
    tree.mkdir("later")
    vm.write("vda", 5, 0, 1 << 16)
    clone = clones.make("web-01")
    tree.rmdir("later")
    tree.sync()
    clone.start()
    clone.write("vda", 6, 1 << 16, 1 << 16)
    check_disks(clone, folder)
    tree.check()
    clone.stop()
    (clones / "web-01").rmdir()
    tree.rmdir("golden")
    vm.stop()
    wait_until(lambda: is_settled(tree), "what was being merged is")
    tree.check_files()


def test_a_clone_whose_disk_is_away(clones, tree, vm, folder, libvirtd):
    """Nobody sees then that it needs what it stands on; but it is known."""
    tree.mkdir("later")
    above = Clones(tree, "later")
    clone = above.make("web-01")
    for path in clone.paths.values():
        path.rename(folder / path.name)
    tree.rmdir("golden")  # what lies under it could be merged with what the clone stands on
    tree.sync()
    libvirtd.virsh("undefine", "web-01")
    wait_until(lambda: (above / "web-01" / "state").read_text() == "undefined\n", "it is seen")
    tree.mkdir("again")
    tree.rmdir("again")
    tree.sync()
    for path in clone.paths.values():
        (folder / path.name).rename(path)
    for target, path in clone.paths.items():
        run("qemu-img", "convert", "-O", "raw", path, folder / "flat")
        assert (folder / "flat").read_bytes() == bytes(clone.content[target])


def test_rules_keep_what_clones_stand_on(clones, tree, vm):
    clones.make("web-01")
    tree.mkdir("later")
    (tree / ".kws" / "max_count").write_text("1")
    (tree / "golden" / "expires").write_text("+1s")
    tree.sync()
    wait_until(lambda: "clones" in (tree / ".kws" / "prune").read_text(), "the rules know it")
    assert "golden" in tree.names
    (clones / "web-01").rmdir()
    wait_until(lambda: "golden" not in tree.names, "it goes")


def test_clones_of_clones(clones, tree, mount, folder):
    first = clones.make("web-01")
    first.write("vda", 3, 0, 4096)
    own = mount.of(first)
    own.mkdir("s1")
    first.write("vda", 4, 0, 4096)
    second = Clones(own, "s1").make("web-02")
    check_disks(second, folder)
    with refused(errno.EPERM):
        (clones / "web-01").rmdir()
    with refused(errno.EPERM):
        (own / "s1").rmdir()
    (own / "s1" / "clones" / "web-02").rmdir()
    own.rmdir("s1")
    own.sync()
    (clones / "web-01").rmdir()
    tree.check_files()


def test_by_hand(clones, tree, vm, libvirtd, mount, folder):
    """What virsh and qemu-img do to a clone."""
    clone = clones.make("web-01")
    libvirtd.virsh("domrename", "web-01", "web-03")
    wait_until(lambda: mount.vms == {"web1", "web-03"}, "the new name is seen")
    assert os.readlink(clones / "web-01" / "vm") == "../../../../web-03"
    # Somebody's own overlay on it.
    path = clone.paths["vda"]
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", path, "-F", "qcow2", path.parent / "mine")
    with refused(errno.EPERM):
        (clones / "web-01").rmdir()
    (path.parent / "mine").unlink()
    libvirtd.virsh("undefine", "web-03")
    wait_until(lambda: (clones / "web-01" / "state").read_text() == "undefined\n", "it is seen")
    assert not os.path.lexists(clones / "web-01" / "vm")
    with refused(errno.EPERM):
        (tree / "golden").rmdir()
    (clones / "web-01").rmdir()
    # Its files were given up by whoever undefined it: for an admin to look at.
    lost = mount.point / "lost+found"
    wait_until(lambda: len(os.listdir(lost)) == len([".kws", *clone.paths]), "they are shown")
    for name in os.listdir(lost):
        if name != ".kws":
            os.unlink(lost / name)
    wait_until(lambda: os.listdir(lost) == [".kws"], "they have gone")
    tree.check_files()


def test_after_a_restart(clones, mount, tree):
    clone = clones.make("web-01")
    inode = os.stat(clones / "web-01").st_ino
    mount.process.send_signal(signal.SIGTERM)
    mount.start_again()
    assert clones.names == {"web-01"} and os.stat(clones / "web-01").st_ino == inode
    with refused(errno.EPERM):
        (tree / "golden").rmdir()
    (clones / "web-01").rmdir()
    assert all(not path.exists() for path in clone.paths.values())


def test_store(libvirtd, new_vm, folder):
    """Where overlays have a place of their own clones' are there, too."""
    from kwsmount import Mount
    mount = Mount(libvirtd, folder / "mount", f"store={folder}/store")
    (folder / "store").mkdir(mode=0o711)
    vm = new_vm()
    try:
        tree = mount.start().of(vm)
        tree.mkdir("golden")
        clone = Clones(tree, "golden").make("web-01")
        assert all(path.is_relative_to(folder / "store") for path in clone.paths.values())
        assert format_of(clone.paths["vda"]) == "qcow2"
        clone.start()
        (tree / "golden" / "clones" / "web-01").rmdir()
        assert all(not path.exists() for path in clone.paths.values())
        tree.rmdir("golden")
    finally:
        remove_clones(libvirtd, ["web-01"])
        mount.stop()
