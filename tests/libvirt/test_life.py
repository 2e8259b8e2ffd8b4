# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking snapshots, seeing them, reading them."""
import errno
import json
import os
import signal
import subprocess
import time

import pytest

from commands import refused, run, try_run, wait_until

CDROM = "<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/><readonly/></disk>"
READONLY = """<disk type='file' device='disk'><driver name='qemu' type='raw'/>
<source file='{path}'/><target dev='vdx' bus='virtio'/><readonly/></disk>"""
NETWORK = """<disk type='network' device='disk'><driver name='qemu' type='raw'/>
<source protocol='nbd' name='x'><host name='127.0.0.1' port='1'/></source>
<target dev='vdn' bus='virtio'/></disk>"""
SHARED = """<disk type='file' device='disk'><driver name='qemu' type='raw'/>
<source file='{path}'/><target dev='vds' bus='virtio'/><shareable/></disk>"""
LEFT_OUT = """<disk type='file' device='disk' snapshot='no'><driver name='qemu' type='raw'/>
<source file='{path}'/><target dev='vdl' bus='virtio'/></disk>"""


@pytest.mark.parametrize("running", [True, False])
def test_a_snapshot_keeps_what_was_there(tree, vm, running):
    if running:
        vm.start()
    vm.write("vda", 1, 0, 1 << 20)
    tree.mkdir("before")
    vm.write("vda", 2, 4096, 65536)
    vm.write("vdb", 3, 0, 4096)
    tree.mkdir("after")
    vm.write("vda", 4, 0, 4 << 20)
    tree.check()
    info = json.loads((tree / "before" / "info.json").read_text())
    assert info["consistency"] == ("crash" if running else "offline")
    assert info["parent"] is None
    assert "<name>web1</name>" in (tree / "before" / "domain.xml").read_text()


def test_times_links_and_sizes(tree, vm):
    begin = time.time()
    tree.mkdir("one")
    tree.mkdir("two")
    end = time.time()
    for name in "one", "two":
        status = os.stat(tree / name)
        assert begin - 1 <= status.st_mtime <= end + 1
        assert os.stat(tree / name / "vda.raw").st_mtime == status.st_mtime
        created = vm.virsh("snapshot-dumpxml", "web1", name).split("creationTime>")[1].split("<")[0]
        assert status.st_mtime_ns // 10**9 == int(created)
    assert tree.link("latest") == tree.link("current") == "two"
    assert tree.link("two/parent") == "../one" and tree.link("one/parent") is None
    assert os.lstat(tree / "two" / "parent").st_size == len("../one")
    assert os.stat(tree.path).st_nlink == 2 + len([".kws", "one", "two"])
    assert os.stat(tree / "one" / "vda.raw").st_size == 4 << 20
    assert os.stat(tree / "one").st_ino == os.stat(tree / "one").st_ino
    inodes = [os.stat(tree / name / file).st_ino for name in ("one", "two")
              for file in os.listdir(tree / name) if file != "parent"]
    assert len(inodes) == len(set(inodes))


def test_images_are_sparse(tree, vm, folder):
    vm.write("vda", 7, 1 << 20, 128 << 10)
    vm.start()
    tree.mkdir("s1")
    vm.write("vda", 8, 3 << 20, 128 << 10)
    tree.mkdir("s2")
    image = tree / "s2" / "vda.raw"
    assert os.stat(image).st_blocks * 512 == 256 << 10
    fd = os.open(image, os.O_RDONLY)
    try:
        assert os.lseek(fd, 0, os.SEEK_DATA) == 1 << 20
        assert os.lseek(fd, 1 << 20, os.SEEK_HOLE) == (1 << 20) + (128 << 10)
        assert os.lseek(fd, 2 << 20, os.SEEK_DATA) == 3 << 20
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
        assert os.lseek(fd, (4 << 20) - 1, os.SEEK_HOLE) == (4 << 20) - 1
        with refused(errno.ENXIO):
            os.lseek(fd, (3 << 20) + (128 << 10), os.SEEK_DATA)
        with refused(errno.ENXIO):
            os.lseek(fd, 4 << 20, os.SEEK_HOLE)
    finally:
        os.close(fd)
    run("cp", "--sparse=auto", image, folder / "copy")
    assert os.stat(folder / "copy").st_blocks * 512 <= 300 << 10
    assert (folder / "copy").read_bytes() == image.read_bytes()


