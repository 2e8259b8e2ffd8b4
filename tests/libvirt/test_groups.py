# SPDX-License-Identifier: GPL-2.0-or-later
"""Groups of VMs, and their snapshots at one moment."""
import concurrent.futures
import errno
import json
import os
import threading

import pytest

from commands import refused, run, wait_until
from faults import STEPS, FaultyMount, has_merged_all
from test_guest import check_prefix

NAMES = "web1", "web2", "web3"
BLOCK = 4096
SHARED = """<disk type='file' device='disk'><driver name='qemu' type='raw'/>
<source file='{path}'/><target dev='vds' bus='virtio'/><shareable/></disk>"""
AGENT = """<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"""
WIRE = """<serial type='unix'><source mode='{mode}' path='{path}'/><target port='1'/></serial>"""


@pytest.fixture
def vms(new_vm):
    return [new_vm(name, {"vda": 1 << 20, "vdb": 1 << 20}) for name in NAMES]


@pytest.fixture
def trees(mount, vms):
    return [mount.of(vm) for vm in vms]


class Group:
    """A group in the mount."""

    def __init__(self, mount, name, trees):
        self.mount, self.path, self.trees = mount, mount.point / "groups" / name, list(trees)
        self.path.mkdir()
        for tree in trees:
            self.add(tree)

    def __truediv__(self, name):
        return self.path / name

    def add(self, tree):
        os.symlink(f"../../snapshots/{tree.vm.name}", self.path / tree.vm.name)

    def mkdir(self, name):
        (self.path / name).mkdir()
        for tree in self.trees:
            tree.reference[name] = tree.vm.copy_of_content()

    def rmdir(self, name):
        (self.path / name).rmdir()
        for tree in self.trees:
            del tree.reference[name]

    @property
    def names(self):
        return set(os.listdir(self.path)) - {".kws"}

    @property
    def error(self):
        return (self.path / ".kws" / "last_error").read_text().rstrip("\n")

    def links(self, name):
        return {member: os.readlink(self.path / name / member)
                for member in os.listdir(self.path / name)}

    def check(self):
        for tree in self.trees:
            tree.check()
            tree.check_files()


@pytest.fixture
def group(mount, trees):
    return Group(mount, "shop", trees)


def test_putting_together(mount, trees, folder):
    groups = mount.point / "groups"
    group = Group(mount, "가게 하나", trees[:2])
    assert set(os.listdir(groups)) == {".kws", "가게 하나"} and group.names == {"web1", "web2"}
    assert os.readlink(group / "web1") == "../../snapshots/web1"
    assert os.path.samefile(group / "web1", trees[0].path)
    assert os.lstat(group / "web1").st_size == len("../../snapshots/web1")
    os.symlink(trees[2].path, group / "the third")  # absolute, and under another name
    assert os.path.samefile(group / "the third", trees[2].path)
    with refused(errno.ENOTEMPTY):
        group.path.rmdir()
    os.rename(groups / "가게 하나", groups / "shop")
    assert set(os.listdir(groups)) == {".kws", "shop"}
    inode = os.stat(groups / "shop").st_ino
    mount.kill()
    mount.start_again()
    assert set(os.listdir(groups / "shop")) == {".kws", "web1", "web2", "the third"}
    assert os.stat(groups / "shop").st_ino == inode and os.stat(groups).st_nlink == 4
    for name in "web1", "web2", "the third":
        (groups / "shop" / name).unlink()
    (groups / "shop").rmdir()
    assert os.listdir(groups) == [".kws"]


