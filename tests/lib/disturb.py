# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM's QEMU, whose system calls are made to fail, to take long, or to be its last."""
import contextlib
import signal
import subprocess


def qemu_pid(vm):
    """As libvirt has it: other libvirtds may have VMs of this name."""
    return int((vm.libvirtd.folder / "run" / "qemu" / f"{vm.name}.pid").read_text())


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
