#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns a text file into a header with one string: embed.py NAME IN OUT.

Of SQL the comments are left out, of all else the comments that have lines for themselves, and
what lines are indented by. NAME_SHA256 is what a Content-Security-Policy wants to know of it."""
import base64
import hashlib
import re
import sys

name, source, out = sys.argv[1:]
with open(source, encoding="utf-8") as file:
    text = file.read()
if source.endswith(".sql"):
    lines = [line.split("--")[0].rstrip() for line in text.splitlines()]
else:
    lines = [line.strip() for line in re.sub(r"(?ms)^\s*/\*.*?\*/$", "", text).splitlines()]
lines = [line + "\n" for line in lines if line]
digest = base64.b64encode(hashlib.sha256("".join(lines).encode()).digest()).decode()
with open(out, "w", encoding="utf-8") as header:
    header.write(f'#define {name}_SHA256 "{digest}"\n#define {name} \\\n')
    for line in lines:
        escaped = line.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        header.write(f'\t"{escaped}" \\\n')
    header.write("\n")
