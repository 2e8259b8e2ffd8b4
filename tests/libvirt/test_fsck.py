# SPDX-License-Identifier: GPL-2.0-or-later
"""kwsfs fsck: what does not agree is found and said, what is mended is right afterwards; mounted
and not. And a registry that was lost: what is learned again."""
import contextlib
import errno
import json
import os
import random
import re
import shutil
import sqlite3
import xml.etree.ElementTree as ET

import pytest

from commands import refused, run, sync, try_run, wait_until
from kwsmount import BUILD
from test_walk import SEEDS, STEPS, Walk

CLEAN, FIXED, LEFT, FAILED, USAGE = 0, 1, 4, 8, 16


class Fsck:
    """The command, beside a mount that is there or not; its words of the last time."""

    def __init__(self, mount, mounted):
        self.mount = mount
        self.mounted = mounted
        self.lines = []
        self.stderr = ""

    def __call__(self, *arguments, program=("kwsfs", "fsck")):
        if not self.mounted:
            self.mount.stop()
        done = try_run(BUILD / "mount" / program[0], *program[1:], *arguments, "-o",
                       self.mount.options, self.mount.libvirtd.uri)
        assert "Sanitizer" not in done.stderr, done.stderr
        *self.lines, self.summary = done.stdout.splitlines() or [""]
        self.stderr = done.stderr
        return done.returncode

    def finds(self, *patterns, code=LEFT):
        """Without changing anything: one line for each pattern, and no other."""
        assert self("-n") == code, (self.lines, self.stderr)
        assert len(self.lines) == len(patterns), self.lines
        for pattern in patterns:
            assert any(re.search(pattern, line) for line in self.lines), (pattern, self.lines)
        assert self.summary == f"0 fixed, {len(patterns)} left"

    def mends(self, fixed, left=0):
        assert self("-y") == (LEFT if left else FIXED), (self.lines, self.stderr)
        assert self.summary == f"{fixed} fixed, {left} left", self.lines

    def is_clean(self):
        assert self() == CLEAN, (self.lines, self.stderr)
        assert self.lines == [] and self.summary == "0 fixed, 0 left"

    @contextlib.contextmanager
    def registry(self):
        """sqlite's own view of it, while nobody has it open."""
        self.mount.stop()
        with contextlib.closing(sqlite3.connect(self.mount.folder / "state/registry.db")) as db:
            yield db
            db.commit()
        if self.mounted:
            self.mount.start()

    def dump(self):
        path = self.mount.folder / "state/registry.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return list(db.iterdump())


@pytest.fixture(params=["mounted", "alone"])
def fsck(request, mount):
    return Fsck(mount, request.param == "mounted")


@pytest.fixture
def alone(mount):
    return Fsck(mount, False)


def overlay(vm, target="vda"):
    return vm.active[target]


def test_all_that_is_right(fsck, tree, vm):
    fsck.is_clean()
    fsck.mount.stop()
    fsck.mount.start()
    tree.mkdir("root")
    tree.mkdir("base")
    tree.mkdir("left")
    tree.revert("base")
    tree.mkdir("right")
    vm.start()
    tree.mkdir("live")
    (tree / "live" / "pin").write_text("1\n")
    tree.rmdir("base")
    tree.sync()
    assert "tombstones 2" in tree.kws("status")
    if not fsck.mounted:
        fsck.mount.stop()
    before = fsck.dump()
    fsck.is_clean()
    assert fsck("-y") == CLEAN
    assert fsck.dump() == before
    fsck.mount.stop()
    fsck.mount.start()
    tree.check()


def test_under_its_other_name(fsck, vm, folder):
    (folder / "fsck.kws").symlink_to(BUILD / "mount" / "kwsfs")
    assert fsck(program=(folder / "fsck.kws",)) == CLEAN
    assert fsck.summary == "0 fixed, 0 left"


def test_nothing_is_written_without_being_told(alone, vm):
    alone.mount.stop()
    shutil.rmtree(alone.mount.folder / "state")
    alone.is_clean()
    assert not (alone.mount.folder / "state").exists()