def test_what_is_refused(mount, group, trees, folder):
    groups = mount.point / "groups"
    (groups / "other").mkdir()
    other = groups / "other"
    with refused(errno.EINVAL):
        (other / "s1").mkdir()
    assert "the group has no VM" in (other / ".kws" / "last_error").read_text()
    for target in ("../../snapshots/none", "../../snapshots", "../../backup/web1", "/etc", "x", "",
                   "../../snapshots/web1/.kws", str(mount.point), str(folder)):
        with refused(errno.EINVAL, errno.ENOENT):
            os.symlink(target, other / "vm")
    assert os.listdir(other) == [".kws"]
    os.symlink("../../snapshots/web1", other / "one")
    for name in "one", "two":
        with refused(errno.EEXIST):
            os.symlink("../../snapshots/web1", other / name)
    with refused(errno.EEXIST):
        (other / "one").mkdir()
    with refused(errno.EEXIST):
        (groups / "shop").mkdir()
    with refused(errno.EEXIST, errno.ENOTEMPTY):
        os.rename(other, groups / "shop")
    for name in "latest", "x" * 241, ".hidden":
        with refused(errno.EINVAL, errno.ENAMETOOLONG):
            (groups / name).mkdir()
    with refused(errno.EINVAL):
        (other / ".hidden").mkdir()
    with refused(errno.EPERM):
        os.rename(other / "one", other / "two")
    with refused(errno.EPERM):
        os.rename(other / "one", groups / "shop" / "one")
    with refused(errno.EPERM):
        (other / "file").touch()
    with refused(errno.EPERM):
        os.symlink("web1", groups / "web1")
    with refused(errno.EPERM):
        os.symlink("web1", trees[0] / "link")
    group.mkdir("s1")
    with refused(errno.EEXIST):
        (group / "s1").mkdir()
    with refused(errno.EEXIST):
        os.symlink("../../snapshots/web1", group / "s1")
    with refused(errno.ENOTEMPTY):
        group.path.rmdir()
    with refused(errno.EPERM):
        (group / "s1" / "web1").unlink()
    with refused(errno.EPERM):
        (group / "s1" / "x").mkdir()
    assert group.names == {"s1", *NAMES}
    group.check()


def test_snapshots(mount, group, trees):
    """Of VMs that run, that are off, and that are paused already: which stays as it was."""
    for tree in trees[:2]:
        tree.vm.start()
    trees[1].vm.virsh("suspend", "web2")
    for number, name in enumerate(("s1", "s2")):
        for tree in trees:
            tree.vm.write("vda", number + 1, number << 16, 65536)
        group.mkdir(name)
    assert [tree.vm.state for tree in trees] == ["running", "paused", "shut off"]
    assert group.names == {"s1", "s2", *NAMES}
    assert group.links("s1") == {name: f"../../../snapshots/{name}/s1" for name in NAMES}
    assert os.stat(group / "s1" / "web1" / "vda.raw").st_size == 1 << 20
    assert [json.loads((tree / "s1" / "info.json").read_text())["consistency"]
            for tree in trees] == ["crash", "crash", "offline"]
    assert abs(os.stat(group / "s1").st_mtime - os.stat(trees[0] / "s1").st_mtime) < 60
    assert os.stat(group.path).st_nlink == 2 + len((".kws", "s1", "s2"))
    trees[1].vm.virsh("resume", "web2")
    mount.kill()
    mount.start_again()
    assert group.links("s2") == {name: f"../../../snapshots/{name}/s2" for name in NAMES}
    group.rmdir("s1")
    assert group.names == {"s2", *NAMES}
    group.check()


def test_what_is_left(mount, group, trees):
    """One VM's snapshot is deleted, renamed, a VM leaves the group: what is left is shown."""
    group.mkdir("s1")
    group.mkdir("s2")
    trees[0].rmdir("s1")
    trees[1].mv("s1", "renamed")
    assert group.links("s1") == {"web2": "../../../snapshots/web2/renamed",
                                 "web3": "../../../snapshots/web3/s1"}
    (group / "web3").unlink()
    assert set(group.links("s1")) == {"web2", "web3"}
    trees[2].rmdir("s1")
    trees[1].rmdir("renamed")
    assert group.names == {"s2", "web1", "web2"}
    (group / "s1").mkdir()  # its name is free again
    assert set(group.links("s1")) == {"web1", "web2"}
    for tree in trees[:2]:
        tree.reference["s1"] = tree.vm.copy_of_content()
    (group / "s1").rmdir()
    for tree in trees[:2]:
        del tree.reference["s1"]
    trees[0].vm.virsh("snapshot-delete", "web1", "s2", "--metadata")
    wait_until(lambda: "s2" not in trees[0].names, "it is seen")
    assert set(group.links("s2")) == {"web2", "web3"}


