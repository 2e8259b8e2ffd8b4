# SPDX-License-Identifier: GPL-2.0-or-later
"""What went wrong for people with external snapshots elsewhere, as their trackers tell it; each is done
here, and must not."""
import contextlib
import errno
import os
import signal
import subprocess

from commands import refused, run, wait_until

MIB = 1 << 20


def make(tree, vm, *names):
    for name in names:
        number = len(tree.reference) + 1
        for target in vm.paths:
            vm.write(target, number, number << 16, 96 << 10)
        tree.mkdir(name)


def check(tree):
    tree.check()
    tree.check_files()


def test_deleting_an_external_snapshot_deleted_its_parents_image(mount, new_vm, folder):
    """A VM with an internal snapshot got an external one, went back to the internal one, and when the
    external one was deleted, the VM's own disk went with it (virt-manager issue 811, libvirt issue
    734)."""
    vm = new_vm()
    tree = mount.of(vm)
    vm.write("vda", 1, 0, MIB)
    vm.virsh("snapshot-create-as", "web1", "internal")
    inner = bytes(vm.content["vda"])
    make(tree, vm, "external")
    # libvirt 9.0 cannot go back to it by itself any more: as its users do.
    vm.virsh("detach-disk", "web1", "vda", "--config")
    run("qemu-img", "snapshot", "-a", "internal", vm.paths["vda"])
    vm.virsh("attach-disk", "web1", vm.paths["vda"], "vda", "--subdriver", "qcow2", "--config")
    vm.content["vda"][:] = inner
    assert tree.names == {"external"}
    with refused(errno.EIO):
        (tree / "external" / "vda.raw").read_bytes()
    tree.rmdir("external")
    tree.sync()
    assert vm.paths["vda"].exists()
    assert "internal" in run("qemu-img", "snapshot", "-l", vm.paths["vda"])
    vm.start()
    vm.stop()
    run("qemu-img", "convert", "-O", "raw", vm.active["vda"], folder / "flat")
    assert (folder / "flat").read_bytes() == inner


def test_deleting_the_latest_snapshot_deleted_the_whole_chain(tree, vm):
    """Who deleted the newest snapshot of a volume lost all those before it (CloudStack issue 9446)."""
    make(tree, vm, "s1", "s2", "s3")
    tree.rmdir("s3")
    check(tree)
    tree.rmdir("s2")
    check(tree)
    tree.revert("s1")
    check(tree)


def test_a_hidden_parent_was_merged_away_from_under_a_branch(tree, vm):
    """A snapshot with two branches was deleted and kept, hidden; when the one before it was deleted,
    too, going back to the other branch found a file that was not there (CloudStack pull request
    10632)."""
    make(tree, vm, "s1", "s2", "s3")
    tree.revert("s2")
    make(tree, vm, "s4")
    vm.start()
    for name in "s2", "s1":
        tree.rmdir(name)
        check(tree)
    tree.revert("s3", "1 force")
    check(tree)
    tree.revert("s4")
    check(tree)


def test_one_disk_was_merged_and_the_other_was_not(tree, vm):
    """The merge of a VM's second disk failed after that of the first was done; what was kept of the VM
    then named a file that was gone, and the VM did not start again (CloudStack issue 14030)."""
    vm.start()
    make(tree, vm, "s1", "s2")
    vm.write("vdb", 7, 0, 65536)
    # The layer of vdb that would be written to is one that QEMU cannot open for writing.
    base = vm.paths["vdb"]
    run("chattr", "+i", base)
    try:
        tree.rmdir("s1")
        with refused(errno.EIO):
            tree.sync()
        tree.check()
    finally:
        run("chattr", "-i", base)
    vm.stop()
    vm.start()
    tree.check()
    vm.write("vda", 8, 0, 65536)
    make(tree, vm, "s3")
    check(tree)
    vm.stop()
    check(tree)