def test_usage(fsck, mount, libvirtd):
    command = [BUILD / "mount" / "kwsfs", "fsck"]
    for arguments in (["-n", "-y"], ["-o", "nonsense"], ["-x"], [libvirtd.uri, "more"], ["-o"],
                      ["-o", "uri=x", libvirtd.uri]):
        assert try_run(*command, *arguments).returncode == USAGE
    assert "fsck" in run(*command, "--help")
    done = try_run(*command, "-o", f"state={mount.folder}/nowhere", "nonsense:///")
    assert done.returncode == FAILED and done.stderr.startswith("fsck.kws: ")


def test_without_libvirt(fsck, vm, libvirtd):
    libvirtd.kill()
    try:
        assert fsck() == FAILED
        assert fsck.stderr.count("\n") == 1 and not fsck.lines
    finally:
        libvirtd.start()


def test_a_layer_is_missing(fsck, tree, vm):
    """Of a snapshot that the VM does not stand on."""
    tree.mkdir("one")
    tree.mkdir("two")
    layer = vm.snapshot_layers()["two"]["vda"]
    tree.revert("one")
    os.rename(layer, f"{layer}.away")
    fsck.finds(rf"^web1/two: vda: .*{layer}: No such file.*; by hand: ")
    fsck.mends(0, left=1)
    os.rename(f"{layer}.away", layer)
    fsck.is_clean()


def test_a_backing_file_is_missing(fsck, tree, vm):
    tree.mkdir("one")
    os.rename(vm.paths["vda"], f"{vm.paths['vda']}.away")
    fsck.finds(rf"^web1: vda: .*{vm.paths['vda']}: No such file.*; by hand: ",
               rf"^web1/one: vda: .*{vm.paths['vda']}: No such file.*; by hand: ")
    os.rename(f"{vm.paths['vda']}.away", vm.paths["vda"])
    fsck.is_clean()


def test_a_backing_file_of_another_format(fsck, tree, vm):
    tree.mkdir("one")
    top = overlay(vm)
    rebase = ["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", vm.paths["vda"]]
    run(*rebase, "-F", "raw", top)
    fsck.finds(rf"^web1: vda: {vm.paths['vda']} is named as raw and looks like a qcow2; by hand: ")
    with open(top, "r+b") as header:  # no tool of today leaves it out
        head = bytearray(header.read(512))
        at = head.index(b"\xe2\x79\x2a\xca")
        head[at] ^= 0x0f
        header.seek(0)
        header.write(head)
    assert fsck() == LEFT
    assert any("does not say of which format" in line for line in fsck.lines), fsck.lines
    run(*rebase, "-F", "qcow2", top)
    fsck.is_clean()


def set_header(path, at, value):
    with open(path, "r+b") as image:
        image.seek(at)
        was = image.read(len(value))
        image.seek(at)
        image.write(value)
    return was


@pytest.mark.parametrize("at, value, words", [
    (0, b"ABCD", "is not a qcow2 image"), (20, b"\xff\xff\xff\xff", "cluster"),
    (79, b"\x02", "corrupt"), (79, b"\x11", "was not closed properly")])
def test_a_damaged_header(fsck, tree, vm, at, value, words):
    tree.mkdir("one")
    tree.mkdir("two")
    layer = vm.snapshot_layers()["two"]["vda"]
    was = set_header(layer, at, value)
    fsck.finds(rf"^web1: vda: .*{layer}.*{words}.*; by hand: ")
    set_header(layer, at, was)
    fsck.is_clean()


def test_a_chain_in_the_definition(fsck, tree, vm):
    """libvirt noted it while the VM ran; qemu-img has changed the images since."""
    vm.start()
    tree.mkdir("one")
    vm.write("vda", 1, 0, 65536)
    tree.mkdir("two")
    vm.write("vda", 2, 65536, 65536)
    vm.stop()
    top, middle = overlay(vm), vm.snapshot_layers()["two"]["vda"]
    run("qemu-img", "rebase", "-f", "qcow2", "-b", vm.paths["vda"], "-F", "qcow2", top)
    assert middle in vm.virsh("dumpxml", "--inactive", vm.name)
    fsck.finds(rf"^web1: vda: the definition has another chain .*{top} lies on "
               rf"{vm.paths['vda']}; would: ")
    assert middle in vm.virsh("dumpxml", "--inactive", vm.name)
    fsck.mends(1)
    disk = ET.fromstring(vm.virsh("dumpxml", "--inactive", vm.name)).find("devices/disk")
    assert disk.find("source").get("file") == top and disk.find("backingStore") is None
    fsck.is_clean()
    vm.start()
    chain = vm.virsh("dumpxml", vm.name)
    assert vm.paths["vda"].name in chain and middle not in chain


