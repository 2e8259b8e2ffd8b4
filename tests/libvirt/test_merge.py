# SPDX-License-Identifier: GPL-2.0-or-later
"""Merging: which way is taken, that nothing is lost whatever ends it, and what can be seen of it."""
import contextlib
import errno
import json
import os
import re
import shutil

import pytest

from commands import refused, run, sync, try_run, wait_until
from disturb import disturbed
from faults import FaultyMount

MIB = 1 << 20
REAL = {name: shutil.which(name) for name in ("qemu-img", "qemu-storage-daemon")}


def allocated(path):
    return os.stat(path).st_blocks * 512


def layer_of(vm, snapshot, target="vda"):
    return vm.snapshot_layers()[snapshot][target]


def backing_of(path):
    return json.loads(run("qemu-img", "info", "-U", "--output=json", path)).get("backing-filename")


@pytest.fixture
def big(mount, new_vm):
    """A VM that is off, with one disk of 64 MiB."""
    return mount.of(new_vm("web1", {"vda": 64 * MIB}))


def make_chain(tree, sizes):
    """{snapshot: MiB written before it was taken}; the last is what is written after."""
    for number, (name, mebibytes) in enumerate(sizes.items(), start=1):
        if mebibytes:
            tree.vm.write("vda", number, number * MIB, mebibytes * MIB)
        if name:
            tree.mkdir(name)


@contextlib.contextmanager
def tools(mount, folder, **scripts):
    """kwsfs finds other programs under the names of QEMU's tools: shell scripts, in which $REAL is
    the real one. Each must have been used in the end."""
    place, environ = folder / "tools", mount.environ
    place.mkdir()
    for name, script in scripts.items():
        name = name.replace("_", "-")
        (place / name).write_text(f"#!/bin/sh\nREAL={REAL[name]}\n: > {place}/used\n{script}\n")
        (place / name).chmod(0o755)
    mount.stop()
    mount.environ = dict(environ, PATH=f"{place}:{os.environ['PATH']}")
    mount.start()
    yield
    assert (place / "used").exists()
    mount.stop()
    mount.environ = environ
    shutil.rmtree(place)
    mount.start()


# ---- the cheaper way ----

def test_the_smaller_layer_is_moved_up(big):
    """What s2 holds is little beside what was written since: it is copied up, not the rest down."""
    make_chain(big, {"s1": 4, "s2": 1, "": 20})
    small, large = layer_of(big.vm, "s2"), big.vm.active["vda"]
    before = allocated(large)
    big.rmdir("s2")
    big.check_files()
    big.check()
    assert not os.path.exists(small)
    assert big.vm.active["vda"] == large
    assert backing_of(large) == layer_of(big.vm, "s1")
    assert allocated(large) < before + 3 * MIB


def test_the_smaller_layer_is_moved_down(big):
    make_chain(big, {"s1": 4, "s2": 20, "": 1})
    small, large = big.vm.active["vda"], layer_of(big.vm, "s2")
    big.rmdir("s2")
    big.check_files()
    big.check()
    assert not os.path.exists(small)
    assert big.vm.active["vda"] == large


def test_what_is_hidden_is_not_moved(big):
    """The layer that goes holds much, but nearly all of it was written over since."""
    big.vm.write("vda", 1, 0, 4 * MIB)
    big.mkdir("s1")
    big.vm.write("vda", 2, 8 * MIB, 16 * MIB)
    big.mkdir("s2")
    big.vm.write("vda", 3, 8 * MIB, 15 * MIB)
    hidden, large = layer_of(big.vm, "s2"), big.vm.active["vda"]
    big.rmdir("s2")
    big.check_files()
    assert not os.path.exists(hidden) and big.vm.active["vda"] == large


def test_the_disk_that_the_admin_made_stays(big):
    """However little the base holds: it is the file by which the disk is known."""
    make_chain(big, {"s1": 1, "": 20})
    big.rmdir("s1")
    big.check_files()
    assert big.vm.active["vda"] == str(big.vm.paths["vda"])


def test_a_side_branch_of_a_running_vm(big):
    make_chain(big, {"s1": 4, "s2": 1, "s3": 20, "": 1})
    small, large = layer_of(big.vm, "s2"), layer_of(big.vm, "s3")
    big.revert("s1")
    big.vm.start()
    big.rmdir("s2")
    big.check_files()
    big.check()
    assert not os.path.exists(small) and layer_of(big.vm, "s3") == large


