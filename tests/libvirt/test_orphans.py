# SPDX-License-Identifier: GPL-2.0-or-later
"""lost+found: what nobody needs is shown, and only that; rm deletes one for good, and only what
nothing uses."""
import contextlib
import errno
import os
import re
import subprocess

import pytest

from commands import refused, run, try_run, wait_until
from kwsmount import Mount


@pytest.fixture
def lost(mount):
    return mount.point / "lost+found"


def orphan_name(vm, number=1, target="vda"):
    return f"kws-{vm.virsh('domuuid', vm.name).strip()[:8]}-{number:016x}-{target}.qcow2"


def make_orphan(vm, number=1, target="vda", backing=None, folder=None):
    """As a crash could leave one."""
    path = (folder or vm.folder) / orphan_name(vm, number, target)
    below = ["-b", backing, "-F", "qcow2"] if backing else []
    run("qemu-img", "create", "-q", "-f", "qcow2", *below, path, "4M")
    run("qemu-io", "-f", "qcow2", "-c", f"write -P {number} 0 64k", path)
    return path


def last_error(lost):
    return (lost / ".kws" / "last_error").read_text()


def shown(lost):
    return sorted(name for name in os.listdir(lost) if name != ".kws")


def wait_for(lost, number):
    """Who lists what is there waits for a second at most while kwsfs looks. Returns the names."""
    def are_there():
        names = shown(lost)
        return [names] if len(names) == number else None
    return wait_until(are_there, f"{number} are shown")[0]


def one(lost):
    return lost / wait_for(lost, 1)[0]


def test_one_is_shown_read_and_deleted(lost, vm, mount):
    path = make_orphan(vm)
    os.utime(path, (1700000000, 1700000000))
    assert re.fullmatch(r"web1-vda-2023-11-14T221320Z-0000000000000001\.qcow2", one(lost).name)
    stat, original = one(lost).stat(), path.stat()
    assert run("stat", "-c", "%A %U %h", one(lost)).strip() == "-r-------- root 1"
    assert (stat.st_size, stat.st_blocks, stat.st_mtime) == (
        original.st_size, original.st_blocks, original.st_mtime)
    assert run("stat", "-c", "%A %U", lost).strip() == "drwx------ root"
    run("cmp", one(lost), path)
    copy = mount.folder / "copy"
    run("cp", one(lost), copy)
    run("qemu-img", "compare", "-q", copy, path)
    inode = stat.st_ino
    mount.stop()
    mount.start()
    assert one(lost).stat().st_ino == inode
    run("rm", "-f", one(lost))
    assert not path.exists()
    wait_for(lost, 0)
    assert copy.exists()


def test_what_is_needed_is_not_there(lost, tree, vm):
    """In all that a VM goes through; with tombstones, side branches and an internal snapshot."""
    assert shown(lost) == []
    tree.mkdir("base")
    vm.write("vda", 1, 0, 65536)
    tree.mkdir("left")
    assert shown(lost) == []
    tree.revert("base")
    tree.mkdir("right")
    vm.start()
    assert shown(lost) == []
    tree.rmdir("base")
    tree.sync()
    assert "tombstones 2" in tree.kws("status") and shown(lost) == []
    vm.stop()
    vm.virsh("snapshot-create-as", vm.name, "inside")  # internal: lies in the active layer
    tree.revert("left")
    tree.sync()
    assert shown(lost) == []
    assert "inside" in vm.virsh("snapshot-list", vm.name, "--name")


def test_other_names_are_not_there(lost, vm):
    prefix = orphan_name(vm)[:-len("-vda.qcow2")]
    for name in ("web1.bak", f"{prefix}-vda.qcow2.bak", f"x{prefix}-vda.qcow2", f"{prefix}-.qcow2",
                 f"{prefix}-v d.qcow2", "kws-00000000-1-vda.qcow2"):
        run("qemu-img", "create", "-q", "-f", "qcow2", vm.folder / name, "1M")
    (vm.folder / orphan_name(vm, 7)).symlink_to(vm.folder / "web1.bak")
    (vm.folder / orphan_name(vm, 8)).mkdir()
    assert shown(lost) == []