def test_reads_as_qemu_img_converts_it(tree, vm, folder):
    """The judge is QEMU, on a copy of the chain taken while nothing wrote to it."""
    for number in range(4):
        vm.write("vda", number + 1, number << 18, 300 << 10)
        tree.mkdir(f"s{number}")
    for name, layers in vm.snapshot_layers().items():
        for target, layer in layers.items():
            run("qemu-img", "convert", "-O", "raw", layer, folder / "flat")
            run("qemu-img", "compare", "-f", "raw", "-F", "raw", folder / "flat",
                tree / name / f"{target}.raw")


def test_as_one_qcow2(tree, vm, folder):
    """It stands alone, holds what is there and no more, and stays as it is whatever is merged."""
    vm.write("vda", 1, 0, 1 << 20)
    tree.mkdir("s1")
    vm.start()
    vm.write("vda", 2, 3 << 20, 4096)  # one sub-cluster of a cluster
    tree.mkdir("s2")
    vm.write("vda", 3, 2 << 20, 65536)
    tree.mkdir("s3")
    image = tree / "s2" / "vda.qcow2"
    run("qemu-img", "check", "-q", image)
    run("qemu-img", "compare", "-q", "-F", "raw", image, tree / "s2" / "vda.raw")
    assert "backing file" not in run("qemu-img", "info", image)
    status = os.stat(image)
    assert status.st_size == status.st_blocks * 512 <= (1 << 20) + 7 * 65536
    before = image.read_bytes()
    assert len(before) == status.st_size
    for name in "s1", "s3":
        tree.rmdir(name)
        tree.sync()
        assert image.read_bytes() == before
    tree.mount.kill()
    tree.mount.start()  # with nothing of it in any cache
    assert image.read_bytes() == before and os.stat(image).st_size == status.st_size
    with open(image, "rb") as file:
        for at in 0, 1, 65535, 65536 * 3 + 7, len(before) - 1, len(before), len(before) + 1:
            file.seek(at)
            assert file.read(70000) == before[at:at + 70000]
    with open(image, "rb"):
        with refused(errno.EBUSY):
            (tree / "s2").rmdir()
    run("qemu-img", "convert", "-O", "raw", image, folder / "raw")
    assert (folder / "raw").read_bytes() == tree.reference["s2"]["vda"]


def test_disks_that_take_no_part(mount, new_vm, folder):
    for name in "readonly", "leftout":
        run("qemu-img", "create", "-q", "-f", "raw", folder / name, "1M")
    vm = new_vm(more_devices=CDROM + READONLY.format(path=folder / "readonly") +
                LEFT_OUT.format(path=folder / "leftout"))
    tree = mount.of(vm)
    tree.mkdir("s1")
    assert [name for name in os.listdir(tree / "s1") if name.endswith(".raw")] == ["vda.raw"]
    tree.check()


@pytest.mark.parametrize("device, target", [(NETWORK, "vdn"), (SHARED, "vds")])
def test_disks_that_cannot_take_part_are_named(mount, new_vm, folder, device, target):
    run("qemu-img", "create", "-q", "-f", "raw", folder / "disk", "1M")
    tree = mount.of(new_vm(more_devices=device.format(path=folder / "disk")))
    with refused(errno.EOPNOTSUPP):
        (tree / "s1").mkdir()
    assert target in tree.kws("last_error")
    assert tree.names == set()
    tree.check()


def test_snapshots_of_virsh_are_there(tree, vm):
    vm.start()
    vm.write("vda", 1, 0, 65536)
    vm.virsh("snapshot-create-as", "web1", "by virsh", "--disk-only")
    tree.reference["by virsh"] = vm.copy_of_content()
    vm.write("vda", 2, 0, 65536)
    tree.mkdir("by mkdir")
    tree.check()
    vm.virsh("snapshot-delete", "web1", "by virsh", "--metadata")
    del tree.reference["by virsh"]
    wait_until(lambda: tree.names == {"by mkdir"}, "it is seen")
    # libvirt has just written into 'by mkdir' that it was made of the other one's layer.
    assert (tree / "by mkdir" / "vda.raw").read_bytes() == tree.reference["by mkdir"]["vda"]


