# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux as a process (Debian's user-mode-linux): it sees this machine's files, which it cannot
write, and a disk of its own. That goes through dm-log-writes, which keeps a log of all that reaches
the disk, in order, and of every flush: see blocklog.py."""
import os
import shlex
import subprocess

from commands import run, try_run, wait_until

KERNEL = "/usr/bin/linux.uml"

# What is written reaches the log when the disk has been told to flush it, never before. The kernel
# writes nothing back by itself: what is on the disk was asked for.
INIT = """#!/bin/sh
set -eu
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
ip link set lo up
echo 0 >/proc/sys/vm/dirty_writeback_centisecs
for module in drivers/md/dm-mod drivers/md/dm-log-writes fs/fuse/fuse; do
	insmod /usr/lib/uml/modules/$(uname -r)/kernel/$module.ko
done
device() {{ # NAME TABLE
	dmsetup create --noudevsync "$1" --table "$2"
	dmsetup mknodes
}}
device logged "0 $(blockdev --getsz /dev/ubda) log-writes /dev/ubda /dev/ubdb"
{mounts}
export {environ}
code=0
{command} || code=$?
echo "exit code $code"
poweroff -f
"""

MOUNT = """
device part{number} "0 {sectors} linear /dev/mapper/logged {first}"
mount -t ext4 -o commit=1000 /dev/mapper/part{number} {folder}
"""


def environment(folder, build):
    """What the kernel is started with, on whatever processor: see uml-xstate.c."""
    return dict(os.environ, TMPDIR=str(folder), LD_PRELOAD=f"{build}/tests/lib/uml-xstate.so")


class Disk:
    """A file with a file system for each of some folders."""

    def __init__(self, path, folders, size):
        self.path, self.folders, self.size = path, folders, size
        for number, folder in enumerate(folders):
            folder.mkdir()
            part = path.with_name("part")
            with open(part, "wb") as file:
                file.truncate(size)
            run("mkfs.ext4", "-q", "-b", 4096, part)
            run("dd", "status=none", f"if={part}", f"of={path}", "bs=1M",
                f"seek={number * size >> 20}", "conv=sparse,notrunc")
            part.unlink()
        with open(path, "r+b") as file:
            file.truncate(size * len(folders))

    def mount(self, path):
        """This file, or a copy of it, on this machine."""
        for number, folder in enumerate(self.folders):
            run("mount", "-t", "ext4", "-o",
                f"loop,offset={number * self.size},sizelimit={self.size}", path, folder)

    def unmount(self):
        for folder in reversed(self.folders):
            if os.path.ismount(folder):
                wait_until(lambda folder=folder: try_run("umount", folder).returncode == 0,
                           f"{folder} is free")

    def mounts_in_there(self):
        """Commands for the shell."""
        return "".join(MOUNT.format(number=number, sectors=self.size >> 9,
                                    first=number * self.size >> 9, folder=shlex.quote(str(folder)))
                       for number, folder in enumerate(self.folders))


def mark(word):
    """Puts a word into the log, behind all that is durable now. To be called in there."""
    run("dmsetup", "message", "logged", "0", "mark", word)


class Machine:
    def __init__(self, folder, disk, log):
        self.folder, self.disk, self.log = folder, disk, log
        self.console = folder / "console"

    def run(self, *command, timeout=900, **environ):
        """Boots, runs a command, and ends without writing anything more."""
        init = self.folder / "init"
        init.write_text(INIT.format(
            mounts=self.disk.mounts_in_there(),
            environ=" ".join(f"{key}={shlex.quote(str(value))}" for key, value in environ.items()),
            command=shlex.join(map(str, command))))
        init.chmod(0o755)
        with open(self.console, "w") as console:
            process = subprocess.Popen(
                [KERNEL, "mem=768M", "root=/dev/root", "rootfstype=hostfs", "ro", "quiet",
                 f"ubd0={self.disk.path}", f"ubd1={self.log}", f"init={init}", "con=null",
                 "con0=null,fd:1", f"uml_dir={self.folder}"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                env=environment(self.folder, os.environ["KWS_BUILD"]), start_new_session=True)
            try:
                process.wait(timeout)
            finally:
                # It has a process of this machine for each of its own.
                end_session(process.pid)
                process.wait()
        said = self.console.read_text(errors="replace")
        assert "exit code 0" in said, said[-6000:]


def end_session(number):
    for pid in try_run("ps", "-o", "pid=", "-s", number).stdout.split():
        try:
            os.kill(int(pid), 9)
        except ProcessLookupError:
            pass
