# SPDX-License-Identifier: GPL-2.0-or-later
"""What every test needs to type commands and to wait for things."""
import contextlib
import errno
import os
import subprocess
import time

DEADLINE = 120  # seconds; nothing in a test takes that long unless it hangs


def run(*command, **options):
    """Runs a command and returns what it printed. A failure raises with its own words."""
    done = try_run(*command, **options)
    if done.returncode:
        raise AssertionError(
            f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def try_run(*command, timeout=DEADLINE, **options):
    """Runs a command that may fail; returns exit code, stdout and stderr."""
    return subprocess.run([os.fspath(word) if isinstance(word, os.PathLike) else str(word)
                           for word in command],
                          stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
                          errors="surrogateescape", timeout=timeout, **options)


def wait_until(condition, what, deadline=DEADLINE):
    """Waits until condition() is true and returns what it said."""
    end = time.monotonic() + deadline
    while True:
        said = condition()
        if said:
            return said
        assert time.monotonic() < end, f"in {deadline} s it did not come to: {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def refused(*expected):
    """The block must fail with one of these errnos."""
    names = " or ".join(errno.errorcode[code] for code in expected)
    try:
        yield
    except OSError as e:
        assert e.errno in expected, f"failed with {errno.errorcode[e.errno]} instead of {names}"
    else:
        raise AssertionError(f"this should have been refused with {names}")


def write_once(path, text):
    """As `echo TEXT > FILE`: one write, which is not tried again at closing as Python's own are."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)


def sync(folder):
    """As the command `sync FOLDER`: waits for the VM's jobs."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