def test_internal_snapshots_are_left_alone(mount, new_vm):
    vm = new_vm()
    tree = mount.of(vm)
    vm.virsh("snapshot-create-as", "web1", "internal")
    assert tree.names == set() and tree.link("current") is None
    tree.mkdir("external")
    with refused(errno.EEXIST):
        tree.mv("external", "internal")
    assert tree.names == {"external"} and tree.link("external/parent") is None
    tree.rmdir("external")
    tree.sync()
    assert "internal" in vm.virsh("snapshot-list", "web1", "--name")
    assert "internal" in run("qemu-img", "snapshot", "-l", vm.active["vda"])


def test_vms_come_and_go(mount, new_vm):
    assert mount.vms == set()
    vm = new_vm("first")
    wait_until(lambda: mount.vms == {"first"}, "the new VM is listed")
    tree = mount.of(vm)
    assert tree.kws("state") == "shut off"
    vm.start()
    wait_until(lambda: tree.kws("state") == "running", "it is seen running")
    vm.stop()
    wait_until(lambda: tree.kws("state") == "shut off", "it is seen stopped")
    vm.virsh("domrename", "first", "second")
    vm.name = "second"
    wait_until(lambda: mount.vms == {"second"}, "the VM has its new name")
    vm.virsh("undefine", "second")
    wait_until(lambda: mount.vms == set(), "the VM is gone")


def test_quiesce(tree, vm):
    assert tree.kws("quiesce") == "auto"
    (tree / ".kws" / "quiesce").write_text("yes\n")
    assert tree.kws("quiesce") == "yes"
    tree.mkdir("while off")  # there is nothing to freeze
    vm.start()
    with refused(errno.ETIMEDOUT):
        (tree / "no agent").mkdir()
    assert "agent" in tree.kws("last_error")
    with refused(errno.EINVAL):
        (tree / ".kws" / "quiesce").write_text("perhaps\n")
    assert tree.kws("quiesce") == "yes"
    (tree / ".kws" / "quiesce").write_text("no")
    tree.mkdir("without")
    tree.check()


def test_a_saved_vm_is_left_alone(tree, vm):
    """Its memory goes on with the disks of today."""
    vm.start()
    tree.mkdir("s1")
    vm.virsh("managedsave", "web1")
    with refused(errno.EBUSY):
        (tree / "s2").mkdir()
    with refused(errno.EBUSY):
        (tree / "s1" / "revert").write_text("1 force\n")
    assert "managedsave" in tree.kws("last_error")
    vm.virsh("managedsave-remove", "web1")
    tree.mkdir("s2")
    tree.check()


def test_loop_mount_of_an_image(mount, new_vm, folder):
    vm = new_vm(disks={"vda": 16 << 20})
    run("qemu-img", "convert", "-O", "raw", vm.active["vda"], folder / "raw")
    run("mkfs.ext4", "-q", "-F", folder / "raw")
    run("qemu-img", "convert", "-O", "qcow2", folder / "raw", vm.active["vda"])
    tree = mount.of(vm)
    (tree / "s1").mkdir()
    (folder / "disk").mkdir()
    run("mount", "-o", "loop,ro,noload", tree / "s1" / "vda.raw", folder / "disk")
    try:
        assert "lost+found" in os.listdir(folder / "disk")
        with refused(errno.EBUSY):
            (tree / "s1").rmdir()
    finally:
        run("umount", folder / "disk")
    wait_until(lambda: try_run("rmdir", tree / "s1").returncode == 0, "the loop device lets go")


def test_what_cannot_be_read_is_refused_by_name(mount, new_vm):
    vm = new_vm()
    image = vm.active["vda"]
    os.unlink(image)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=data", image, "1M",
        cwd=vm.folder)
    tree = mount.of(vm)
    (tree / "s1").mkdir()
    done = subprocess.run(["cat", tree / "s1" / "vda.raw"], capture_output=True, text=True,
                          check=False)
    assert done.returncode != 0 and done.stdout == ""
    assert "Operation not supported" in done.stderr
    assert "absolute path" in tree.kws("last_error")


