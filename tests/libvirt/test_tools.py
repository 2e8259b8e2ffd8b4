# SPDX-License-Identifier: GPL-2.0-or-later
"""What people and their scripts do with a directory."""
import errno
import json
import os
import re

import pytest

from commands import refused, run, try_run


@pytest.fixture
def s1(tree, vm):
    """A snapshot with something in it, of a running VM."""
    vm.start()
    vm.write("vda", 5, 1 << 20, 300 << 10)
    vm.write("vdb", 6, 0, 4096)
    tree.mkdir("s1")
    vm.write("vda", 7, 0, 2 << 20)
    return tree / "s1"


def same(copy, tree):
    for target, content in tree.reference["s1"].items():
        assert (copy / f"{target}.raw").read_bytes() == content
    assert "<name>web1</name>" in (copy / "domain.xml").read_text()


def test_cp(s1, tree, folder):
    run("cp", "-r", s1, folder / "copy")
    same(folder / "copy", tree)
    run("cp", "-a", s1, folder / "all")
    same(folder / "all", tree)
    assert os.stat(folder / "all" / "vda.raw").st_mtime == os.stat(s1 / "vda.raw").st_mtime
    assert os.stat(folder / "all" / "vda.raw").st_blocks * 512 <= 512 << 10  # holes stay holes
    assert run("diff", "-r", "--no-dereference", s1, folder / "all") == ""


def test_rsync(s1, tree, folder):
    run("rsync", "-a", f"{s1}/", folder / "copy")
    same(folder / "copy", tree)
    again = run("rsync", "-a", "--itemize-changes", f"{s1}/", folder / "copy")
    assert "vda.raw" not in again and "domain.xml" not in again  # as nothing has changed
    run("rsync", "-aS", f"{tree.path}/", folder / "vm")
    same(folder / "vm" / "s1", tree)


def test_tar(s1, tree, folder):
    run("tar", "-C", tree.path, "-Scf", folder / "tar", "s1")
    assert os.stat(folder / "tar").st_size < 2 << 20  # sparse: the disks have 5 MiB
    run("tar", "-C", folder, "-xf", folder / "tar")
    same(folder / "s1", tree)


def test_find_and_du(s1, tree, mount):
    found = run("find", mount.point, "-printf", "%P\n").splitlines()
    for name in ("version", "snapshots/web1/s1/vda.raw", "snapshots/web1/s1/info.json",
                 "snapshots/web1/.kws/state", "snapshots/web1/latest"):
        assert name in found
    assert len(found) == len(set(found))
    kib = int(run("du", "-sk", s1).split()[0])
    assert 2 * 304 <= kib <= 2000  # in two shapes, one of which has tables
    bytes_of_raw = run("du", "-sb", s1 / "vda.raw").split()[0]
    assert bytes_of_raw == str(4 << 20)
    assert run("find", mount.point, "-type", "f", "-not", "-readable") == ""


def test_grep_reads_all(s1, mount):
    """None of the files fails or blocks, and none is shorter or longer than it said."""
    run("grep", "-r", "-q", "-a", "--", "web1", mount.point / "snapshots")
    for path in run("find", mount.point, "-type", "f").splitlines():
        done = try_run("cat", path)
        assert done.returncode == 0, done.stderr


def test_a_copy_knows_where_it_comes_from(s1, tree, vm, folder):
    wanted = {"user.kws.vm": "web1", "user.kws.snapshot": "s1", "user.kws.consistency": "crash",
              "user.kws.uuid": vm.virsh("domuuid", "web1").strip()}
    run("cp", "-a", s1, folder / "copy")
    for path, disk in (s1, None), (folder / "copy", None), (folder / "copy" / "vda.raw", "vda"):
        for name, value in wanted.items():
            assert os.getxattr(path, name).decode() == value
        info = json.loads((s1 / "info.json").read_text())
        assert os.getxattr(path, "user.kws.created").decode() == info["created"]
        assert ("user.kws.disk" in os.listxattr(path)) == (disk is not None)
    assert os.getxattr(folder / "copy" / "vda.raw", "user.kws.disk") == b"vda"
    assert os.listxattr(tree / ".kws" / "state") == []
    with refused(errno.ENODATA):
        os.getxattr(s1, "user.other")
    with refused(errno.EOPNOTSUPP):
        os.setxattr(s1, "user.kws.vm", b"x")


