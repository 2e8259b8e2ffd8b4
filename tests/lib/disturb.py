# SPDX-License-Identifier: GPL-2.0-or-later
"""A process whose system calls are made to fail, to take long, or to be its last."""
import contextlib
import signal
import subprocess


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
        strace.send_signal(signal.SIGINT)
        try:
            strace.wait(timeout=10)
        except subprocess.TimeoutExpired:  # it may wait for ever for a thread of one that was killed
            strace.kill()
            strace.wait()
        strace.stderr.close()