def test_all_or_none(mount, group, new_vm, trees, folder):
    for tree in trees:
        tree.vm.start()
        tree.mkdir("before")
    trees[1].mkdir("taken")
    with refused(errno.EEXIST):
        (group / "taken").mkdir()
    assert "web2: there is a snapshot 'taken' already" in group.error
    (folder / "shared.raw").write_bytes(bytes(65536))
    fourth = mount.of(new_vm("web4", more_devices=SHARED.format(path=folder / "shared.raw")))
    fourth.vm.start()
    group.add(fourth)
    with refused(errno.EOPNOTSUPP):
        (group / "new").mkdir()
    assert "web4: disk vds cannot be snapshotted" in group.error
    assert group.error in mount.log.read_text()
    assert trees[0].kws("last_error") == ""
    assert group.names == {*NAMES, "web4"}
    assert [tree.vm.state for tree in trees] == ["running"] * 3
    for tree in trees:
        tree.check()
        tree.check_files()


def test_deleting_is_checked_everywhere_first(group, trees):
    group.mkdir("s1")
    (trees[2] / "s1" / "pin").write_text("1")
    with refused(errno.EPERM):
        (group / "s1").rmdir()
    assert "web3: it is pinned" in group.error
    (trees[2] / "s1" / "pin").write_text("0")
    with open(group / "s1" / "web2" / "vda.raw", "rb"):
        with refused(errno.EBUSY):
            (group / "s1").rmdir()
    assert "web2: an image of it is open" in group.error
    assert set(group.links("s1")) == set(NAMES)
    group.check()
    group.rmdir("s1")
    assert group.names == set(NAMES)
    group.check()


# ---- one moment ----

