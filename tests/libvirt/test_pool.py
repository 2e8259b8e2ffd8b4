# SPDX-License-Identifier: GPL-2.0-or-later
"""Published snapshots, and clones of them that are made ahead."""
import concurrent.futures
import errno
import os

import pytest

from clones import remove_clones
from commands import refused, run, sync, try_run, wait_until, write_once


class Pool:
    """pool/web, which publishes snapshots of web1."""

    def __init__(self, mount, tree):
        self.mount, self.tree = mount, tree
        self.folder = mount.point / "pool"
        self.path = self.folder / "web"

    def ln(self, snapshot, *options, name="web"):
        run("ln", "-s", *options, f"../snapshots/web1/{snapshot}/clones", self.folder / name)

    @property
    def names(self):
        return set(os.listdir(self.folder)) - {".kws"}

    @property
    def error(self):
        return (self.folder / ".kws" / "last_error").read_text().rstrip("\n")

    def set(self, what, value):
        write_once(self.path / ".kws" / what, value)

    def get(self, what):
        return (self.path / ".kws" / what).read_text().rstrip("\n")

    @property
    def status(self):
        return self.get("status").splitlines()

    def instances(self, role):
        """{name: (state, snapshot)}"""
        lines = [line.split("\t") for line in self.status if "\t" in line]
        return {name: (state, snapshot) for name, state, snapshot, its_role in lines
                if its_role == role}

    def wait_for(self, ready, wanted=None, state="defined"):
        wanted = ready if wanted is None else wanted
        line = f"spares {ready} of {wanted} {state}"
        wait_until(lambda: line in self.status and len(self.instances("spare")) == wanted,
                   f"{line}, not {self.get('status')}")

    def keep(self, n, state="defined"):
        self.set("spare_wait", 0)
        self.set("spare_state", state)
        self.set("spare", n)
        self.wait_for(n, state=state)

    def domain(self, name):
        """As virsh has it."""
        return self.mount.libvirtd.virsh("domstate", name)


def have_gone(libvirtd):
    """All but the source: libvirtd may yet define or start one for a kwsfs that was killed."""
    names = set(libvirtd.virsh("list", "--all", "--name").split()) - {"web1"}
    remove_clones(libvirtd, names)
    return not names


@pytest.fixture
def pool(mount, tree, vm, libvirtd):
    vm.write("vda", 1, 0, 1 << 20)
    tree.mkdir("golden")
    made = Pool(mount, tree)
    yield made
    for name in made.names:
        (made.folder / name).unlink()  # so that no spare is made anew
    mount.kill()
    wait_until(lambda: have_gone(libvirtd), "the VMs have gone")
    mount.start_again()
    wait_until(lambda: have_gone(libvirtd), "what libvirtd had yet to do is undone, too")


def test_links(mount, pool, tree, vm):
    pool.ln("golden")
    assert pool.names == {"web"}
    assert os.readlink(pool.path) == "../snapshots/web1/golden/clones"
    assert os.path.samefile(pool.path, tree / "golden" / "clones")
    assert os.lstat(pool.path).st_size == len("../snapshots/web1/golden/clones")
    with refused(errno.EPERM):
        (tree / "golden").rmdir()
    assert "the pool 'web' publishes it" in tree.kws("last_error")
    write_once(tree / ".kws" / "max_count", "1")
    tree.mkdir("golden 2")  # and golden stays, whatever the rules say
    assert "golden" in tree.names and "published" in tree.kws("prune")
    tree.mv("golden", "gold")
    assert os.readlink(pool.path) == "../snapshots/web1/gold/clones"
    assert try_run("ln", "-s", "../snapshots/web1/gold/clones", pool.folder / "web",
                   "-T").returncode == 1
    os.symlink(tree / "gold" / "clones", pool.folder / "둘")  # absolute
    os.rename(pool.folder / "둘", pool.folder / "two")
    inode = os.lstat(pool.path).st_ino
    mount.kill()
    mount.start_again()
    assert pool.names == {"web", "two"} and os.lstat(pool.path).st_ino == inode
    (pool.folder / "two").unlink()
    with refused(errno.EPERM):
        (tree / "gold").rmdir()
    pool.path.unlink()
    assert pool.names == set() and tree.names <= {"gold", "golden 2"}


