# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that run before and after snapshots are taken, gone back to and deleted."""
import errno
import os
import signal
import subprocess

import pytest

from commands import refused, try_run, wait_until, write_once
from kwsmount import Mount
from processes import has_ended

NOTE = '#!/bin/sh\nenv | sort > "{out}/${{0##*/}}"\necho "${{0##*/}}" >> {out}/order\n'


class Hooks:
    """A folder of them, in which each notes its environment, and that it ran."""

    def __init__(self, folder):
        self.folder, self.out = folder / "hooks", folder / "out"
        self.folder.mkdir(mode=0o755)
        self.out.mkdir()

    def add(self, name, more="", mode=0o755):
        path = self.folder / name
        path.write_text(NOTE.format(out=self.out) + more + "\n")
        path.chmod(mode)
        return path

    def ran(self):
        """Those that did since it was last asked, in their order."""
        path = self.out / "order"
        said = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return said

    def told(self, name):
        return dict(line.split("=", 1) for line in (self.out / name).read_text().splitlines())


@pytest.fixture
def hooks(folder):
    return Hooks(folder)


@pytest.fixture
def mount(libvirtd, folder, hooks, new_vm):
    mounted = Mount(libvirtd, folder / "mount", f"hooks={hooks.folder},hook_timeout=10")
    try:
        yield mounted.start()
    finally:
        print(mounted.log.read_text())
        mounted.stop()


def test_they_are_told_the_facts(tree, vm, mount, hooks):
    for operation in "snapshot", "revert", "delete":
        hooks.add(f"pre-{operation}")
        hooks.add(f"post-{operation}")
    name = "새 이름 '1'"
    tree.mkdir(name)
    assert hooks.ran() == ["pre-snapshot", "post-snapshot"]
    tree.revert(name)
    assert hooks.ran() == ["pre-revert", "post-revert"]
    tree.rmdir(name)
    assert hooks.ran() == ["pre-delete", "post-delete"]
    for operation in "snapshot", "revert", "delete":
        before = hooks.told(f"pre-{operation}")
        after = hooks.told(f"post-{operation}")
        assert before.pop("PATH").startswith("/usr/local/sbin") and before.pop("PWD") == "/"
        for shell in "_", "SHLVL", "OLDPWD":
            before.pop(shell, None)
        assert before == {"LANG": "C.UTF-8", "KWS_HOOK": f"pre-{operation}",
                          "KWS_OPERATION": operation, "KWS_VM": "web1",
                          "KWS_VM_UUID": vm.virsh("domuuid", "web1").strip(),
                          "KWS_SNAPSHOT": name, "KWS_MOUNTPOINT": str(mount.point)}
        assert after["KWS_RESULT"] == "0" and after["KWS_ERROR"] == ""
        assert after["KWS_HOOK"] == f"post-{operation}"


def test_which_ones_run_and_in_which_order(tree, hooks):
    for name in "pre-snapshot-20", "pre-snapshot", "pre-snapshot.sh", "pre-snapshot-10-db":
        hooks.add(name)
    for name in ("pre-snapshot-db~", "pre-snapshotted", ".pre-snapshot", "pre-snap",
                 "pre-revert", "snapshot"):
        hooks.add(name)
    hooks.add("pre-snapshot-30", mode=0o644)
    (hooks.folder / "pre-snapshot-40").mkdir()
    tree.mkdir("s1")
    assert hooks.ran() == ["pre-snapshot", "pre-snapshot-10-db", "pre-snapshot-20",
                           "pre-snapshot.sh"]


@pytest.mark.parametrize("operation", ["snapshot", "revert", "delete"])
def test_one_refuses(tree, vm, mount, hooks, operation):
    """Nothing is changed; the post- hooks run, with the reason; those behind it do not."""
    tree.mkdir("kept")
    vm.write("vda", 3, 0, 4096)
    images = vm.images
    hooks.add(f"pre-{operation}-1")
    hooks.add(f"pre-{operation}-2", "echo what it works at >&2; printf '마감 중\\007\\377\\n\\n' >&2; "
                                    "exit 7")
    hooks.add(f"pre-{operation}-3")
    hooks.add(f"post-{operation}")
    with refused(errno.ECANCELED):
        {"snapshot": lambda: (tree / "new").mkdir(),
         "revert": lambda: write_once(tree / "kept" / "revert", "1"),
         "delete": lambda: (tree / "kept").rmdir()}[operation]()
    assert hooks.ran() == [f"pre-{operation}-1", f"pre-{operation}-2", f"post-{operation}"]
    sentence = f"the hook pre-{operation}-2 failed with exit code 7: 마감 중 ?"
    told = hooks.told(f"post-{operation}")
    assert told["KWS_RESULT"] == "ECANCELED" and told["KWS_ERROR"] == sentence
    assert tree.kws("last_error").endswith(sentence) and sentence in mount.log.read_text()
    tree.check()
    tree.check_files()
    assert vm.images == images