def test_a_chain_that_ends_too_early_in_the_definition(fsck, tree, vm):
    """With an empty <backingStore/> QEMU would read zeroes where the backing file has data."""
    tree.mkdir("one")
    xml = ET.fromstring(vm.virsh("dumpxml", "--inactive", vm.name))
    ET.SubElement(xml.find("devices/disk"), "backingStore")
    definition = vm.folder / "definition.xml"
    definition.write_text(ET.tostring(xml, encoding="unicode"))
    vm.virsh("define", definition)
    fsck.finds("^web1: vda: the definition has another chain")
    fsck.mends(1)
    assert "<backingStore" not in vm.virsh("dumpxml", "--inactive", vm.name)
    fsck.is_clean()


def test_a_parent_through_which_the_chain_does_not_go(fsck, tree, vm):
    tree.mkdir("base")
    tree.mkdir("left")
    tree.revert("base")
    tree.mkdir("right")
    tree.mkdir("leaf")
    xml = ET.fromstring(vm.virsh("snapshot-dumpxml", vm.name, "leaf"))
    xml.find("parent/name").text = "left"
    path = vm.folder / "leaf.xml"
    path.write_text(ET.tostring(xml, encoding="unicode"))
    vm.virsh("snapshot-create", vm.name, path, "--redefine")
    fsck.finds(*(rf"^web1/leaf: {t}: its chain does not go through .*parent 'left'; by hand: "
                 for t in ("vda", "vdb")))


def test_a_parent_that_is_missing(fsck, tree, vm, libvirtd):
    tree.mkdir("one")
    tree.mkdir("two")
    fsck.mount.stop()
    libvirtd.terminate()
    try:
        kept = libvirtd.folder / "lib/qemu/snapshot/web1/two.xml"
        assert "<name>one</name>" in kept.read_text()
        kept.write_text(kept.read_text().replace("<name>one</name>", "<name>nobody</name>"))
    finally:
        libvirtd.start()
    fsck.mount.start()
    fsck.finds("^web1/two: its parent 'nobody' is not there; would: ")
    fsck.mends(1)
    fsck.is_clean()
    assert vm.snapshot_tree() == {"one": None, "two": None}
    fsck.mount.stop()
    fsck.mount.start()
    tree.check()


def test_a_parent_is_seen_at_once(mount, tree, vm, libvirtd):
    """The tree is looked at anew by whoever mended it."""
    tree.mkdir("one")
    tree.mkdir("two")
    mount.stop()
    libvirtd.terminate()
    kept = libvirtd.folder / "lib/qemu/snapshot/web1/two.xml"
    kept.write_text(kept.read_text().replace("<name>one</name>", "<name>nobody</name>"))
    libvirtd.start()
    mount.start()
    Fsck(mount, True).mends(1)
    tree.check()


def test_metadata_that_virsh_has_spoilt(fsck, tree, vm):
    """Forgetting a snapshot, libvirt writes its layers into its children."""
    tree.mkdir("one")
    vm.write("vda", 1, 0, 65536)
    tree.mkdir("two")
    right = vm.snapshot_layers()["two"]
    vm.virsh("snapshot-delete", vm.name, "one", "--metadata")
    assert vm.snapshot_layers()["two"] != right
    del tree.reference["one"]
    wait_until(lambda: tree.names == {"two"}, "it is seen")
    tree.check()
    fsck.finds(*(rf"^web1/two: {t}: libvirt has it that {vm.paths[t]} was frozen, and it was "
                 rf"{layer}; would: " for t, layer in right.items()))
    fsck.mends(2)
    fsck.is_clean()
    assert vm.snapshot_layers()["two"] == right and vm.current == "two"
    fsck.mount.stop()
    fsck.mount.start()
    tree.check()