def test_what_is_refused(mount, pool, tree, folder):
    for target in ("../snapshots/web1/golden", "../snapshots/web1", "../snapshots/web1/none/clones",
                   "/etc", "x", str(folder), "../snapshots/web1/golden/clones/.kws"):
        with refused(errno.EINVAL):
            os.symlink(target, pool.folder / "web")
        assert "is no clones/ of a snapshot" in pool.error
    for name in "latest", "x" * 250, "a\nb":
        with refused(errno.EINVAL, errno.ENAMETOOLONG):
            os.symlink("../snapshots/web1/golden/clones", pool.folder / name)
    with refused(errno.EPERM):
        (pool.folder / "web").mkdir()
    with refused(errno.EPERM):
        (pool.folder / "web").write_text("x")
    assert pool.names == set()
    kws = tree / "golden" / "clones" / ".kws"
    for what, value, other in ("spare", "0", "3"), ("spare_state", "defined", "saved"), \
                              ("spare_wait", "30", "0"):
        assert (kws / what).read_text() == f"{value}\n"
        write_once(kws / what, value)
        with refused(errno.EINVAL):
            write_once(kws / what, other)
        assert "no pool publishes this snapshot" in tree.kws("last_error")
    pool.ln("golden")
    for what, values in {"spare": ("", "-1", "x", "1001", "1 2"), "spare_wait": ("-1", "86401"),
                         "spare_state": ("", "running")}.items():
        for value in values:
            with refused(errno.EINVAL):
                pool.set(what, value)
    pool.ln("golden", name="two")
    with refused(errno.EEXIST):
        renameat2_noreplace(pool.folder / "two", pool.path)
    assert pool.names == {"web", "two"}


def renameat2_noreplace(old, new):
    done = try_run("mv", "--no-clobber", "-T", old, new)  # renameat2 with RENAME_NOREPLACE
    if os.path.lexists(old):
        raise FileExistsError(errno.EEXIST, done.stderr)


def test_a_newer_snapshot(pool, tree, vm, mount):
    pool.ln("golden")
    (pool.path / "web-01").mkdir()
    assert pool.instances("current") == {"web-01": ("shut off", "golden")}
    pool.keep(1)
    before = set(pool.instances("spare"))
    vm.write("vda", 2, 0, 1 << 18)
    tree.mkdir("golden 2")
    inode = os.lstat(pool.path).st_ino
    pool.ln("golden 2", "-fn")
    assert os.readlink(pool.path) == "../snapshots/web1/golden 2/clones"
    assert pool.names == {"web"} and os.lstat(pool.path).st_ino == inode
    assert pool.get("spare") == "1"
    wait_until(lambda: set(pool.instances("spare")) - before, "a new spare")
    pool.wait_for(1)
    assert not set(pool.instances("spare")) & before
    (pool.path / "web-02").mkdir()
    assert pool.instances("outdated") == {"web-01": ("shut off", "golden")}
    assert pool.instances("current") == {"web-02": ("shut off", "golden 2")}
    assert os.listdir(tree / "golden" / "clones") and (tree / "golden" / "clones" / "web-01").is_dir()
    with refused(errno.EPERM):
        (tree / "golden").rmdir()
    (tree / "golden" / "clones" / "web-01").rmdir()
    tree.rmdir("golden")
    assert pool.instances("outdated") == {}
    pool.wait_for(1)
    pool.set("spare", 0)
    pool.wait_for(0)
    (pool.path / "web-02").rmdir()
    pool.path.unlink()
    tree.rmdir("golden 2")
    tree.check()
    tree.check_files()


def test_defined(pool, tree, vm, mount):
    pool.ln("golden")
    pool.keep(3)
    spares = pool.instances("spare")
    assert all(name.startswith("web-spare-") and pool.domain(name) == "shut off" for name in spares)
    uuids = {mount.libvirtd.virsh("domuuid", name) for name in spares}
    assert set(os.listdir(pool.path)) == {".kws"} and mount.vms == {"web1", *spares}
    names = [f"web-0{number}" for number in range(3)]
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda name: (pool.path / name).mkdir(), names))
    assert {mount.libvirtd.virsh("domuuid", name) for name in names} == uuids
    assert set(os.listdir(pool.path)) == {".kws", *names}
    with refused(errno.EEXIST):
        (pool.path / "web-00").mkdir()
    with refused(errno.EEXIST):
        (pool.path / "web1").mkdir()
    pool.wait_for(3)
    assert not set(pool.instances("spare")) & set(spares)
    metrics = (mount.point / "metrics").read_text()
    assert "kwsfs_claim_duration_seconds_count 3\n" in metrics
    assert 'kwsfs_pool_spares_ready{pool="web"} 3\n' in metrics
    assert 'kwsfs_pool_spares_wanted{pool="web"} 3\n' in metrics
    for name in names:
        (pool.path / name / "state").write_text("start")
        assert pool.domain(name) == "running"
        (pool.path / name).rmdir()
    pool.path.unlink()  # takes the spares with it
    wait_until(lambda: mount.vms == {"web1"}, "the spares go")
    tree.check()
    tree.check_files()