def test_post_hooks_run_after_a_failure(tree, vm, folder, hooks):
    """Whatever it failed of; and one of them that fails changes nothing."""
    hooks.add("post-snapshot-1", "echo cannot unlock >&2; exit 1")
    hooks.add("post-snapshot-2")
    vm.start()
    hooks.add("pre-snapshot", f"virsh -c {vm.libvirtd.uri} destroy web1 >&2; mv {vm.folder}/vda.qcow2 {folder}")
    with refused(errno.ENOENT):
        (tree / "s1").mkdir()
    (folder / "vda.qcow2").rename(vm.folder / "vda.qcow2")
    (hooks.folder / "pre-snapshot").unlink()
    assert hooks.ran() == ["pre-snapshot", "post-snapshot-1", "post-snapshot-2"]
    told = hooks.told("post-snapshot-2")
    assert told["KWS_RESULT"] == "ENOENT" and "vda" in told["KWS_ERROR"]
    tree.mkdir("s1")
    assert tree.kws("last_error") == "the hook post-snapshot-1 failed with exit code 1: cannot unlock"
    assert hooks.told("post-snapshot-2")["KWS_RESULT"] == "0"
    tree.check()


def test_one_that_hangs_is_ended_with_its_children(tree, folder, hooks):
    children = folder / "children"
    hooks.add("pre-snapshot", f"sleep 1000 & echo $! > {children}\n"
                              f"sh -c 'trap \"\" TERM; echo $$ >> {children}; sleep 1001' &\n"
                              "echo waits for ever >&2; wait")
    hooks.add("post-snapshot")
    with refused(errno.ETIMEDOUT):
        (tree / "s1").mkdir()
    assert "took longer than 10 seconds" in tree.kws("last_error")
    assert hooks.ran() == ["pre-snapshot", "post-snapshot"]
    assert hooks.told("post-snapshot")["KWS_RESULT"] == "ETIMEDOUT"
    for pid in children.read_text().split():
        wait_until(lambda pid=pid: has_ended(pid), "its children are ended")
    assert tree.names == set()


def test_what_it_leaves_running_does_not_matter(tree, folder, hooks):
    pid = folder / "pid"
    hooks.add("pre-snapshot", f"sleep 1000 & echo $! > {pid}")
    try:
        tree.mkdir("s1")  # although that has its standard error open
        assert not has_ended(pid.read_text().strip())
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_only_those_that_are_safe_to_run(tree, hooks):
    """Nothing at all runs if one of them is not."""
    hooks.add("pre-snapshot-1")
    unsafe = hooks.add("pre-snapshot-2")
    hooks.add("post-snapshot")
    for how, sentence in ((lambda: unsafe.chmod(0o757), "can be written by others"),
                          (lambda: unsafe.chmod(0o775), "can be written by others"),
                          (lambda: (unsafe.chmod(0o755), os.chown(unsafe, 65534, 0)),
                           "belongs to another user"),
                          (lambda: hooks.folder.chmod(0o777), "can be written by others"),
                          (lambda: os.chown(hooks.folder, 65534, 0), "belongs to another user")):
        how()
        with refused(errno.EPERM):
            (tree / "s1").mkdir()
        assert sentence in tree.kws("last_error")
        os.chown(unsafe, 0, 0)
        os.chown(hooks.folder, 0, 0)
        hooks.folder.chmod(0o755)
        unsafe.chmod(0o755)
    assert hooks.ran() == []
    tree.mkdir("s1")
    assert hooks.ran() == ["pre-snapshot-1", "pre-snapshot-2", "post-snapshot"]


