# SPDX-License-Identifier: GPL-2.0-or-later
"""A mounted kwsfs, and a VM's folder in it, as a user sees them."""
import errno
import json
import os
import pathlib
import signal
import subprocess
import time

from commands import DEADLINE, run, sync, try_run, wait_until, write_once
from vm import format_of

BUILD = pathlib.Path(os.environ["KWS_BUILD"])
SUPPRESSIONS = pathlib.Path(__file__).with_name("asan.suppressions")


class Mount:
    program = BUILD / "mount" / "kwsfs"
    environ = dict(os.environ, ASAN_OPTIONS=f"suppressions={SUPPRESSIONS}")

    def __init__(self, libvirtd, folder, options=""):
        self.libvirtd = libvirtd
        self.folder = folder
        self.point = folder / "kws"
        self.point.mkdir(parents=True, exist_ok=True)
        self.log = folder / "kwsfs.log"
        self.options = f"allow_other,state={folder}/state" + (f",{options}" if options else "")
        self.process = None

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [self.program, "-f", "-o", self.options, self.libvirtd.uri, self.point],
                env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)
        wait_until(lambda: self.process.poll() is not None or self.is_up(), "the mount answers")
        assert self.process.poll() is None, self.log.read_text()
        return self

    def is_up(self):
        try:
            return (self.point / "version").exists()
        except OSError:
            return False  # left over from one that was killed

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def start_again(self):
        """After it died."""
        self.process.wait(timeout=DEADLINE)
        subprocess.run(["umount", "-l", self.point], stderr=subprocess.DEVNULL, check=False)
        return self.start()

    def stop(self):
        """Ends it, however it stands, and checks that it had nothing to complain of by itself."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(timeout=DEADLINE) == 0, self.log.read_text()
        subprocess.run(["umount", "-l", self.point], stderr=subprocess.DEVNULL, check=False)
        assert "Sanitizer" not in self.log.read_text(), self.log.read_text()

    def fsck(self, *arguments):
        """kwsfs fsck: exit code, stdout and stderr."""
        return try_run(BUILD / "mount" / "kwsfs", "fsck", *arguments, "-o", self.options,
                       self.libvirtd.uri)

    @property
    def vms(self):
        return set(os.listdir(self.point / "snapshots")) - {".kws"}

    def of(self, vm):
        """As soon as it is shown: who looks for one that is new waits for libvirt for a second at most."""
        made = Tree(self, vm)
        wait_until(made.path.exists, f"{vm.name} is shown")
        return made


class SteppingMount(Mount):
    """One that runs a program before and after each step of an operation, see stepping-kwsfs.c."""
    program = BUILD / "tests" / "lib" / "stepping-kwsfs"

    def __init__(self, libvirtd, folder, at_step):
        super().__init__(libvirtd, folder)
        self.environ = dict(self.environ, KWS_AT_STEP=str(at_step))


class RememberingMount(Mount):
    """One that has no time to read everything when it starts, see remembering-kwsfs.c."""
    program = BUILD / "tests" / "lib" / "remembering-kwsfs"


class ImpatientMount(Mount):
    """One that recovers a VM again at once, or after another wait, see impatient-kwsfs.c."""
    program = BUILD / "tests" / "lib" / "impatient-kwsfs"

    def __init__(self, libvirtd, folder, wait_ms=20):
        super().__init__(libvirtd, folder)
        self.environ = dict(self.environ, KWS_FAILOVER_WAIT_MS=str(wait_ms))


class Tree:
    """/kws/snapshots/VM, with the verbs that a user types, and what must be true of it."""

    def __init__(self, mount, vm):
        self.mount = mount
        self.vm = vm
        self.path = mount.point / "snapshots" / vm.name
        self.reference = {}  # snapshot: {target: bytes}, as it was written when it was taken

    def __truediv__(self, name):
        return self.path / name

    def mkdir(self, name):
        (self.path / name).mkdir()
        self.reference[name] = self.vm.copy_of_content()

    def rmdir(self, name):
        (self.path / name).rmdir()
        del self.reference[name]

    def rmdir_closed(self, name):
        """One whose image was open until now: the kernel tells of a close() in the background."""
        def has_gone():
            try:
                (self.path / name).rmdir()
            except OSError as e:
                assert e.errno == errno.EBUSY, e
                return False
            return True

        wait_until(has_gone, f"{name} is closed")
        del self.reference[name]

    def mv(self, old, new):
        os.rename(self.path / old, self.path / new)
        self.reference[new] = self.reference.pop(old)

    def revert(self, name, how="1"):
        write_once(self.path / name / "revert", how)
        self.vm.content = {t: bytearray(c) for t, c in self.reference[name].items()}

    def start_quietly(self):
        """Starts the VM, and lets kwsfs see all that libvirt tells of that: each event is an occasion to go
        on with a merge, also with one that was canceled."""
        self.vm.start()
        wait_until(lambda: self.kws("state") == "running", "it is seen to run")
        time.sleep(1)

    def sync(self):
        sync(self.path)

    @property
    def names(self):
        return {name for name in os.listdir(self.path)
                if name not in (".kws", "latest", "current")}

    def kws(self, name):
        return (self.path / ".kws" / name).read_text().rstrip("\n")

    def link(self, name):
        return os.readlink(self.path / name) if os.path.lexists(self.path / name) else None

    def parents(self):
        return {name: os.path.basename(self.link(f"{name}/parent") or "") or None
                for name in self.names}

    def check(self):
        """Every snapshot reads as it did when it was taken, and virsh says the same as ls."""
        assert self.names == set(self.reference)
        for name, disks in self.reference.items():
            for target, content in disks.items():
                assert (self.path / name / f"{target}.raw").read_bytes() == content, (name, target)
        assert self.vm.snapshot_tree() == self.parents()
        assert self.vm.current == self.link("current")

    def check_files(self, leaks=False):
        """When the jobs are done, every image on disk is needed and sound, and what the VM
        would start with is what was written. A QEMU that was killed may have left `leaks`:
        clusters that it had not used yet."""
        self.sync()
        tops = list(self.vm.active.values())
        for layers in self.vm.snapshot_layers().values():
            tops += layers.values()
        needed = set()
        for top in tops:
            if top not in needed:
                chain = json.loads(run("qemu-img", "info", "-U", "--backing-chain",
                                       "--output=json", top))
                needed |= {layer["filename"] for layer in chain}
        assert self.vm.images == needed, (self.vm.images, needed)
        assert os.listdir(self.mount.point / "lost+found") == [".kws"]
        if not self.vm.running:
            self.check_disks(needed, leaks)

    def check_disks(self, layers, leaks):
        for layer in layers:
            if format_of(layer) == "raw":
                continue
            done = try_run("qemu-img", "check", "-q", layer)
            assert done.returncode in ((0, 3) if leaks else (0,)), done.stdout + done.stderr
        for target, top in self.vm.active.items():
            flat = self.mount.folder / f"flat-{self.vm.name}"  # others may be checked at the same time
            run("qemu-img", "convert", "-O", "raw", top, flat)
            assert flat.read_bytes() == bytes(self.vm.content[target]), target
