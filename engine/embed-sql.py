#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns an SQL file into a header with one string: embed-sql.py IN OUT."""
import sys

with open(sys.argv[1], encoding="utf-8") as source:
    lines = source.read().splitlines()
with open(sys.argv[2], "w", encoding="utf-8") as out:
    out.write("#define SCHEMA_SQL \\\n")
    for line in lines:
        text = line.split("--")[0].rstrip().replace("\\", "\\\\").replace('"', '\\"')
        if text:
            out.write(f'\t"{text}\\n" \\\n')
    out.write("\n")