def add_tombstone(db, path, ino):
    vm, = db.execute("SELECT id FROM vm").fetchone()
    db.execute("INSERT INTO tombstone (vm, target, path, format, dev, ino) VALUES (?,?,?,?,?,?)",
               (vm, "vda", str(path), "qcow2", 1, ino))


def test_tombstones_without_a_layer(alone, tree, vm):
    tree.mkdir("one")
    with alone.registry() as db:
        add_tombstone(db, vm.folder / "kws-gone.qcow2", 1)
        add_tombstone(db, vm.active["vda"], 2)
    alone.finds(r"kws-gone.qcow2 of a deleted snapshot is gone; would: forget",
                rf"{vm.active['vda']} of a deleted snapshot is another file by now; would: forget")
    before = vm.active
    alone.mends(2)
    alone.is_clean()
    assert vm.active == before and os.path.exists(before["vda"])


def test_tombstones_of_an_earlier_boot(alone, tree, vm):
    """Devices have other numbers then."""
    fork(tree, vm)
    tree.mount.stop()
    with alone.registry() as db:
        db.execute("UPDATE boot SET id = 'an earlier one'")
        db.execute("UPDATE tombstone SET dev = dev + 1")
    before = alone.dump()
    alone.is_clean()
    assert alone.dump() == before
    assert alone("-y") == CLEAN
    tree.mount.start()
    wait_until(lambda: "tombstones 2" in tree.kws("status"), "they are counted")
    tree.check()


def test_a_snapshot_that_libvirt_has_not(alone, tree, vm):
    tree.mkdir("one")
    tree.mkdir("two")
    alone.mount.stop()
    vm.virsh("snapshot-delete", vm.name, "two", "--metadata")
    alone.finds("^web1/two: the registry has a snapshot that libvirt has not; would: forget",
                "^web1: vda: the layer .* is of no snapshot", "^web1: vdb: the layer .* is of no snapshot")
    alone.mends(3)
    alone.is_clean()
    alone.mount.start()
    sync(tree.path)
    assert tree.names == {"one"} and "tombstones 0" in tree.kws("status")
    del tree.reference["two"]
    tree.check()
    tree.check_files()


def test_an_operation_that_was_interrupted(alone, tree, vm):
    tree.mkdir("one")
    left = vm.folder / f"kws-{vm.virsh('domuuid', vm.name).strip()[:8]}-{1:016x}-vda.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", left, "4M")
    plan = {"name": "two", "disks": [{"target": "vda", "size": 4 << 20, "below": {
        "path": str(vm.active["vda"]), "format": "qcow2", "dev": 1, "ino": 1},
        "overlay": {"path": str(left), "format": "qcow2", "dev": left.stat().st_dev,
                    "ino": left.stat().st_ino}}], "children": []}
    with alone.registry() as db:
        db.execute("INSERT INTO operation (vm, kind, step, plan) SELECT id, 'create', 'overlays', ?"
                   " FROM vm", (json.dumps(plan),))
    alone.mount.stop()
    alone.finds(r"^web1: an operation \(create\) was interrupted at its step 'overlays'; would: ")
    assert left.exists()
    alone.mends(1)
    alone.is_clean()
    assert not left.exists()
    alone.mount.start()
    tree.check()


def layer_file(path):
    stat = os.stat(path)
    return {"path": str(path), "format": "qcow2", "dev": stat.st_dev, "ino": stat.st_ino}


@pytest.mark.parametrize("running", [False, True])
def test_a_merge_that_was_interrupted(alone, tree, vm, running):
    for number, name in enumerate(("one", "two"), start=1):
        tree.mkdir(name)
        vm.write("vda", number, 0, 65536)
    vm.start()
    vm.virsh("managedsave", vm.name)  # so that nothing is merged yet
    tree.rmdir("one")
    tree.sync()
    assert "tombstones 2" in tree.kws("status")
    upper = vm.snapshot_layers()["two"]["vda"]
    plan = {"disks": [{"target": "vda", "below": layer_file(vm.paths["vda"]),
                       "overlay": layer_file(upper)}], "children": []}
    with alone.registry() as db:
        db.execute("INSERT INTO operation (vm, kind, step, plan) SELECT id, 'merge', 'data', ?"
                   " FROM vm", (json.dumps(plan),))
    if running:
        vm.start()
    else:
        vm.virsh("managedsave-remove", vm.name)
    alone.finds(r"^web1: an operation \(merge\) was interrupted at its step 'data'; would: ")
    assert os.path.exists(upper)
    alone.mends(1)
    alone.is_clean()
    assert not os.path.exists(upper)
    assert vm.snapshot_layers()["two"]["vda"] == str(vm.paths["vda"])
    alone.mount.start()
    tree.check()
    tree.check_files()


