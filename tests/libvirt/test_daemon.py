# SPDX-License-Identifier: GPL-2.0-or-later
"""The program kwsfs: how it starts, says that it is ready, ends, and comes back."""
import errno
import os
import signal
import socket
import subprocess

import pytest

from commands import DEADLINE, refused, run, try_run, wait_until
from kwsmount import BUILD, Mount
from processes import has_ended

KWSFS = BUILD / "mount" / "kwsfs"


def process_of(state):
    """The daemon that has this in its command line."""
    return int(run("pgrep", "-f", f"^{KWSFS} .*state={state}").split()[0])


@pytest.fixture
def point(folder):
    made = folder / "kws"
    made.mkdir()
    yield made
    subprocess.run(["umount", "-l", made], stderr=subprocess.DEVNULL, check=False)


def test_in_the_background(libvirtd, folder, point):
    """When the command returns, the mount answers."""
    run(KWSFS, "-o", f"state={folder}/state,log=syslog", libvirtd.uri, point)
    pid = process_of(folder / "state")
    assert os.listdir(point / "snapshots") == [".kws"]
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)} == {"/dev/null"}
    run("fusermount3", "-u", point)
    wait_until(lambda: has_ended(pid), "the daemon ends when it is unmounted")
    assert os.listdir(point) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_unmount(mount, number):
    fd = os.open(mount.point / "version", os.O_RDONLY)  # also while something is open
    mount.process.send_signal(number)
    assert mount.process.wait(timeout=DEADLINE) == 0
    with refused(errno.ENOTCONN):
        os.close(fd)
    assert os.listdir(mount.point) == []
    assert run("findmnt", "-no", "TARGET").find(str(mount.point)) < 0


def test_unmounting_ends_it(mount):
    run("umount", mount.point)
    assert mount.process.wait(timeout=DEADLINE) == 0


def test_readiness_for_systemd(libvirtd, folder, point):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(folder / "notify"))
        listener.settimeout(60)
        environ = dict(os.environ, NOTIFY_SOCKET=str(folder / "notify"))
        process = subprocess.Popen([KWSFS, "-f", "-o", f"state={folder}/state", libvirtd.uri, point],
                                   env=environ, stderr=subprocess.DEVNULL)
        said = listener.recv(1000).decode()
        assert "READY=1" in said and f"MAINPID={process.pid}" in said
        assert os.listdir(point / "snapshots") == [".kws"]
        process.terminate()
        assert "STOPPING=1" in listener.recv(1000).decode()
        assert process.wait(timeout=DEADLINE) == 0


WRONG = {
    "option": (["-o", "colour=red", "{point}"], "there is no option 'colour=red'"),
    "no value": (["-o", "state=", "{point}"], "state"),
    "flag": (["--color", "{point}"], "there is no option --color"),
    "umask": (["-o", "umask=9", "{point}"], "umask=9"),
    "user": (["-o", "uid=no-such-user", "{point}"], "no-such-user"),
    "read-only": (["-o", "ro", "{point}"], "read-only"),
    "arguments": (["a", "b", "c"], "too many arguments: 'c'"),
    "mount point": (["{uri}", "{folder}/missing"], "{folder}/missing"),
    "a file": (["{uri}", "{folder}/file"], "not a directory"),
    "libvirt": (["qemu+unix:///system?socket={folder}/none", "{point}"], "{folder}/none"),
    "driver": (["bogus:///system", "{point}"], "bogus:///system"),
    "test driver": (["test:///default", "{point}"], "QEMU"),
    "state": (["-o", "state={folder}/file/state", "{uri}", "{point}"], "{folder}/file"),
    "depth": (["-o", "max_depth=201", "{uri}", "{point}"], "from 2 to 200"),
    "store": (["-o", "store={folder}/missing", "{uri}", "{point}"], "{folder}/missing"),
}


@pytest.mark.parametrize("foreground", [True, False])
@pytest.mark.parametrize("wrong", WRONG)
def test_one_sentence_for_what_is_wrong(libvirtd, folder, point, wrong, foreground):
    (folder / "file").touch()
    arguments, sentence = WRONG[wrong]
    words = [word.format(point=point, folder=folder, uri=libvirtd.uri) for word in arguments]
    if not any("state=" in word for word in words):
        words = ["-o", f"state={folder}/state"] + words
    done = try_run(KWSFS, *(["-f"] if foreground else []), *words)
    assert done.returncode in (1, 2) and done.stdout == ""
    lines = [line for line in done.stderr.splitlines()
             if line != "kwsfs --help shows how it is used."]
    assert len(lines) == 1 and lines[0].startswith("kwsfs: "), done.stderr
    assert sentence.format(point=point, folder=folder, uri=libvirtd.uri) in lines[0]
    assert run("findmnt", "-rno", "TARGET").find(str(folder)) < 0