def test_the_upper_one_goes_first(lost, vm):
    lower = make_orphan(vm, 1)
    upper = make_orphan(vm, 2, backing=lower)
    names = {name[-len("0000000000000001.qcow2"):]: lost / name for name in wait_for(lost, 2)}
    with refused(errno.EBUSY):
        names["0000000000000001.qcow2"].unlink()
    assert str(upper) in last_error(lost)
    names["0000000000000002.qcow2"].unlink()
    names["0000000000000001.qcow2"].unlink()
    assert not lower.exists() and not upper.exists()


def test_an_image_of_another_name_lies_on_it(lost, vm):
    path = make_orphan(vm)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", path, "-F", "qcow2", vm.folder / "mine")
    with refused(errno.EBUSY):
        one(lost).unlink()
    assert str(vm.folder / "mine") in last_error(lost)
    (vm.folder / "mine").unlink()
    one(lost).unlink()
    assert not path.exists()


def test_what_cannot_be_read_may_lie_on_it(lost, vm):
    path = make_orphan(vm)
    (vm.folder / "damaged").write_bytes(b"QFI\xfb" + bytes(200))
    with refused(errno.EBUSY):
        one(lost).unlink()
    assert str(vm.folder / "damaged") in last_error(lost)
    assert path.exists()


def test_one_that_is_damaged_itself_can_go(lost, vm):
    for number, content in (1, b""), (2, b"QFI\xfb" + bytes(200)):
        path = vm.folder / orphan_name(vm, number)
        path.write_bytes(content)
        assert one(lost).read_bytes() == content
        one(lost).unlink()
        assert not path.exists()
        wait_for(lost, 0)


def test_another_vm_takes_it(lost, vm, new_vm):
    path = make_orphan(vm)
    name = one(lost)
    other = new_vm("other", define=False)
    other.paths["vda"] = path
    other.define()
    with refused(errno.EBUSY, errno.ENOENT):
        name.unlink()
    wait_for(lost, 0)
    assert path.exists()
    other.remove()
    one(lost).unlink()
    assert not path.exists()


def test_a_snapshot_of_another_vm_needs_it(lost, tree, vm, new_vm):
    path = make_orphan(vm)
    other = new_vm("other", define=False)
    other.paths["vda"] = path
    other.define()
    other.virsh("snapshot-create-as", "other", "s", "--disk-only", "--diskspec",
                f"vda,file={other.folder}/top.qcow2")
    wait_for(lost, 0)
    other.virsh("snapshot-delete", "other", "s", "--metadata")
    assert shown(lost) == []  # it lies in the chain
    other.remove()
    wait_for(lost, 1)  # the file of virsh is none of ours
    with refused(errno.EBUSY):
        one(lost).unlink()
    assert f"{other.folder}/top.qcow2" in last_error(lost)


def test_qemu_has_it_open(lost, vm, folder):
    path = make_orphan(vm)
    process = subprocess.Popen(["qemu-nbd", "-f", "qcow2", "-r", "-t", "-k", folder / "nbd", path])
    try:
        image = f"nbd+unix:///?socket={folder}/nbd"
        wait_until(lambda: try_run("qemu-img", "info", "-f", "raw", image).returncode == 0,
                   "qemu-nbd answers")
        with refused(errno.EBUSY):
            one(lost).unlink()
        assert "open in a QEMU process" in last_error(lost)
    finally:
        process.terminate()
        process.wait()
    one(lost).unlink()
    assert not path.exists()


def test_a_saved_vm_may_know_it(lost, vm):
    path = make_orphan(vm)
    vm.start()
    vm.virsh("managedsave", vm.name)
    with refused(errno.EBUSY):
        one(lost).unlink()
    assert "saved" in last_error(lost)
    vm.virsh("managedsave-remove", vm.name)
    one(lost).unlink()
    assert not path.exists()