def fork(tree, vm):
    """A tombstone that stays, in our naming, with two branches on it."""
    for number, name in enumerate(("root", "base", "left"), start=1):
        tree.mkdir(name)
        vm.write("vda", number, number << 16, 65536)
    tree.revert("base")
    vm.write("vda", 9, 0, 65536)
    tree.mkdir("right")
    layers = vm.snapshot_layers()["base"]
    tree.rmdir("base")
    tree.sync()
    assert "tombstones 2" in tree.kws("status")
    return layers


def test_a_vm_that_is_gone(fsck, tree, vm, mount):
    layers = fork(tree, vm)
    vm.remove()
    uuid = r"^[0-9a-f-]{36}"
    fsck.finds(*(rf"{uuid}: this VM is gone, and the layer {layer} .*; would: forget"
                 for layer in layers.values()),
               *(rf"{uuid}/{name}: the registry has a snapshot of a VM that is gone; would: forget"
                 for name in ("root", "left", "right")),
               *[r"/kws-[^ ]*\.qcow2: nobody needs this image, it is lost\+found/web1-.*; by hand: rm"]
               * 8)
    files = set(vm.folder.iterdir())
    fsck.mends(5, left=8)
    assert set(vm.folder.iterdir()) == files


def test_orphans_are_never_deleted(fsck, vm):
    path = vm.folder / f"kws-{vm.virsh('domuuid', vm.name).strip()[:8]}-{1:016x}-vda.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "4M")
    fsck.finds(rf"^{path}: nobody needs this image, it is lost\+found/web1-vda-")
    fsck.mends(0, left=1)
    assert path.exists()


def test_a_damaged_registry(fsck, tree, vm):
    tree.mkdir("one")
    with fsck.registry() as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size, = db.execute("PRAGMA page_size").fetchone()
        root, = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'image'").fetchone()
        db.execute("PRAGMA journal_mode=DELETE")  # nothing of it is elsewhere
    fsck.mount.stop()
    set_header(fsck.mount.folder / "state/registry.db", (root - 1) * size, b"\xff" * 8)
    if fsck.mounted:
        fsck.mount.start()
    fsck.finds("^the registry is damaged: .*; by hand: ")
    fsck.mends(0, left=1)
    fsck.mount.stop()
    for path in (fsck.mount.folder / "state").glob("registry.db*"):
        path.unlink()
    fsck.mount.start()
    fsck.is_clean()
    fsck.mount.stop()
    fsck.mount.start()
    tree.check()


# A registry that was lost


def lose_registry(mount):
    mount.stop()
    shutil.rmtree(mount.folder / "state")
    mount.start()


def known_of(tree):
    """All that is shown of the snapshots."""
    infos = {name: json.loads((tree / name / "info.json").read_text()) for name in tree.names}
    for name, info in infos.items():
        info["xml"] = (tree / name / "domain.xml").read_text()
        info["sum"] = {path.name: run("sha256sum", path).split()[0]
                       for path in (tree / name).glob("*.raw")}
    return infos


def test_what_is_learned_again(mount, tree, vm):
    tree.mkdir("off")
    (tree / "off" / "description").write_text("as it was\n")
    (tree / "off" / "pin").write_text("1\n")
    tree.mkdir("left")
    tree.revert("off")
    vm.start()
    tree.mkdir("right")
    os.chown(tree.path, 1234, 1234)
    before = known_of(tree)
    lose_registry(mount)
    after = known_of(tree)
    for name, info in before.items():
        # To the second, as libvirt has it; whether the guest's file systems were frozen it has not.
        assert after[name].pop("created")[:19] == info.pop("created")[:19]
        assert (after[name].pop("consistency"), info.pop("consistency")) == (
            ("offline", "offline") if name != "right" else ("unknown", "crash"))
        assert (after[name].pop("pinned"), info.pop("pinned")) == (False, name == "off")
        assert after[name] == info
    assert os.stat(tree.path).st_uid == 0
    tree.check()
    tree.check_files()


