# SPDX-License-Identifier: GPL-2.0-or-later
"""Trees as they are found: of any shape, on any base, in any place, and changed by others, whether
kwsfs was there or not. Whatever was done, what is shown reads as it did, or is refused with a reason."""
import contextlib
import errno
import itertools
import json
import os
import shutil
import threading
import time

import libvirt
import pytest

from commands import refused, run, wait_until
from kwsmount import Mount

CDROM = """<disk type='file' device='cdrom'><source file='/{number}.iso'/><target dev='sda' bus='sata'/>
<readonly/></disk></devices>"""

both = pytest.mark.parametrize("running", [True, False])
# Whether kwsfs runs while others change the tree.
away = pytest.mark.parametrize("away", [True, False])


def make(tree, vm, *names):
    for name in names:
        number = len(tree.reference) + 1
        for target in vm.paths:
            vm.write(target, number, number << 16, 96 << 10)
        tree.mkdir(name)
    vm.write("vda", 99, 0, 4096)


def delete(tree, *names):
    for name in names:
        tree.rmdir(name)
        tree.check()
        tree.check_files()


@contextlib.contextmanager
def behind_our_back(mount, away):
    if away:
        mount.stop()
    yield
    if away:
        mount.start()


def refuse_to_read(tree, name, *words, target="vda"):
    """EIO for what is not any more what it was, and the reason."""
    for file in f"{target}.raw", f"{target}.qcow2":
        with refused(errno.EIO):
            (tree / name / file).read_bytes()
    said = tree.kws("last_error")
    for word in words:
        assert word in said, said


def cannot_be_read(path):
    try:
        path.read_bytes()
    except OSError:
        return True
    return False


def check_but(tree, *lost, target="vda"):
    """As check(), of all but a disk of some snapshots."""
    kept = {name: tree.reference[name].pop(target) for name in lost}
    tree.check()
    for name, content in kept.items():
        tree.reference[name][target] = content


def chain_of(path):
    said = run("qemu-img", "info", "-U", "--backing-chain", "--output=json", path)
    return [layer["filename"] for layer in json.loads(said)]


# ---- shapes ----

@both
def test_three_branches_and_the_vm_on_the_fork(tree, vm, running):
    """A tombstone goes as soon as the last but one of those on top of it does."""
    make(tree, vm, "base", "left", "leaf")
    for name in "middle", "right":
        tree.revert("base")
        make(tree, vm, name)
    tree.revert("base")
    vm.write("vda", 50, 8192, 65536)
    if running:
        vm.start()
    for name, tombstones in ("base", 2), ("leaf", 2), ("left", 2), ("middle", 2), ("right", 0):
        delete(tree, name)
        assert f"tombstones {tombstones}" in tree.kws("status"), name
    assert vm.images == {str(path) for path in vm.paths.values()}


@both
def test_a_raw_base(mount, new_vm, running):
    vm = new_vm(define=False)
    os.unlink(vm.paths["vda"])
    vm.paths["vda"] = vm.folder / "disk.raw"
    run("qemu-img", "create", "-q", "-f", "raw", vm.paths["vda"], len(vm.content["vda"]))
    vm.define()
    tree = mount.of(vm)
    if running:
        vm.start()
    make(tree, vm, "one", "two", "three")
    tree.revert("two", "1 force")
    if running:
        vm.start()
    make(tree, vm, "four")
    delete(tree, "one", "two", "four", "three")
    assert vm.images == {str(vm.folder / "disk.raw")}


@both
def test_disks_in_different_places(mount, new_vm, folder, running):
    """Another folder, on another file system."""
    vm = new_vm("web1", {"vda": 1 << 20, "vdb": 1 << 20}, define=False)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64m,mode=0755", "none", elsewhere)
    try:
        vm.paths["vdb"] = elsewhere / "b.qcow2"
        run("mv", vm.folder / "vdb.qcow2", vm.paths["vdb"])
        vm.define()
        tree = mount.of(vm)
        if running:
            vm.start()
        make(tree, vm, "one", "two", "three")
        assert {os.path.dirname(path) for path in vm.active.values()} == {
            str(vm.folder), str(elsewhere)}
        delete(tree, "two", "one")
        tree.revert("three", "1 force")
        tree.check_files()
        delete(tree, "three")
        vm.remove()
    finally:
        mount.stop()
        run("umount", elsewhere)