def test_help_and_version():
    assert run(KWSFS, "--version").startswith("kwsfs ")
    said = run(KWSFS, "--help")
    for option in "uri=", "state=", "store=", "allow_other", "uid=", "umask=", "foreground", "log=", \
            "max_depth=":
        assert option in said


def test_only_one_at_a_time(mount, libvirtd, folder):
    """Neither on one mount point, nor with one registry."""
    other = folder / "other"
    other.mkdir()
    for state, point in (folder / "other-state", mount.point), (mount.folder / "state", other):
        done = try_run(KWSFS, "-o", f"state={state}", libvirtd.uri, point)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert "already" in done.stderr or "another kwsfs" in done.stderr
    assert (mount.point / "version").exists()


def test_store(libvirtd, folder, new_vm):
    """Overlays go where the option says."""
    (folder / "store").mkdir()
    (folder / "store").chmod(0o755)
    mount = Mount(libvirtd, folder / "mount", f"store={folder}/store")
    try:
        mount.start()
        vm = new_vm()
        tree = mount.of(vm)
        vm.write("vda", 1, 0, 65536)
        tree.mkdir("one")
        assert vm.active["vda"].startswith(f"{folder}/store/")
        vm.start()
        vm.write("vda", 2, 0, 4096)
        tree.mkdir("two")
        vm.stop()
        tree.check()
        tree.revert("one")
        tree.check()
        for name in "one", "two":
            tree.rmdir(name)
        tree.sync()
        assert list(vm.folder.glob("*.qcow2")) == [vm.paths["vda"]]
        assert vm.active["vda"] == str(vm.paths["vda"])
        assert [name for _, _, files in os.walk(folder / "store") for name in files] == []
    finally:
        mount.stop()


def make_two(tree, vm):
    vm.write("vda", 1, 0, 1 << 20)
    tree.mkdir("one")
    vm.write("vda", 2, 4096, 65536)
    tree.mkdir("two")
    vm.write("vda", 3, 8192, 4096)


@pytest.mark.parametrize("running", [True, False])
def test_kill(tree, vm, mount, running):
    """A daemon that was killed leaves nothing wrong, and the next one cleans up by itself."""
    if running:
        vm.start()
    make_two(tree, vm)
    (tree / "one" / "description").write_text("first")
    (tree / "one" / "pin").write_text("1")
    inode = os.stat(tree / "two" / "vda.raw").st_ino
    tree.rmdir("two")  # and perhaps kill it in the middle of the merge
    mount.kill()
    with refused(errno.ENOTCONN):
        os.listdir(mount.point)
    vm.write("vdb", 9, 0, 4096) if running else None
    mount.start()
    tree.check()
    tree.check_files()
    assert (tree / "one" / "description").read_text() == "first\n"
    assert (tree / "one" / "pin").read_text() == "1\n"
    tree.mkdir("three")
    assert os.stat(tree / "three" / "vda.raw").st_ino != inode
    mount.kill()
    mount.start()
    tree.check()
    (tree / "one" / "pin").write_text("0")
    for name in "one", "three":
        tree.rmdir(name)
    tree.check_files()


def test_without_its_registry(tree, vm, mount):
    """It is a cache of what libvirt and the images say; lost are only what is ours alone."""
    vm.start()
    make_two(tree, vm)
    mount.stop()
    for name in os.listdir(mount.folder / "state"):
        os.unlink(mount.folder / "state" / name)
    mount.start()
    tree.check()
    tree.rmdir("one")
    tree.mkdir("three")
    tree.check()
    tree.check_files()


def test_changes_while_it_was_down(tree, vm, mount):
    make_two(tree, vm)
    mount.stop()
    vm.start()
    vm.virsh("snapshot-create-as", "web1", "by virsh", "--disk-only")
    tree.reference["by virsh"] = vm.copy_of_content()
    vm.virsh("snapshot-delete", "web1", "one", "--metadata")
    del tree.reference["one"]
    mount.start()
    assert tree.names == {"two", "by virsh"}
    for name, disks in tree.reference.items():
        for target, content in disks.items():
            assert (tree / name / f"{target}.raw").read_bytes() == content
    assert tree.kws("state") == "running"
