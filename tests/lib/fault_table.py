# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of what was broken when, and what came of it, printed at the end of the tests."""
import collections

SIGNS = {"undone": "-", "done": "+", "BAD": "!"}


class FaultTable:
    def __init__(self):
        self.cells = collections.defaultdict(dict)  # (VM, operation, step): {(fault, when): sign}
        self.faults = {}

    def add(self, operation, running, step, when, fault, became):
        """became: undone, done or BAD."""
        row = "runs" if running else "off", operation, step
        self.cells[row][fault, when] = SIGNS[became]
        self.faults[fault] = None

    def cell(self, row, fault):
        signs = [self.cells[row].get((fault, when), " ") for when in ("before", "after")]
        return "".join(signs).strip() and "".join(signs)

    def print(self, out):
        if not self.cells:
            return
        out.section("faults")
        out.line("As before the operation (-), as after it (+), or neither (!), with the fault "
                 "right before the step, and right after it.")
        out.line("")
        out.line(f"{'VM':5}{'operation':19}{'step':18}" + "  ".join(self.faults))
        for row in sorted(self.cells, key=lambda row: row[:2]):
            out.line(f"{row[0]:5}{row[1]:19}{row[2]:18}" +
                     "  ".join(f"{self.cell(row, fault):{len(fault)}}" for fault in self.faults))
        signs = collections.Counter(sign for row in self.cells.values() for sign in row.values())
        out.line("")
        out.line(f"{signs.total()} faults at {len(self.cells)} points: {signs['-']} undone, "
                 f"{signs['+']} done, {signs['!']} bad")