def test_what_cannot_be_run(tree, hooks):
    path = hooks.add("pre-snapshot")
    path.write_text("#!/no/such/interpreter\n")
    with refused(errno.ECANCELED):
        (tree / "s1").mkdir()
    assert "the hook pre-snapshot cannot be run" in tree.kws("last_error")


def test_it_reads_what_is_deleted(tree, vm, folder, hooks):
    """So a hook can keep it elsewhere."""
    vm.write("vda", 5, 0, 65536)
    tree.mkdir("s1")
    reference = tree.reference["s1"]["vda"]
    hooks.add("pre-delete", f'cp "$KWS_MOUNTPOINT/snapshots/$KWS_VM/$KWS_SNAPSHOT/vda.raw" {folder}')
    with open(tree / "s1" / "vda.raw", "rb"):
        with refused(errno.EBUSY):
            (tree / "s1").rmdir()
    assert hooks.ran() == []  # it was refused before
    tree.rmdir_closed("s1")
    assert (folder / "vda.raw").read_bytes() == reference


def test_nested_ones(tree, vm, hooks):
    """A revert that keeps takes a snapshot."""
    tree.mkdir("s1")
    for hook in "pre-revert", "post-revert", "pre-snapshot", "post-snapshot":
        hooks.add(hook)
    write_once(tree / "s1" / "revert", "1 keep")
    assert hooks.ran() == ["pre-revert", "pre-snapshot", "post-snapshot", "post-revert"]
    assert hooks.told("post-snapshot")["KWS_SNAPSHOT"].startswith("before-revert-")


def test_groups(mount, tree, new_vm, hooks):
    """They run for each VM of a group. If one refuses there is no snapshot of any, and the post-
    hooks run wherever a pre- hook had."""
    other = mount.of(new_vm("web2"))
    group = mount.point / "groups" / "shop"
    group.mkdir()
    for name in "web1", "web2":
        (group / name).symlink_to(f"../../snapshots/{name}")
    for hook in "pre-snapshot", "post-snapshot", "pre-delete", "post-delete":
        hooks.add(hook, 'touch "$0-$KWS_VM-$KWS_RESULT"')
    refusing = hooks.add("pre-snapshot-2", '[ "$KWS_VM" = web1 ] || { echo not now >&2; exit 1; }')
    with refused(errno.ECANCELED):
        (group / "s1").mkdir()
    assert (group / ".kws" / "last_error").read_text() == (
        "cannot take the snapshot 's1' of the group: web2: the hook pre-snapshot-2 failed with "
        "exit code 1: not now\n")
    assert tree.names == other.names == set()
    for vm in "web1", "web2":
        assert (hooks.folder / f"pre-snapshot-{vm}-").exists()
        assert (hooks.folder / f"post-snapshot-{vm}-ECANCELED").exists()
    refusing.unlink()
    (group / "s1").mkdir()
    (group / "s1").rmdir()
    for vm in "web1", "web2":
        assert (hooks.folder / f"post-snapshot-{vm}-0").exists()
        assert (hooks.folder / f"post-delete-{vm}-0").exists()


def test_an_interrupted_mkdir(tree, folder, hooks):
    """Ctrl-C while a hook runs: what was begun is ended, as without hooks."""
    go = folder / "go"
    os.mkfifo(go)
    hooks.add("pre-snapshot", f"read line < {go}")
    with subprocess.Popen(["mkdir", tree / "s1"]) as mkdir:
        wait_until(lambda: (hooks.out / "order").exists(), "the hook runs")
        mkdir.send_signal(signal.SIGINT)
        go.write_text("on\n")
        mkdir.wait(timeout=60)
    wait_until(lambda: tree.names == {"s1"}, "the snapshot is there")


@pytest.mark.parametrize("options, sentence", [
    ("hooks={folder}/none", "cannot be used"), ("hooks={folder}/file", "is not a directory"),
    ("hooks={folder}/open", "can be written by others"), ("hook_timeout=0", "from 1 to"),
    ("hook_timeout=x", "from 1 to"), ("hooks=", "needs a")])
def test_a_folder_that_will_not_do(libvirtd, folder, options, sentence):
    (folder / "file").touch()
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    (folder / "kws").mkdir()
    said = try_run(Mount.program, "-f", "-o",
                   f"state={folder}/state," + options.format(folder=folder), libvirtd.uri,
                   folder / "kws", env=Mount.environ)
    assert said.returncode != 0 and sentence in said.stderr, said.stderr