@both
def test_a_base_with_internal_snapshots(tree, vm, folder, running):
    """What qemu-img keeps inside of the base stays as it is, whatever is merged into it."""
    vm.write("vda", 40, 0, 1 << 20)
    run("qemu-img", "snapshot", "-c", "inner", vm.active["vda"])
    inner = bytes(vm.content["vda"])
    if running:
        vm.start()
    make(tree, vm, "one", "two", "three")
    delete(tree, "one", "three", "two")
    if running:
        vm.stop()
    run("qemu-img", "convert", "-l", "snapshot.name=inner", "-O", "raw", vm.paths["vda"],
        folder / "inner")
    assert (folder / "inner").read_bytes() == inner


def test_an_internal_snapshot_in_a_layer_of_ours(mount, new_vm):
    """It lies in the layer that a merge would end: so there is none until it goes."""
    vm = new_vm()
    tree = mount.of(vm)
    make(tree, vm, "one")
    vm.virsh("snapshot-create-as", "web1", "internal")
    make(tree, vm, "two")
    for name in "one", "two":
        tree.rmdir(name)
        tree.check_files()
        assert "internal" in run("qemu-img", "snapshot", "-l", chain_of(vm.active["vda"])[-2])
    assert "internal" in vm.virsh("snapshot-list", "web1", "--name")
    assert "tombstones 1" in tree.kws("status")


@both
@pytest.mark.parametrize("order", [("v1", "k2", "v3", "k4"), ("k4", "v3", "k2", "v1"),
                                   ("k2", "v1", "k4", "v3")])
def test_snapshots_of_virsh_between_ours(tree, vm, running, order):
    """With the names of files that virsh gives."""
    if running:
        vm.start()
    for number, name in enumerate(("v1", "k2", "v3", "k4"), start=1):
        vm.write("vda", number, number << 16, 96 << 10)
        if name.startswith("k"):
            tree.mkdir(name)
        else:
            vm.virsh("snapshot-create-as", "web1", name, "--disk-only")
            tree.reference[name] = vm.copy_of_content()
    tree.check()
    tree.check_files()
    delete(tree, *order)
    assert vm.images == {str(path) for path in vm.paths.values()}


# ---- merged by others ----

@away
def test_virsh_merged_all_into_the_base(tree, vm, mount, away):
    """All that the snapshots of this disk were is gone, and none of it is made up."""
    vm.start()
    make(tree, vm, "one", "two", "three")
    left = vm.active["vda"]
    with behind_our_back(mount, away):
        vm.virsh("blockcommit", "web1", "vda", "--active", "--pivot", "--wait")
    os.unlink(left)  # virsh leaves it there
    for name in tree.reference:
        wait_until(lambda: cannot_be_read(tree / name / "vda.raw"), "it is seen")
        refuse_to_read(tree, name, "the VM web1 has it as its disk")
        with refused(errno.EIO):
            (tree / name / "revert").write_text("1 force")
    assert vm.running
    check_but(tree, "one", "two", "three")
    make(tree, vm, "four")
    refuse_to_read(tree, "two", "until 'four' was")
    check_but(tree, "one", "two", "three")
    for name in "two", "one", "three":
        tree.rmdir(name)
        tree.sync()
    tree.check()
    tree.check_files()
    vm.stop()
    tree.check_files()


@away
def test_virsh_merged_the_active_layer(tree, vm, mount, away):
    vm.start()
    make(tree, vm, "one", "two", "three")
    left = vm.active["vda"]
    with behind_our_back(mount, away):
        vm.virsh("blockcommit", "web1", "vda", "--active", "--shallow", "--pivot", "--wait")
    os.unlink(left)
    wait_until(lambda: cannot_be_read(tree / "three" / "vda.raw"), "it is seen")
    refuse_to_read(tree, "three", "the VM web1 has it")
    check_but(tree, "three")
    make(tree, vm, "four")
    refuse_to_read(tree, "three", "until 'four' was")
    check_but(tree, "three")
    tree.rmdir("one")
    tree.rmdir("three")
    tree.check()
    delete(tree, "four", "two")
    vm.stop()
    tree.check_files()


@away
def test_virsh_merged_in_the_middle(tree, vm, mount, away):
    """The layer that was merged into is another one since, which nothing tells; the others are as
    they were, and the VM is."""
    vm.start()
    make(tree, vm, "one", "two", "three", "four")
    layers = vm.snapshot_layers()
    with behind_our_back(mount, away):
        vm.virsh("blockcommit", "web1", "vda", "--base", layers["two"]["vda"],
                 "--top", layers["three"]["vda"], "--wait")
    check_but(tree, "two")
    tree.rmdir("two")
    tree.check()
    delete(tree, "three", "one", "four")
    vm.stop()
    tree.check_files()