def test_a_layer_that_an_image_is_read_through_is_pulled_into(big):
    """Nobody who has an image open sees a byte change."""
    make_chain(big, {"s1": 4, "s2": 1, "s3": 20, "": 0})
    with open(big / "s3" / "vda.raw", "rb", buffering=0) as image:
        first = image.read(MIB)
        big.rmdir("s2")
        big.sync()
        assert backing_of(layer_of(big.vm, "s3")) == layer_of(big.vm, "s1")
        whole = first + b"".join(iter(lambda: image.read(MIB), b""))
    assert whole == big.reference["s3"]["vda"]
    big.check_files()


def test_a_disk_that_was_made_smaller_below(big):
    """An overlay that is larger than what it lies on would read what lies further down."""
    make_chain(big, {"s1": 60, "": 0})
    run("qemu-img", "resize", "-q", "--shrink", big.vm.active["vda"], "16M")
    del big.vm.content["vda"][16 * MIB:]
    make_chain(big, {"s2": 1})
    run("qemu-img", "resize", "-q", big.vm.active["vda"], "64M")
    big.vm.content["vda"] += bytes(48 * MIB)
    big.vm.write("vda", 77, 2 * MIB, 12 * MIB)
    big.rmdir("s2")
    big.sync()
    big.check()
    big.check_disks([], leaks=False)


# ---- whatever ends it ----

KILL = """[ "$1 $2" = "rebase -p" ] || exec $REAL "$@"
exec strace -f -o {log} -P {path} -e trace=pwrite64,fdatasync \
    -e inject={call}:signal=KILL:when={when} $REAL "$@"
"""


@pytest.mark.parametrize("call, when", [("pwrite64", 1), ("pwrite64", 2), ("fdatasync", 1)])
def test_a_pull_dies(big, mount, folder, call, when):
    """The last of these is when qemu-img has written what the layer lies on now, and not yet the
    tables of what it copied. strace counts the calls of each thread: there are more pieces to be
    written than qemu-img has threads for them."""
    make_chain(big, {"s1": 4})
    for piece in range(12):
        big.vm.write("vda", 2, (30 + 2 * piece) * MIB, 64 << 10)
    make_chain(big, {"s2": 3, "s3": 20, "": 0})
    path, below, log = layer_of(big.vm, "s3"), layer_of(big.vm, "s2"), folder / "strace"
    script = KILL.format(path=path, call=call, when=when, log=log)
    with tools(mount, folder, qemu_img=script):
        big.rmdir("s2")
        try_run("sync", big.path)
        assert "killed by SIGKILL" in log.read_text()
        assert backing_of(path) != below or call != "fdatasync"
        big.check()
    big.sync()
    big.check()
    big.check_files(leaks=True)


SLOW = """[ "$1 $2" = "rebase -p" ] || exec $REAL "$@"
exec strace -f -o /dev/null -P {path} -e inject=pwrite64,fdatasync:delay_exit=400ms $REAL "$@"
"""


def test_images_that_are_opened_while_a_pull_ends(big, mount, folder):
    make_chain(big, {"s1": 4, "s2": 3, "s3": 20, "": 0})
    top, below = layer_of(big.vm, "s3"), layer_of(big.vm, "s2")
    with tools(mount, folder, qemu_img=SLOW.format(path=top)):
        big.rmdir("s2")
        wait_until(lambda: backing_of(top) != below, "its header tells of the new chain")
        for _ in range(3):
            big.check()
        big.sync()
    big.check()
    big.check_files()


SLOW_COMMIT = """exec strace -f -o /dev/null -P {path} -e inject=pwrite64,pwritev:delay_exit=200ms $REAL "$@"
"""


def is_running(tree):
    return "job running" in tree.kws("status")


def test_mkdir_does_not_wait_for_a_merge_of_a_vm_that_is_off(big, mount, folder):
    make_chain(big, {"s1": 4, "": 55})
    slow = SLOW_COMMIT.format(path=layer_of(big.vm, "s1"))
    with tools(mount, folder, qemu_storage_daemon=slow):
        big.rmdir("s1")
        wait_until(lambda: re.search(r"^done [1-9]", big.kws("status"), re.MULTILINE), "it moves")
        big.mkdir("s3")
        assert "tombstones 1" in big.kws("status"), "the merge is not done"
        wait_until(lambda: is_running(big), "it goes on")
        big.check()
    big.sync()
    big.check()
    big.check_files()


# ---- what can be seen, and canceled ----

def the_job(tree):
    jobs = wait_until(lambda: os.listdir(tree / ".kws" / "jobs"), "a job runs")
    assert len(jobs) == 1
    return tree / ".kws" / "jobs" / jobs[0]


def status_of(job):
    return dict(line.split(" ", 1) for line in (job / "status").read_text().splitlines())


