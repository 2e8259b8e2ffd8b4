# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM's QEMU, whose system calls are made to fail, to take long, or to be its last."""
import contextlib
import signal
import subprocess

from commands import run


def qemu_pid(vm):
    """Of this VM, and not of one by that name on another libvirtd."""
    return int(run("pgrep", "-f", f"guest={vm.name},.*{vm.folder}/").split()[0])


@contextlib.contextmanager
def disturbed(vm, how):
    """strace does something to system calls of the VM's QEMU; `when` counts those of a thread."""
    strace = subprocess.Popen(["strace", "-f", "-o", "/dev/null", "-p", str(qemu_pid(vm)),
                               "-e", f"inject={how}"],
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert "attached" in strace.stderr.readline()
        yield
    finally:
        strace.send_signal(signal.SIGINT)
        strace.wait(timeout=60)
        strace.stderr.close()