@away
@pytest.mark.parametrize("until", [None, "one"])
def test_virsh_pulled(libvirtd, folder, vm, away, until):
    """That takes nothing from any snapshot: the VM only needs less of them. Without sub-clusters,
    for QEMU 7.2 does not survive a pull with them."""
    mount = Mount(libvirtd, folder / "mount", "overlay_options=cluster_size=64k")
    try:
        tree = mount.start().of(vm)
        vm.start()
        make(tree, vm, "one", "two", "three")
        where = ["--base", vm.snapshot_layers()[until]["vda"]] if until else []
        with behind_our_back(mount, away):
            vm.virsh("blockpull", "web1", "vda", *where, "--wait")
        tree.check()
        tree.check_files()
        make(tree, vm, "four")
        delete(tree, "two", "one", "four", "three")
        vm.stop()
        tree.check_files()
    finally:
        mount.stop()


@away
@both
def test_qemu_img_rebased(tree, vm, mount, away, running):
    """While the VM was off; libvirt's definition may still name the layers of before."""
    if running:
        vm.start()
    make(tree, vm, "one", "two", "three")
    if running:
        vm.stop()
    with behind_our_back(mount, away):
        run("qemu-img", "rebase", "-F", "qcow2", "-b", vm.snapshot_layers()["one"]["vda"],
            vm.active["vda"])
    tree.check()
    tree.check_files()
    delete(tree, "three")
    vm.start()
    vm.write("vda", 77, 1 << 20, 8192)
    make(tree, vm, "four")
    vm.stop()
    delete(tree, "one", "two", "four")


@away
def test_qemu_img_committed(tree, vm, mount, away):
    """Into the layer of a snapshot, which is lost; nothing else is."""
    make(tree, vm, "one", "two", "three")
    with behind_our_back(mount, away):
        run("qemu-img", "commit", "-q", vm.active["vda"])
    check_but(tree, "three")
    tree.check_files()
    tree.rmdir("two")
    check_but(tree, "three")
    tree.check_files()
    delete(tree, "three", "one")


# ---- VMs that come and go ----

def metadata_of(vm):
    """What an admin would keep of it: {name: XML}, parents first."""
    xmls = vm.libvirtd.snapshot_xmls(vm.name)
    parents = vm.snapshot_tree()

    def depth(name):
        return 0 if parents[name] is None else 1 + depth(parents[name])

    return {name: xmls[name] for name in sorted(xmls, key=depth)}


@away
@both
def test_undefined_and_defined_again(tree, vm, mount, folder, away, running):
    """Without its snapshots' metadata, which come back later."""
    make(tree, vm, "one", "two", "left")
    tree.revert("two")
    make(tree, vm, "right")
    tree.rmdir("two")
    tree.sync()
    assert "tombstones 2" in tree.kws("status")
    if running:
        vm.start()
    metadata = metadata_of(vm)
    images = vm.images
    with behind_our_back(mount, away):
        (folder / "vm.xml").write_text(vm.virsh("dumpxml", "web1", "--inactive"))
        if running:
            vm.stop()
        vm.virsh("undefine", "web1", "--snapshots-metadata")
        if not away:
            wait_until(lambda: not tree.path.exists(), "it is gone")
        vm.virsh("define", folder / "vm.xml")
        if running:
            vm.start()
    wait_until(tree.path.exists, "it is there again")
    assert tree.names == set()
    tree.sync()
    assert vm.images == images
    make(tree, vm, "new")
    tree.sync()
    assert images <= vm.images
    tree.rmdir("new")
    for name, xml in metadata.items():
        (folder / "snapshot.xml").write_text(xml)
        vm.virsh("snapshot-create", "web1", folder / "snapshot.xml", "--redefine",
                 *(["--current"] if name == "right" else []))
    wait_until(lambda: tree.names == set(metadata), "they are back")
    tree.check()
    delete(tree, "left", "one", "right")
    if running:
        vm.stop()
    tree.check_files()


def test_another_name(tree, vm, mount, folder):
    """The same VM, its snapshots redefined for it."""
    make(tree, vm, "one", "two")
    metadata = metadata_of(vm)
    mount.stop()
    xml = vm.virsh("dumpxml", "web1")
    vm.virsh("undefine", "web1", "--snapshots-metadata")
    vm.name = "web2"
    (folder / "vm.xml").write_text(xml.replace("<name>web1</name>", "<name>web2</name>"))
    vm.virsh("define", folder / "vm.xml")
    for name, text in metadata.items():
        (folder / "snapshot.xml").write_text(text.replace("<name>web1</name>", "<name>web2</name>"))
        vm.virsh("snapshot-create", "web2", folder / "snapshot.xml", "--redefine",
                 *(["--current"] if name == "two" else []))
    mount.start()
    tree = rename(tree, mount)
    tree.check()
    tree.revert("one")
    make(tree, vm, "three")
    delete(tree, "one", "three", "two")