@pytest.mark.parametrize("state", ["paused", "saved"])
def test_booted(pool, tree, vm, mount, state):
    pool.ln("golden")
    pool.keep(1, state)
    spare, = pool.instances("spare")
    assert pool.domain(spare) == {"paused": "paused", "saved": "shut off"}[state]
    memory = mount.folder / "state" / "spares"
    assert len(list(memory.glob("*"))) == (state == "saved")
    uuid = mount.libvirtd.virsh("domuuid", spare)
    pool.set("spare_wait", 3600)  # so that the next one is not ready
    (pool.path / "web-01").mkdir()
    assert mount.libvirtd.virsh("domuuid", spare) == uuid  # its name as long as it runs
    assert pool.domain(spare) == "running"
    assert mount.libvirtd.virsh("desc", spare, "--title") == "web-01"
    assert os.readlink(pool.path / "web-01" / "vm") == f"../../../../{spare}"
    assert not list(memory.glob("*"))
    assert pool.instances("current") == {"web-01": ("running", "golden")}
    with refused(errno.EBUSY):  # its name would be forgotten
        write_once(pool.path / "web-01" / "promote", "1")
    (pool.path / "web-02").mkdir()  # none was ready
    assert pool.domain("web-02") == "shut off"
    mount.libvirtd.virsh("destroy", spare)
    wait_until(lambda: "web-01" in mount.vms, "it gets its name when it is off")
    assert mount.libvirtd.virsh("domuuid", "web-01") == uuid
    assert os.readlink(pool.path / "web-01" / "vm") == "../../../../web-01"
    pool.set("spare_wait", 0)
    pool.wait_for(1, state=state)
    mount.kill()
    mount.start_again()
    pool.wait_for(1, state=state)
    pool.set("spare_state", "defined")  # what was booted is none of those
    pool.wait_for(1)
    assert not list(memory.glob("*"))
    pool.set("spare", 0)
    pool.wait_for(0)
    for name in "web-01", "web-02":
        (pool.path / name).rmdir()
    tree.check()
    tree.check_files()


def test_somebody_meddles(pool, tree, vm, mount):
    """A spare that is not as it was made is never handed out."""
    pool.ln("golden")
    pool.keep(1)
    first, = pool.instances("spare")
    mount.libvirtd.virsh("start", first)
    wait_until(lambda: first not in mount.vms, "another one is made")
    pool.wait_for(1)
    second, = pool.instances("spare")
    (mount.point / "snapshots" / second / "mine").mkdir()
    wait_until(lambda: "spares 1 of 1 defined" in pool.status, "another one is made beside it")
    assert second in mount.vms
    (mount.point / "snapshots" / second / "mine").rmdir()
    sync(mount.point / "snapshots" / second)  # the merge defines it anew
    pool.wait_for(1)
    third, = pool.instances("spare")
    mount.libvirtd.virsh("undefine", third)
    wait_until(lambda: third not in pool.instances("spare"), "it is seen")
    pool.wait_for(1)
    pool.set("spare", 0)
    pool.wait_for(0)


def test_what_they_are_told_changes(pool, tree, vm, mount):
    """Who is told something is told what holds when mkdir is called."""
    pool.ln("golden")
    pool.keep(2)
    before = set(pool.instances("spare"))
    uuids = {mount.libvirtd.virsh("domuuid", name) for name in before}
    (pool.path / ".kws" / "meta").write_text("role: web\n")
    (pool.path / "web-01").mkdir()
    assert mount.libvirtd.virsh("domuuid", "web-01") not in uuids
    assert "meta-data" in mount.libvirtd.virsh("dumpxml", "web-01")
    wait_until(lambda: not before & set(pool.instances("spare")), "they are made anew")
    pool.wait_for(2)


def test_killed_while_it_fills(pool, tree, vm, mount):
    others = set(mount.libvirtd.virsh("list", "--all", "--name").split())
    pool.ln("golden")
    pool.set("spare", 20)
    for number in 1, 4, 8:
        wait_until(lambda: len(pool.instances("spare")) >= number, f"there are {number}")
        mount.kill()
        mount.start_again()
    pool.wait_for(20)
    # One that was made twice, because it was not known yet that it had been made, goes.
    wait_until(lambda: set(mount.libvirtd.virsh("list", "--all", "--name").split()) - others
               == set(pool.instances("spare")), "libvirt has no others")
    pool.set("spare", 0)
    pool.wait_for(0)
    pool.path.unlink()
    tree.check()
    tree.check_files()


def test_failure(pool, tree, vm, mount):
    """What stands in the way is told of, and what is made ahead is tried again."""
    tree.mkdir("deeper")
    write_once(tree / ".kws" / "max_depth", "2")
    pool.ln("deeper")
    pool.set("spare", 1)
    wait_until(lambda: any(line.startswith("spare_error ") for line in pool.status), "it is told")
    wait_until(lambda: pool.error.startswith("pool 'web': cannot make a spare: "), "it is told there, too")
    pool.set("spare", 0)