@pytest.mark.parametrize("then", ["sync", "mkdir"])
def test_the_vm_starts_when_the_data_have_been_merged(libvirtd, folder, new_vm, then):
    """And before its disk lies on what they were merged into: only QEMU can do that then."""
    mount = FaultyMount(libvirtd, folder / "mount").start()
    try:
        vm = new_vm("web1")
        tree = mount.of(vm)
        wait_until(tree.path.exists, "the VM is seen")
        for number, size in (1, 1 << 20), (2, 65536), (3, 65536):
            vm.write("vda", number, 0, size)
            tree.mkdir(f"s{number}")
        mount.arm("merge.references", "before", "pause")
        tree.rmdir("s1")
        wait_until(lambda: not mount.armed, "the data are merged")
        vm.start()
        mount.go()
        if then == "mkdir":
            tree.mkdir("s4")
        tree.sync()
        assert vm.running and "tombstones 0" in tree.kws("status")
        tree.check()
        vm.stop()
        tree.check_files()
    finally:
        print(mount.log.read_text())
        mount.give_up()
    assert "Sanitizer" not in mount.log.read_text()


def test_a_job_is_seen_and_canceled(big, mount, folder):
    make_chain(big, {"s1": 4, "": 55})
    slow = SLOW_COMMIT.format(path=layer_of(big.vm, "s1"))
    with tools(mount, folder, qemu_storage_daemon=slow):
        big.rmdir("s1")
        job = the_job(big)
        status = wait_until(lambda: "rate" in status_of(job) and status_of(job), "it has begun")
        assert status["kind"] == "merge" and status["disk"] == "vda" and status["step"] == "data"
        assert 55 * MIB <= int(status["total"]) < 56 * MIB
        wait_until(lambda: int(status_of(job)["done"]) > 0, "it gets on")
        help_line = (job / "cancel").read_text()
        with refused(errno.EINVAL):
            (job / "cancel").write_text("yes\n")
        (job / "cancel").write_text(help_line)
        assert status_of(job)["step"] == "data", "what is read does nothing when it is written"
        (job / "cancel").write_text("1\n")
        with refused(errno.ECANCELED):
            sync(big.path)
        assert os.listdir(big / ".kws" / "jobs") == []
        assert "tombstones 1" in big.kws("status")
        assert "canceled" in big.kws("last_error")
        big.check()
    big.sync()
    big.check()
    big.check_files()


def test_a_job_of_a_running_vm_is_canceled(big):
    make_chain(big, {"s1": 4, "": 55})
    big.start_quietly()
    with disturbed(big.vm.qemu, "pwrite64,pwritev:delay_exit=200ms"):
        big.rmdir("s1")
        (the_job(big) / "cancel").write_text("1\n")
        with refused(errno.ECANCELED):
            sync(big.path)
    big.check()
    assert big.vm.running
    big.mkdir("s3")  # an operation is an occasion to go on
    big.check_files()
    big.check()


# ---- room ----

@pytest.fixture
def small_store(folder):
    """A file system of 200 MiB."""
    image, point = folder / "store.img", folder / "store"
    with open(image, "wb") as f:
        f.truncate(200 * MIB)
    run("mkfs.ext4", "-q", "-m", "0", image)
    point.mkdir()
    run("mount", "-o", "loop", image, point)
    point.chmod(0o755)
    try:
        yield point
    finally:
        run("umount", point)


@pytest.mark.parametrize("running", [True, False])
def test_there_is_no_room_for_a_merge(small_store, mount, new_vm, running):
    vm = new_vm("web1", {"vda": 64 * MIB}, define=False)
    shutil.move(vm.paths["vda"], small_store / "vda.qcow2")
    vm.paths["vda"] = small_store / "vda.qcow2"
    vm.define()
    tree = mount.of(vm)
    make_chain(tree, {"s1": 4, "s2": 30, "s3": 30})
    vm.write("vda", 9, 40 * MIB, MIB)
    if running:
        vm.start()
    ballast = small_store / "ballast"
    free = shutil.disk_usage(small_store).free
    run("fallocate", "-l", free - 8 * MIB, ballast)
    for name in ("s1", "s2"):
        tree.rmdir(name)
    with refused(errno.ENOSPC):
        tree.sync()
    said = re.search(r"needs (\d+) MiB more", tree.kws("last_error"))
    assert said and 20 < int(said[1]) < 60, tree.kws("last_error")
    tree.check()
    assert vm.running == running and vm.state in ("running", "shut off")
    ballast.unlink()
    wait_until(lambda: "tombstones 0" in tree.kws("status"), "it goes on by itself")
    assert list(small_store.glob("*.qcow2")) and "job idle" in tree.kws("status")
    tree.check()