def rename(tree, mount):
    renamed = mount.of(tree.vm)
    renamed.reference = tree.reference
    return renamed


def test_two_vms_with_snapshots_on_one_base(mount, new_vm, folder):
    """Neither merges into it, each into its own."""
    base = folder / "golden.qcow2"
    vms = []
    for name in "first", "second":
        vm = new_vm(name, define=False)
        os.unlink(vm.paths["vda"])
        if not base.exists():
            run("qemu-img", "create", "-q", "-f", "qcow2", base, len(vm.content["vda"]))
            run("qemu-io", "-c", "write -P 33 0 1M", base)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, vm.paths["vda"])
        vm.content["vda"][:1 << 20] = b"\x21" * (1 << 20)
        vms.append(vm.define())
    before = base.read_bytes()
    trees = [mount.of(vm) for vm in vms]
    vms[0].start()
    for tree in trees:
        make(tree, tree.vm, "one", "two", "three")
    for name in "two", "one", "three":
        for tree in trees:
            tree.rmdir(name)
            tree.check()
            tree.sync()
    assert base.read_bytes() == before
    vms[0].stop()
    for vm in vms:
        assert chain_of(vm.active["vda"])[1:] == [str(base)]
        run("qemu-img", "convert", "-O", "raw", vm.active["vda"], folder / "flat")
        assert (folder / "flat").read_bytes() == bytes(vm.content["vda"])


# ---- files and disks that come and go ----

def test_a_layer_deleted_by_hand(tree, vm):
    """Off the way of the VM: what lay on it is lost, and can be cleared away; the rest goes on."""
    make(tree, vm, "one", "two")
    tree.revert("one")
    make(tree, vm, "side", "leaf")
    tree.revert("two")
    os.unlink(vm.snapshot_layers()["side"]["vda"])
    for name in "side", "leaf":
        refuse_to_read(tree, name, vm.snapshot_layers()["side"]["vda"])
        with refused(errno.EIO, errno.ENOENT):
            (tree / name / "revert").write_text("1")
    check_but(tree, "side", "leaf")
    make(tree, vm, "three")
    tree.rmdir("side")
    check_but(tree, "leaf")
    tree.rmdir("leaf")
    delete(tree, "one", "three", "two")


@both
def test_a_disk_attached_between_snapshots(mount, new_vm, running):
    vm = new_vm("web1", {"vda": 1 << 20, "vdb": 1 << 20}, define=False)
    second = vm.paths.pop("vdb")
    content = vm.content.pop("vdb")
    vm.define()
    tree = mount.of(vm)
    make(tree, vm, "one")
    vm.virsh("attach-disk", "web1", second, "vdb", "--subdriver", "qcow2", "--targetbus", "virtio",
             "--config")
    vm.paths["vdb"], vm.content["vdb"] = second, content
    if running:
        vm.start()
    make(tree, vm, "two", "three")
    delete(tree, "one")
    tree.revert("two", "1 force")
    assert set(vm.active) == {"vda", "vdb"}
    delete(tree, "three", "two")


@both
def test_a_disk_detached_between_snapshots(tree, vm, running):
    """The snapshots go on having it, and going back brings it back."""
    make(tree, vm, "one", "two")
    left = vm.copy_of_content()
    vm.virsh("detach-disk", "web1", "vdb", "--config")
    del vm.paths["vdb"], vm.content["vdb"]
    if running:
        vm.start()
    make(tree, vm, "three")
    tree.check()
    tree.rmdir("one")
    tree.sync()
    tree.check()
    tree.revert("two", "1 force")
    assert vm.content["vdb"] == left["vdb"]
    tree.check()
    tree.rmdir("three")
    tree.sync()
    tree.check()


def test_a_base_that_was_moved(tree, vm, folder):
    """Refused by its name as long as it is away, and right again when it is back."""
    make(tree, vm, "one", "two")
    base = vm.paths["vda"]
    away = base.rename(folder / "moved.qcow2")
    for name in "one", "two":
        refuse_to_read(tree, name, str(base))
    files = vm.images
    with refused(errno.EIO, errno.ENOENT):
        (tree / "three").mkdir()
    assert str(base) in tree.kws("last_error")
    with refused(errno.EIO, errno.ENOENT):
        (tree / "one" / "revert").write_text("1 keep")
    assert vm.images == files
    tree.rmdir("two")  # and nothing of this disk is merged
    with refused(errno.EIO):
        tree.sync()
    assert {path for path in files if "vda" in path} <= vm.images
    away.rename(base)
    make(tree, vm, "three")
    tree.check()
    delete(tree, "one", "three")