def test_one_moment(mount, new_vm, guest, folder):
    """Two guests in step: each block is on the disk of the first one before the second one writes
    it. No snapshot may show the later of the two writes without the earlier one."""
    wire = folder / "wire"
    vms = []
    for name, kws, mode in ("second", "second", "bind"), ("first", "first", "connect"):
        vm = new_vm(name, {"vda": 1 << 20}, WIRE.format(mode=mode, path=wire), define=False)
        vm.boot_guest(guest, f"kws={kws}").define().start()
        wait_until(lambda vm=vm: "writing to 1 disks" in vm.console.read_text(), "it is up")
        vms.append(vm)
    group = Group(mount, "pair", [mount.of(vm) for vm in vms])
    for number in range(8):
        vms[1].wait_for_guest(vms[1].written_by_guest() + 64)
        (group / f"s{number}").mkdir()
        first, second = (check_prefix(group / f"s{number}" / name / "vda.raw", (1 << 20) // BLOCK)
                         for name in ("first", "second"))
        assert first - second in (0, 1) and second > 0, f"s{number}"


def test_guest_agents(mount, new_vm, guest, folder):
    """A file system that was frozen is clean on the disk; and the guest goes on."""
    vm = new_vm("web1", {"vda": 8 << 20}, AGENT, define=False).boot_guest(guest, "kws=agent")
    run("qemu-img", "convert", "-O", "qcow2", make_file_system(folder), vm.paths["vda"])
    vm.define().start()
    other = new_vm("web2")
    other.start()
    wait_until(lambda: agent(vm, "guest-fsfreeze-status") == "thawed", "the agent answers")
    group = Group(mount, "shop", [mount.of(vm), mount.of(other)])
    for quiesce, consistency in (("auto", "filesystem"), ("yes", "filesystem"), ("no", "crash")):
        said = vm.console.read_text().count("wrote line")
        wait_until(lambda said=said: vm.console.read_text().count("wrote line") > said, "it writes")
        (group.trees[0] / ".kws" / "quiesce").write_text(quiesce)
        (group / quiesce).mkdir()
        info = json.loads((group / quiesce / "web1" / "info.json").read_text())
        assert info["consistency"] == consistency
        header = run("dumpe2fs", "-h", group / quiesce / "web1" / "vda.raw")
        assert ("needs_recovery" in header) == (consistency == "crash")
        wait_until(lambda: agent(vm, "guest-fsfreeze-status") == "thawed", "it is thawed")
        assert vm.state == other.state == "running"
    metrics = (mount.point / "metrics").read_text().splitlines()
    assert "kwsfs_freeze_upper_bound_seconds_count 2" in metrics
    assert "kwsfs_snapshot_duration_seconds_count 6" in metrics
    (group.trees[1] / ".kws" / "quiesce").write_text("yes")
    with refused(errno.ETIMEDOUT):
        (group / "new").mkdir()
    assert "web2: quiesce is 'yes' and the guest agent does not answer" in group.error


def make_file_system(folder):
    path = folder / "ext4.raw"
    run("truncate", "-s", "8M", path)
    run("mkfs.ext4", "-q", path)
    return path


def agent(vm, command):
    """What the guest's agent says, None if it does not."""
    said = vm.libvirtd.try_virsh("qemu-agent-command", vm.name, json.dumps({"execute": command}))
    return json.loads(said.stdout)["return"] if said.returncode == 0 else None


def test_killed_while_the_guest_is_frozen(libvirtd, new_vm, guest, folder):
    vm = new_vm("web1", {"vda": 8 << 20}, AGENT, define=False).boot_guest(guest, "kws=agent")
    run("qemu-img", "convert", "-O", "qcow2", make_file_system(folder), vm.paths["vda"])
    vm.define().start()
    other = new_vm("web2")
    other.start()
    wait_until(lambda: agent(vm, "guest-fsfreeze-status") == "thawed", "the agent answers")
    mount = FaultyMount(libvirtd, folder / "mount")
    try:
        mount.start()
        group = Group(mount, "shop", [mount.of(vm), mount.of(other)])
        mount.arm("group.snapshot", "before", "kill")
        with pytest.raises(OSError):
            (group / "s1").mkdir()
        assert agent(vm, "guest-fsfreeze-status") == "frozen" or other.state == "paused"
        mount.start_again()
        wait_until(lambda: agent(vm, "guest-fsfreeze-status") == "thawed", "it is thawed")
        assert vm.state == other.state == "running"
        assert group.names == {"web1", "web2"} and group.trees[0].names == set()
    finally:
        mount.give_up()


# ---- many, and at the same time ----

def test_groups_that_share_vms(mount, trees):
    """Each has two of three, and all are asked at once, with the VMs' own: nobody waits for ever."""
    pairs = [(trees[0], trees[1]), (trees[1], trees[2]), (trees[2], trees[0])]
    groups = [Group(mount, f"group{number}", pair) for number, pair in enumerate(pairs)]
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        for number in range(4):
            doing = [pool.submit((group / f"{index} {number}").mkdir)
                     for index, group in enumerate(groups)]
            doing += [pool.submit((tree / f"own {number}").mkdir) for tree in trees]
            if number:
                doing += [pool.submit((group / f"{index} {number - 1}").rmdir)
                          for index, group in enumerate(groups)]
            for one in doing:
                one.result(timeout=120)
    for index, group in enumerate(groups):
        assert {name for name in group.names if not name.startswith("web")} == {f"{index} 3"}
        assert len(group.links(f"{index} 3")) == 2


def test_more_vms_than_workers(mount, new_vm):
    """And three groups of them at once."""
    vms = [new_vm(f"vm{number:02}", {"vda": 1 << 20}) for number in range(40)]
    trees = [mount.of(vm) for vm in vms]
    groups = [Group(mount, f"group{number}", order)
              for number, order in enumerate((trees, trees[::-1], trees[20:] + trees[:20]))]
    barrier = threading.Barrier(3)

    def take(group):
        barrier.wait()
        (group / group.path.name).mkdir()

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(take, groups))
    assert all(tree.names == {"group0", "group1", "group2"} for tree in trees)
    (groups[0] / "group0").rmdir()
    assert all(tree.names == {"group1", "group2"} for tree in trees)
    for tree in trees:
        tree.sync()  # a merge that gives a VM other files would define it again after its end


