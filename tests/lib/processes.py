# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that may end at any moment, also while one looks."""
from pathlib import Path


def status_of(pid):
    """{field: value} of its /proc/PID/status, nothing once it is gone."""
    try:
        text = Path("/proc", str(pid), "status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):  # the latter if it went after the opening
        return {}
    return {field: value.strip() for field, _, value in
            (line.partition(":") for line in text.splitlines())}


def has_ended(pid):
    """Also if nobody has waited for it yet."""
    return status_of(pid).get("State", "X")[0] in "XZ"


def is_traced(pid):
    return status_of(pid).get("TracerPid", "0") != "0"
