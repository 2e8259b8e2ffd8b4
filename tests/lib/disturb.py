# SPDX-License-Identifier: GPL-2.0-or-later
"""A process whose system calls are made to fail, to take long, or to be its last."""
import contextlib
import signal
import subprocess

from commands import DEADLINE, wait_until
from processes import has_ended, is_traced


@contextlib.contextmanager
def disturbed(pid, how):
    """strace does something to system calls of a process and of those that it starts; `when`
    counts those of a thread."""
    strace = subprocess.Popen(["strace", "-f", "-o", "/dev/null", "-p", str(pid),
                               "-e", f"inject={how}"],
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert "attached" in strace.stderr.readline()
        yield
    finally:
        # One that is interrupted while a process ends for which it waits may wait for ever.
        wait_until(lambda: not (has_ended(pid) and is_traced(pid)), "strace has seen the end of it")
        strace.send_signal(signal.SIGINT)
        strace.wait(timeout=DEADLINE)
        strace.stderr.close()