def test_the_image_that_a_snapshot_needed_was_thrown_away_as_unused(mount, new_vm, folder):
    """A template that nothing seemed to refer to was deleted, and with it went every snapshot that lay
    on it (CloudStack issue 8034). Here: the last snapshot of a VM whose disk another VM lies on."""
    vm = new_vm("template")
    tree = mount.of(vm)
    make(tree, vm, "golden")
    frozen = vm.snapshot_layers()["golden"]["vda"]
    clone = new_vm("clone", define=False)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", frozen, clone.paths["vda"])
    clone.content["vda"] = bytearray(tree.reference["golden"]["vda"])
    clone.define()
    tree.rmdir("golden")
    vm.write("vda", 9, 0, MIB)
    tree.sync()
    assert os.path.exists(frozen)
    run("qemu-img", "convert", "-O", "raw", clone.paths["vda"], folder / "flat")
    assert (folder / "flat").read_bytes() == bytes(clone.content["vda"])


def test_going_back_took_only_the_first_disk_along(tree, vm):
    """Of a VM with several disks only the first one went back, the others stayed as they were
    (virsh-external-snapshots issue 1)."""
    make(tree, vm, "s1")
    before = vm.copy_of_content()
    for target in vm.paths:
        vm.write(target, 66, 0, 512 << 10)
    tree.revert("s1")
    assert vm.copy_of_content() == before
    check(tree)


def test_going_back_while_the_vm_runs_did_nothing(tree, vm):
    """It was said to have worked, and the VM ran on with what it had (CloudStack issue 4356)."""
    vm.start()
    make(tree, vm, "s1")
    vm.write("vda", 66, 0, 65536)
    with refused(errno.EBUSY):
        (tree / "s1" / "revert").write_text("1")
    tree.revert("s1", "1 force")
    check(tree)


def test_a_merge_that_failed_left_the_vm_on_a_file_that_was_deleted(tree, vm):
    """QEMU was not allowed to write to the lower image, the merge ended with an error, the overlay was
    deleted nevertheless, and all that the guest wrote after that was gone at its next start (Incus
    issue 3654, backup-vm issue 17)."""
    vm.start()
    make(tree, vm, "s1")
    active = vm.active
    run("chattr", "+i", vm.paths["vda"])
    try:
        tree.rmdir("s1")
        with refused(errno.EIO):
            tree.sync()
        assert tree.kws("last_error") and vm.active["vda"] == active["vda"]
        vm.write("vda", 55, 0, MIB)
        assert os.path.exists(active["vda"])
    finally:
        run("chattr", "-i", vm.paths["vda"])
    vm.write("vda", 56, 8192, 4096)
    make(tree, vm, "s2")  # the next operation tries again
    check(tree)
    vm.stop()
    check(tree)


def test_a_vm_whose_snapshot_was_interrupted_could_not_be_started(tree, vm):
    """QEMU was killed in the middle of a snapshot, and libvirt waited for it for days, holding the VM
    (libvirt issue 36)."""
    vm.start()
    make(tree, vm, "s1")
    qemu = vm.qemu
    os.kill(qemu, signal.SIGSTOP)
    mkdir = subprocess.Popen(["mkdir", tree / "s2"], stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: len(vm.images) == 6, "the overlays are made")
    finally:
        os.kill(qemu, signal.SIGKILL)
        mkdir.communicate(timeout=60)
    wait_until(lambda: not vm.running, "libvirt has seen it")
    if mkdir.returncode == 0:  # libvirt had not begun yet, and took it of a VM that was off
        tree.reference["s2"] = vm.copy_of_content()
    check(tree)
    vm.start()
    make(tree, vm, "s3")
    check(tree)