def test_rm_leaves_all(s1, tree, mount):
    for where in s1, tree.path, mount.point / "snapshots":
        done = try_run("rm", "-rf", where)
        assert done.returncode != 0 and "Operation not permitted" in done.stderr
    tree.check()
    assert "rmdir" in tree.kws("last_error")


def control_files(top):
    for path in run("find", top, "-type", "f", "-perm", "/222").splitlines():
        yield path


def test_own_content_written_back_changes_nothing(s1, tree, vm, mount):
    (s1 / "description").write_text("as it was\n")
    (s1 / "pin").write_text("1\n")
    tree.mkdir("s2")

    def state():
        return (run("find", tree.path, "-printf", "%P %y %m %U %G %s %T@ %l\n"),
                {path: open(path, encoding="utf-8").read() for path in control_files(tree.path)},
                vm.state, vm.active, vm.current)

    before = state()
    assert len(before[1]) >= 7
    for path, text in before[1].items():
        run("sh", "-c", 'cp "$1" "$1"; text=$(cat "$1"); printf "%s\\n" "$text" > "$1"', "sh", path) \
            if text else open(path, "w", encoding="utf-8").close()
    assert state() == before
    tree.check()


def test_what_cannot_be_written(s1, tree, mount):
    for path in (s1 / "vda.raw", s1 / "domain.xml", s1 / "info.json", tree / ".kws" / "state",
                 mount.point / "version"):
        with refused(errno.EROFS, errno.EPERM, errno.EACCES):
            path.open("r+b").close()
        with refused(errno.EROFS, errno.EPERM, errno.EACCES):
            os.truncate(path, 0)
    for folder in s1, tree.path, tree / ".kws", mount.point, mount.point / "snapshots":
        with refused(errno.EPERM):
            (folder / "file").touch()
        with refused(errno.EPERM):
            (folder / "link").symlink_to("nowhere")
        with refused(errno.EPERM):
            os.link(s1 / "vda.raw", folder / "hard")
        with refused(errno.EPERM):
            os.mkfifo(folder / "fifo")
    for folder in s1, tree / ".kws", mount.point, mount.point / "snapshots":
        with refused(errno.EPERM):
            (folder / "folder").mkdir()
    with refused(errno.EPERM):
        os.chmod(s1 / "vda.raw", 0o666)
    with refused(errno.EPERM):
        os.utime(s1, (1, 1))
    tree.check()


def test_df_and_mount_say_something_of_use(s1, mount):
    assert re.search(r"^\S+\s+fuse\.kwsfs\s", run("df", "-T", mount.point).splitlines()[1])
    found = run("findmnt", "-no", "FSTYPE,OPTIONS", mount.point)
    assert "fuse.kwsfs" in found and "nosuid" in found and "nodev" in found


def test_definition_follows_a_merge(s1, tree, vm, folder):
    """The layer of a deleted snapshot goes; who copies the definition then copies all of it."""
    tree.mkdir("s2")
    before = (tree / "s2" / "domain.xml").read_text()
    tree.rmdir("s1")
    tree.sync()
    run("rsync", "-a", f"{tree.path}/s2/", folder / "copy")
    text = (folder / "copy" / "domain.xml").read_text()
    assert text != before and text.endswith("</domain>\n")
    for layer in vm.snapshot_layers()["s2"].values():
        assert layer in text


def test_file_and_stat_on_a_link(s1, tree, folder):
    """The links work as links: cp -L and cd go through them."""
    run("cp", "-rL", tree / "latest", folder / "through")
    same(folder / "through", tree)
    assert os.path.samefile(tree / "latest", s1)
    assert os.path.realpath(tree / "current") == str(s1)