@pytest.mark.parametrize("running", [False, True])
def test_tombstones_are_found_again(fsck, tree, vm, running):
    layers = fork(tree, vm)
    lose_registry(fsck.mount)
    if running:
        vm.start()
    tree.check()
    assert "tombstones 0" in tree.kws("status")
    fsck.finds(*(rf"^web1: {target}: the layer {layer} in the chain is of no snapshot.*; would: "
                 for target, layer in layers.items()))
    fsck.mends(2)
    fsck.is_clean()
    fsck.mount.stop()
    fsck.mount.start()
    tree.sync()
    assert "tombstones 2" in tree.kws("status")
    tree.check()
    tree.rmdir("left")
    tree.check_files()
    tree.check()
    assert not any(os.path.exists(layer) for layer in layers.values()) or "tombstones 0" in tree.kws(
        "status")


def test_a_tombstone_in_no_chain_is_an_orphan(mount, tree, vm):
    """The state that a revert left, and the collection had not come to."""
    tree.mkdir("one")
    vm.write("vda", 1, 0, 65536)
    left = vm.active
    vm.start()
    vm.virsh("managedsave", vm.name)  # keeps the collection from deleting
    vm.virsh("managedsave-remove", vm.name)
    mount.stop()
    shutil.rmtree(mount.folder / "state")
    new = vm.folder / "new.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", vm.snapshot_layers()["one"]["vda"], "-F",
        "qcow2", new)
    xml = vm.virsh("dumpxml", "--inactive", vm.name).replace(left["vda"], str(new))
    xml = re.sub(r"<backingStore[ >].*?</backingStore>", "", xml, flags=re.DOTALL)
    (vm.folder / "d.xml").write_text(xml)
    vm.virsh("define", vm.folder / "d.xml")
    mount.start()
    lost = mount.point / "lost+found"
    name, = wait_until(lambda: [name for name in os.listdir(lost) if name != ".kws"], "it is shown")
    assert os.path.basename(left["vda"])[13:29] in name
    (lost / name).unlink()
    assert not os.path.exists(left["vda"])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_walk_that_loses_it_again_and_again(mount, tree, vm, seed):
    """What is left of deleted snapshots is found by fsck -y or shown in lost+found: in the end no
    file is left over."""
    walk = Walk(tree, vm, random.Random(seed))
    for number in range(1, STEPS // 2 + 1):
        walk.step()
        if number % 10:
            continue
        tree.sync()
        lose_registry(mount)
        done = mount.fsck("-y")
        assert done.returncode in (CLEAN, FIXED, LEFT), done.stdout + done.stderr
        for name in os.listdir(mount.point / "lost+found"):
            if name != ".kws":
                (mount.point / "lost+found" / name).unlink()
        done = mount.fsck()
        assert done.returncode == CLEAN, done.stdout + done.stderr
        tree.check()
        tree.check_files()


def test_the_file_that_is_asked(mount, vm):
    """As the command asks; and what does not ask changes nothing."""
    path = mount.point / "fsck"
    help_text = path.read_text()
    assert help_text.startswith("# ")
    path.write_text(help_text)
    for words in "1", "repair it", "check\nrepair":
        with refused(errno.EINVAL):
            path.write_text(words)
    files = [os.open(path, os.O_RDWR) for _ in range(3)]
    try:
        os.write(files[0], b"check\n")
        os.write(files[1], b"repair\n")
        assert os.pread(files[0], 4096, 0) == os.pread(files[1], 4096, 0) == b"0 fixed, 0 left\n"
        assert os.pread(files[2], 4096, 0).decode() == help_text
    finally:
        for fd in files:
            os.close(fd)
    assert run("stat", "-c", "%A %U", path).strip() == "-rw------- root"