# ---- faults ----

GROUP_STEPS = [step for step in STEPS if step.startswith("group.")]
RUNNING = "web1", "web2"


@pytest.fixture
def faulty(libvirtd, new_vm, folder):
    mount = FaultyMount(libvirtd, folder / "mount")
    try:
        mount.start()
        trees = [mount.of(new_vm(name, {"vda": 1 << 20})) for name in RUNNING]
        for tree in trees:
            tree.vm.start()
        yield Group(mount, "shop", trees)
    finally:
        print(mount.log.read_text())
        mount.give_up()


def write(group, number):
    for tree in group.trees:
        tree.vm.write("vda", number % 250 + 1, number % 16 << 16, 65536)


def settled(group, name, number):
    """All have it or none, it reads as it should, nobody is held, and all goes on."""
    for tree in group.trees:
        wait_until(lambda tree=tree: has_merged_all(tree), "all is finished or undone")
    assert [tree.vm.state for tree in group.trees] == ["running"] * len(group.trees)
    have = [name in tree.names for tree in group.trees]
    assert have == [name in group.names] * len(group.trees)
    for tree in group.trees:
        if have[0]:
            tree.reference[name] = tree.vm.copy_of_content()
        tree.check()
        tree.check_files()
    if have[0]:
        assert len(group.links(name)) == len(group.trees)
        group.rmdir(name)
    write(group, number)
    return have[0]


@pytest.mark.parametrize("word", ["fail", "kill"])
def test_a_step_fails_or_is_the_last(faulty, word):
    became = {}
    for number, (step, when) in enumerate((step, when) for step in GROUP_STEPS
                                          for when in ("before", "after")):
        name = f"{step} {when}"
        write(faulty, number)
        faulty.mount.arm(step, when, word)
        try:
            (faulty / name).mkdir()
            said = True
        except OSError:
            said = False
        assert not faulty.mount.armed, f"{name} is not reached"
        if word == "kill":
            faulty.mount.start_again()
        became[name] = settled(faulty, name, number)
        assert became[name] or not said
    assert not became["group.agree before"] and became["group.record before"]


def must_be_shut_down(tree):
    """libvirtd died while one of the VMs was switched over, and does not know of it."""
    return tree.vm.running and "shut the VM down" in tree.kws("last_error")


@pytest.mark.parametrize("step", ["group.freeze", "group.snapshot", "group.thaw", "group.agree"])
@pytest.mark.parametrize("victim", ["libvirtd", "QEMU"])
def test_others_die(faulty, libvirtd, step, victim):
    write(faulty, 1)
    faulty.mount.arm(step, "before", "pause")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        trying = pool.submit((faulty / "s1").mkdir)
        wait_until(lambda: not faulty.mount.armed, f"{step} is reached")
        if victim == "libvirtd":
            libvirtd.kill()
        else:
            faulty.trees[0].vm.kill()
        faulty.mount.go()
        error = trying.exception(timeout=120)
        if victim == "libvirtd":
            libvirtd.start()
    assert error is None or isinstance(error, OSError), error
    for tree in faulty.trees:
        wait_until(lambda tree=tree: has_merged_all(tree) or must_be_shut_down(tree),
                   "all is finished or undone")
        if must_be_shut_down(tree):
            tree.vm.stop()
            wait_until(lambda tree=tree: has_merged_all(tree), "all is finished or undone")
        if not tree.vm.running:
            tree.vm.start()
    done = settled(faulty, "s1", 2)
    assert done or error