def test_checksums(tree, vm):
    vm.write("vda", 1, 0, 1 << 20)
    vm.write("vdb", 2, 4096, 8192)
    tree.mkdir("one")
    sums = tree / "one" / "SHA256SUMS"
    assert sums.read_text().startswith("# ")
    assert try_run("sha256sum", "-c", sums, cwd=tree / "one").returncode != 0
    sums.write_text("1\n")
    wait_until(lambda: "#" not in sums.read_text(), "they are made")
    run("sha256sum", "--strict", "-c", sums, cwd=tree / "one")
    assert [line.split("  ")[1] for line in sums.read_text().splitlines()] == [
        "vda.raw", "vda.qcow2", "vdb.raw", "vdb.qcow2"]
    assert sums.stat().st_size == len(sums.read_text())
    kept = sums.read_text()
    sums.write_text(kept)  # as `cp` onto itself does
    sums.write_text("1\n")
    with refused(errno.EINVAL):
        sums.write_text("0\n")
    with refused(errno.EINVAL):
        sums.write_text(kept.replace("a", "b"))
    assert sums.read_text() == kept


def test_checksums_outlive_the_daemon(tree, vm, mount):
    """Also the wish for them; and a delete does not wait for them."""
    vm.write("vda", 1, 0, 1 << 20)
    tree.mkdir("one")
    tree.mkdir("two")
    (tree / "one" / "SHA256SUMS").write_text("1\n")
    (tree / "two" / "SHA256SUMS").write_text("1\n")
    mount.kill()
    mount.start()
    wait_until(lambda: "#" not in (tree / "two" / "SHA256SUMS").read_text(), "they are made")
    kept = (tree / "two" / "SHA256SUMS").read_text()
    tree.rmdir("one")
    tree.sync()
    assert (tree / "two" / "SHA256SUMS").read_text() == kept
    run("sha256sum", "--strict", "-c", "SHA256SUMS", cwd=tree / "two")


def test_no_checksums_of_what_cannot_be_read(tree, vm):
    vm.write("vda", 1, 0, 1 << 20)
    tree.mkdir("one")
    layer = vm.snapshot_layers()["one"]["vda"]
    os.truncate(layer, os.stat(layer).st_size - (512 << 10))
    (tree / "one" / "SHA256SUMS").write_text("1\n")
    wait_until(lambda: "no checksums" in tree.kws("last_error"), "it is given up")
    assert "cut off" in tree.kws("last_error")
    assert (tree / "one" / "SHA256SUMS").read_text().startswith("# write 1")


@pytest.mark.parametrize("bit, word", [(0, "dirty"), (1, "corrupt")])
def test_layers_that_say_they_are_not_well(tree, vm, bit, word):
    vm.write("vda", 1, 0, 1 << 20)
    tree.mkdir("one")
    with open(vm.snapshot_layers()["one"]["vda"], "r+b") as layer:
        layer.seek(72)  # incompatible features
        layer.write((1 << bit).to_bytes(8, "big"))
    assert (tree / "one" / "vda.raw").read_bytes() == tree.reference["one"]["vda"]
    assert f"marked as {word}" in tree.kws("last_error")


@pytest.mark.parametrize("verb", ["mkdir", "rmdir", "mv"])
def test_ctrl_c_leaves_nothing_half_done(tree, vm, verb):
    """Whenever it comes: the command ends, what it asked for is done or not, and goes on working."""
    vm.start()
    for number, delay in enumerate([0, .001, .003, .01, .02, .04, .08]):
        old, new = f"old {number}", f"new {number}"
        if verb != "mkdir":
            tree.mkdir(old)
        arguments = {"mkdir": [new], "rmdir": [old], "mv": [old, new]}[verb]
        before = dict(tree.reference)
        command = subprocess.Popen([verb] + [tree / name for name in arguments])
        time.sleep(delay)
        command.send_signal(signal.SIGINT)
        command.wait(timeout=60)
        wait_until(lambda: tree.vm.snapshot_tree().keys() == tree.names, "virsh says what ls says")
        content = before.pop(old, None) or vm.copy_of_content()
        after = before if verb == "rmdir" else before | {new: content}
        undone = before if verb == "mkdir" else before | {old: content}
        assert tree.names in (set(after), set(undone))
        tree.reference = after if tree.names == set(after) else undone
        tree.check()
    tree.check_files()
