# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong around a mounted kwsfs: its steps, the programs, the file system, the disk."""
import concurrent.futures
import contextlib
import errno
import os
import shutil
import subprocess

from commands import DEADLINE, run, wait_until
from kwsmount import BUILD, Mount

STEPS = run(BUILD / "tests" / "lib" / "list-steps").split()  # "delete.bury", ...
# What is done with clones, and with features, has tests of its own.
CLONE_STEPS = [step for step in STEPS if step.split(".")[0] in ("clone", "unclone", "promote", "claim")]
FEATURE_STEPS = [step for step in STEPS if step.startswith("features.")]

# The qemu-img that kwsfs finds.
QEMU_IMG = """#!/bin/sh
[ -e {folder}/qemu-img-fails ] || exec {real} "$@"
exec strace -o /dev/null -e inject={how} {real} "$@"
"""
NO_FSYNC = "fsync,fdatasync:error=EIO"

# What is done to clones while it happens, and the word for the hook.
CLONE_FAULTS = {"step fails": "fail", "kwsfs killed": "kill", "libvirtd killed": "pause"}


@contextlib.contextmanager
def filled(folder):
    """Not a byte is left in the folder's file system."""
    path = folder / "filler"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        size, at = 1 << 30, 0
        while size >= 1024:
            try:
                os.posix_fallocate(fd, at, size)
                at += size
            except OSError:
                size //= 2
        yield
    finally:
        os.close(fd)
        path.unlink()


class SmallDisk:
    """A file system of its own, into which libvirtd and QEMU look as well."""

    def __init__(self, folder, size="96M"):
        self.image, self.path = folder / "small.ext4", folder / "small"
        self.path.mkdir()
        run("truncate", "-s", size, self.image)
        run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", self.image)

    def __enter__(self):
        run("mount", "-o", "loop", self.image, self.path)
        self.path.chmod(0o755)
        shutil.rmtree(self.path / "lost+found")
        return self

    def __exit__(self, *_):
        run("umount", "-l", self.path)


class FaultyMount(Mount):
    """kwsfs with a hook in it: see faulty-kwsfs.c."""
    program = BUILD / "tests" / "lib" / "faulty-kwsfs"

    def __init__(self, libvirtd, folder):
        super().__init__(libvirtd, folder)
        self.faults = folder / "faults"
        (self.faults / "bin").mkdir(parents=True)
        os.mkfifo(self.faults / "go")
        qemu_img = self.faults / "bin" / "qemu-img"
        qemu_img.write_text(QEMU_IMG.format(folder=self.faults, how=NO_FSYNC,
                                            real=shutil.which("qemu-img")))
        qemu_img.chmod(0o755)
        self.environ = dict(self.environ, KWS_FAULT_DIR=str(self.faults),
                            PATH=f"{self.faults}/bin:{os.environ['PATH']}")

    def steps(self):
        """Those that were begun since it was last asked."""
        path = self.faults / "steps"
        said = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return said

    def arm(self, step, when, what):
        (self.faults / "fault.new").write_text(f"{step} {when} {what}")
        os.rename(self.faults / "fault.new", self.faults / "fault")

    def disarm(self):
        (self.faults / "fault").unlink(missing_ok=True)

    @property
    def armed(self):
        return (self.faults / "fault").exists()

    def go(self):
        """Lets a step go on that waits."""
        os.close(os.open(self.faults / "go", os.O_WRONLY))

    def break_in(self, verb, step, when, word, broken=None):
        """Calls verb, and breaks it at a step. With `pause` that waits until something is `broken`:
        libvirtd, if nothing else is said. Returns what verb failed with, or None; kwsfs runs again."""
        if broken is None:
            broken = self.libvirtd.killed() if word == "pause" else contextlib.nullcontext()
        self.arm(step, when, word)
        with concurrent.futures.ThreadPoolExecutor(1) as other:
            trying = other.submit(verb)
            try:
                wait_until(lambda: not self.armed or trying.done(), f"{step} is reached")
                wait_until(lambda: not self.armed, f"{step} is reached")
                with broken:
                    if word == "pause":
                        self.go()
                    error = trying.exception(timeout=DEADLINE)
            except BaseException:
                self.give_up()
                raise
        assert error is None or isinstance(error, OSError), error
        if word == "kill":
            self.start_again()
        return error

    @contextlib.contextmanager
    def qemu_img_fails(self):
        """Whatever qemu-img wants to have on disk fails to get there."""
        (self.faults / "qemu-img-fails").touch()
        try:
            yield
        finally:
            (self.faults / "qemu-img-fails").unlink()

    def give_up(self):
        """Ends it, however it stands."""
        if self.process and self.process.poll() is None:
            self.kill()
        subprocess.run(["umount", "-l", self.point], stderr=subprocess.DEVNULL, check=False)


# ---- afterwards ----

def try_sync(tree):
    with contextlib.suppress(OSError):
        tree.sync()


def is_settled(tree):
    """Nothing is left to do that could be done now."""
    if "libvirt connected" not in tree.kws("status"):
        return False  # only what is connected looks for what is open
    try:
        tree.sync()
    except OSError as e:
        assert e.errno in (errno.EIO, errno.ENOSPC, errno.EHOSTDOWN), e
        return False
    return True


def has_merged_all(tree):
    return is_settled(tree) and "tombstones 0" in tree.kws("status")


def do_something(tree):
    """An operation: before it begins, kwsfs finishes or undoes what was left open."""
    (tree / "next").mkdir()
    (tree / "next").rmdir()