def test_snapshots_came_faster_than_they_were_merged(tree, vm):
    """A backup took and deleted snapshots day by day, the merges did not keep up, and one day there was
    no snapshot any more: the chain was too long (Xen Orchestra issues 2193 and 4965)."""
    (tree / ".kws" / "max_depth").write_text("4")
    vm.start()
    for day in range(8):
        vm.write("vda", day, day << 14, 65536)
        with contextlib.suppress(OSError):
            tree.mkdir(f"day {day}")
        if len(tree.reference) == 2:
            tree.rmdir(min(tree.reference, key=lambda name: int(name.split()[1])))
        if day % 4 == 3:
            tree.sync()
    tree.sync()
    tree.mkdir("the last")
    check(tree)


def test_a_disk_that_was_added_later_was_lost_by_going_back(mount, new_vm):
    """The VM went back to a snapshot from before a disk was attached; the disk could not be attached
    again (Kimchi issue 626)."""
    vm = new_vm("web1", {"vda": MIB, "vdb": MIB}, define=False)
    later, content = vm.paths.pop("vdb"), vm.content.pop("vdb")
    vm.define()
    tree = mount.of(vm)
    make(tree, vm, "s1")
    attach = ("attach-disk", "web1", later, "vdb", "--subdriver", "qcow2", "--targetbus", "virtio",
              "--config")
    vm.virsh(*attach)
    run("qemu-io", "-c", "write -q -P 44 0 64k", later)
    content[:65536] = bytes([44]) * 65536
    tree.revert("s1")
    tree.sync()
    vm.virsh(*attach)
    vm.paths["vdb"], vm.content["vdb"] = later, content
    vm.start()
    make(tree, vm, "s2")
    vm.stop()
    check(tree)


def test_undefining_a_vm_left_its_disk_in_pieces(tree, vm, folder):
    """Deleting a VM removed the topmost file of its disk and left the others, of which nobody knew any
    more what they were (Cockpit Machines issue 2642). kwsfs removes nothing of a VM that goes: all
    of it is there when it comes back."""
    make(tree, vm, "s1", "s2")
    tree.rmdir("s1")
    images, definition = vm.images, vm.virsh("dumpxml", "web1")
    vm.virsh("undefine", "web1", "--snapshots-metadata")
    wait_until(lambda: not tree.path.exists(), "it is gone")
    kept = vm.images
    assert kept <= images
    (folder / "vm.xml").write_text(definition)
    vm.virsh("define", folder / "vm.xml")
    wait_until(tree.path.exists, "it is back")
    tree.reference.clear()
    tree.sync()
    assert vm.images == kept or vm.images < kept
    tree.mount.stop()
    tree.mount.start()
    for target, top in vm.active.items():
        run("qemu-img", "convert", "-O", "raw", top, folder / "flat")
        assert (folder / "flat").read_bytes() == bytes(vm.content[target])


def test_the_overlay_had_the_name_of_the_file_under_it(tree, vm):
    """After a merge that failed, the next snapshot was to be made in the very file that it should lie on
    (backup-vm issue 17). No two layers ever have one name, whatever the snapshots are called."""
    seen = set(vm.images)
    for _ in range(3):
        make(tree, vm, "same")
        new = vm.images - seen
        assert len(new) == len(vm.paths)
        seen |= new
        tree.rmdir("same")
        check(tree)


def test_going_back_to_a_smaller_disk(mount, new_vm):
    """A volume that had grown went back to a snapshot, and was still taken for as large as before
    (CloudStack pull request 10482)."""
    vm = new_vm("web1", {"vda": 2 * MIB})
    tree = mount.of(vm)
    make(tree, vm, "small")
    run("qemu-img", "resize", "-q", vm.active["vda"], 3 * MIB)
    vm.content["vda"] += bytes(MIB)
    vm.write("vda", 9, 2 * MIB, 65536)
    make(tree, vm, "large")
    tree.revert("small")
    assert len(vm.content["vda"]) == 2 * MIB
    check(tree)
    vm.start()
    vm.write("vda", 10, MIB, 65536)
    assert "2097152" in vm.virsh("domblkinfo", "web1", "vda").split("\n", 1)[0]
    make(tree, vm, "again")
    tree.rmdir("small")
    vm.stop()
    tree.revert("large")
    check(tree)