def test_a_vm_lies_on_the_view_of_it(lost, vm, new_vm):
    path = make_orphan(vm)
    other = new_vm("other", define=False)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", one(lost), "-F", "qcow2",
        other.paths["vda"], "4M")
    other.define()
    with refused(errno.EBUSY):
        one(lost).unlink()
    assert "other" in last_error(lost) and path.exists()


def test_a_vm_that_runs_lies_on_it_from_its_next_start_on(lost, vm, new_vm):
    path = make_orphan(vm)
    other = new_vm("other")
    other.start()
    top = other.folder / "top"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", one(lost), "-F", "qcow2", top, "4M")
    other.virsh("attach-disk", "other", top, "vdx", "--subdriver", "qcow2", "--config")
    with refused(errno.EBUSY):
        one(lost).unlink()
    assert "a disk of the VM other lies on it" in last_error(lost) and path.exists()
    other.virsh("detach-disk", "other", "vdx", "--config")
    one(lost).unlink()
    assert not path.exists()


@pytest.mark.parametrize("store", [False, True])
def test_a_vm_that_is_gone(libvirtd, folder, new_vm, store):
    """Its layers are shown under its name, and what was its disk from the first stays hidden."""
    with contextlib.ExitStack() as stack:
        (folder / "store").mkdir()
        mount = Mount(libvirtd, folder / "mount", f"store={folder}/store" if store else "")
        stack.callback(mount.stop)
        mount.start()
        lost = mount.point / "lost+found"
        vm = new_vm()
        tree = mount.of(vm)
        tree.mkdir("one")
        vm.write("vda", 1, 0, 65536)
        tree.mkdir("two")
        vm.write("vda", 2, 0, 65536)
        top = vm.active["vda"]
        assert shown(lost) == []
        vm.remove()
        assert all(name.startswith("web1-vda-") for name in wait_for(lost, 2))
        mount.stop()
        mount.start()
        names = wait_for(lost, 2)
        assert all(name.startswith("web1-vda-") for name in names)
        for _ in names:
            for name in names:
                with contextlib.suppress(OSError):
                    (lost / name).unlink()
        wait_for(lost, 0)
        assert not os.path.exists(top)
        assert vm.paths["vda"].exists()


def test_nothing_else_can_be_done_there(lost, tree, vm):
    path = make_orphan(vm)
    tree.mkdir("s")
    name = one(lost)
    with refused(errno.EPERM):
        (lost / "folder").mkdir()
    with refused(errno.EPERM):
        (lost / "file").touch()
    with refused(errno.EPERM):
        os.rename(name, lost / "other")
    with refused(errno.EPERM):
        os.rename(name, tree / "other")
    with refused(errno.EPERM):
        os.rename(tree / "s", lost / "s")
    with refused(errno.EPERM):
        os.link(name, lost / "hard")
    with refused(errno.EPERM):
        os.chmod(name, 0o600)
    with refused(errno.EROFS):
        open(name, "r+b").close()
    with refused(errno.EPERM):
        (lost / ".kws" / "last_error").unlink()
    assert path.exists() and one(lost) == name
    tree.check()


def test_without_libvirt(lost, vm, libvirtd):
    path = make_orphan(vm)
    name = one(lost)
    libvirtd.kill()
    try:
        assert one(lost) == name
        assert name.read_bytes() == path.read_bytes()
        with refused(errno.EHOSTDOWN):
            name.unlink()
    finally:
        libvirtd.start()
    assert path.exists()


def test_a_copy_has_a_name_of_its_own(lost, vm, new_vm):
    path = make_orphan(vm)
    other = new_vm("other")
    run("cp", "-a", path, other.folder)
    for name in wait_for(lost, 2):
        assert str(path.stat().st_ino) in name or str(
            (other.folder / path.name).stat().st_ino) in name
