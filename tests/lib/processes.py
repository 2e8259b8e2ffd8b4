# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that may end at any moment, also while one looks."""
import os
from pathlib import Path

GONE = FileNotFoundError, ProcessLookupError  # the latter if it went after the opening


def status_of(pid):
    """{field: value} of its /proc/PID/status, nothing once it is gone."""
    try:
        text = Path("/proc", str(pid), "status").read_text(encoding="utf-8", errors="replace")
    except GONE:
        return {}
    return {field: value.strip() for field, _, value in
            (line.partition(":") for line in text.splitlines())}


def has_ended(pid):
    """With all of its threads: the first may be a zombie while others still have files open. Also if
    nobody has waited for it yet."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except GONE:
        return True
    return all(status_of(f"{pid}/task/{thread}").get("State", "X")[0] in "XZ" for thread in threads)