def test_a_disk_that_copies_on_read(mount, new_vm):
    """QEMU 7.2 aborts when it copies on read into a layer with sub-clusters. Such a disk is refused, and in
    a mount without them it works."""
    vm = new_vm()
    xml = vm.folder / "vm.xml"
    xml.write_text(vm.virsh("dumpxml", "web1").replace("type='qcow2'/>",
                                                    "type='qcow2' copy_on_read='on'/>"))
    vm.virsh("define", xml)
    xml.unlink()
    tree = mount.of(vm)
    vm.start()
    with refused(errno.EOPNOTSUPP):
        (tree / "s1").mkdir()
    assert "copy_on_read" in tree.kws("last_error")
    tree.check()
    tree.check_files()
    mount.stop()
    mount.options += ",overlay_options=cluster_size=64k"
    mount.start()
    tree.mkdir("s1")
    vm.write("vda", 3, 0, 4096)
    vm.virsh("qemu-monitor-command", "web1", "--hmp",
             'qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend "read 4096 4096"')
    assert vm.running
    tree.check()


@pytest.mark.parametrize("moved,running", [("three", True), ("three", False), ("active", False)])
def test_a_layer_that_is_away(tree, vm, folder, moved, running):
    """On a store that is not mounted just now, for example. What it lies on is not known: so
    nothing is merged or deleted that it may need."""
    for number, name in enumerate(("one", "two", "three")):
        vm.write("vda", number + 1, number << 16, 1 << 20)
        tree.mkdir(name)
    if running:
        vm.start()
    layer = vm.active["vda"] if moved == "active" else vm.snapshot_layers()[moved]["vda"]
    files = vm.images
    shutil.move(layer, folder / "away")
    tree.rmdir("two")
    with refused(errno.EIO):
        tree.sync()
    assert f"{layer} is missing" in tree.kws("last_error")
    assert vm.images == files - {layer}
    shutil.move(folder / "away", layer)
    wait_until(lambda: "tombstones 0" in tree.kws("status"), "it is tried again")
    tree.check()
    tree.check_files()


def test_what_is_listed_while_libvirt_tells_of_news(tree, vm, libvirtd):
    """Each definition is an event, after which kwsfs looks by itself, at all snapshots if there is
    another disk. Who lists the VM then sees what is there now, and not what such a look has found a
    moment before."""
    ended = threading.Event()

    def define_again_and_again():
        connection = libvirt.open(libvirtd.uri)
        xml = connection.lookupByName("web1").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        for number in itertools.count():
            if ended.is_set():
                break
            connection.defineXML(xml.replace("</devices>", CDROM.format(number=number)))
        connection.close()

    names = [f"s{number}" for number in range(30)]
    for name in names:
        tree.mkdir(name)
    others = threading.Thread(target=define_again_and_again)
    others.start()
    try:
        with libvirtd.domain("web1") as domain:
            stalled, last = False, time.monotonic()
            while names:
                for name in names[-3:]:
                    domain.snapshotLookupByName(name).delete(
                        libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
                del names[-3:]
                begun, listed = time.monotonic(), tree.names
                # Who lists does not wait for a look that takes more than a second.
                stalled, last = stalled or time.monotonic() - last > .9, begun
                if stalled:
                    wait_until(lambda: tree.names == set(names), "it is seen")
                else:
                    assert listed == set(names)
    finally:
        ended.set()
        others.join()


@pytest.mark.parametrize("away", [False, True])
def test_a_leaf_whose_parent_virsh_has_forgotten(tree, vm, mount, away):
    """libvirt writes into the child that it was made of its parent's layer. There is no overlay on
    the child's own layer any more that would say otherwise: but it was known before."""
    for number, name in enumerate(("zero", "one", "two")):
        vm.write("vda", number + 1, 0, 1 << 20)
        tree.mkdir(name)
    tree.revert("zero")
    tree.sync()
    if away:
        mount.stop()
    vm.virsh("snapshot-delete", "web1", "one", "--metadata")
    del tree.reference["one"]
    if away:
        mount.start()
    wait_until(lambda: tree.names == set(tree.reference), "it is seen")
    tree.check()
    mount.stop()
    mount.start()
    tree.check()
    vm.write("vda", 3, 0, 1 << 20)
    tree.mkdir("three")
    tree.sync()
    tree.check()
    tree.rmdir("two")
    tree.sync()
    tree.check()
