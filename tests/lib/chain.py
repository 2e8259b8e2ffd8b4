# SPDX-License-Identifier: GPL-2.0-or-later
"""A running VM with a chain of snapshots full of random data, and what QEMU's own tools say is
in it: qemu-img reads the layers themselves, so kwsfs has no part in what it is judged by."""
import json
import random
import re

from commands import run

KIB, MIB = 1 << 10, 1 << 20

# Not a multiple of a cluster, a page or a block of 4 KiB.
SIZE = 96 * MIB + 3 * 512

# What is written for each snapshot: offset, length, and 'data' or 'zero'. Some lies over what an
# earlier one has, some ends with the disk, some does not begin with a cluster.
WRITES = {
    "s1": [(0, 3 * MIB, "data"), (20 * MIB + 512, 700 * KIB, "data"), (40 * MIB, 2 * MIB, "data"),
           (SIZE - 70 * KIB, 70 * KIB, "data")],
    "s2": [(MIB + 512, 5 * 512, "data"), (41 * MIB, 512 * KIB, "zero"),
           (70 * MIB + 4096, 900 * KIB, "data"), (SIZE - 512, 512, "data")],
    "s3": [(2 * MIB, 64 * KIB, "zero"), (40 * MIB + 8192, 300 * KIB, "data"),
           (70 * MIB, MIB, "zero"), (90 * MIB - 512, 2 * 512, "data")],
}
MOST_DATA = 10 * MIB  # more than what any of the snapshots holds


class Chain:
    def __init__(self, mount, vm, folder):
        """The VM must be off; it runs afterwards, and has written over some of it."""
        self.vm = vm
        self.folder = folder
        self.path = mount.point / "snapshots" / vm.name
        self.layers = {}  # snapshot: the file that was frozen
        source = random.Random(1)
        for name, writes in WRITES.items():
            self.write(source, writes)
            self.layers[name] = vm.active["vda"]
            (self.path / name).mkdir()
        vm.start()
        vm.write("vda", 7, 0, 4 * MIB)

    def write(self, source, writes):
        commands = []
        for number, (offset, length, what) in enumerate(writes):
            pattern = self.folder / f"pattern{number}"
            pattern.write_bytes(source.randbytes(length))
            how = f"-s {pattern}" if what == "data" else "-z"
            commands += ["-c", f"write -q {how} {offset} {length}"]
        run("qemu-io", "-f", "qcow2", *commands, self.vm.active["vda"])

    def original(self, name):
        """The content as qemu-img reads it from the layers, as a raw file."""
        made = self.folder / f"{name}.original"
        if not made.exists():
            run("qemu-img", "convert", "-O", "raw", self.layers[name], made)
            assert made.stat().st_size == SIZE
        return made

    def sha256(self, name):
        return sha256(self.original(name))

    def check(self, name, raw=None, qcow2=None):
        """Copies, or whatever qemu-img takes for a file, must be the same as the original."""
        if raw:
            run("cmp", raw, self.original(name))
            assert sha256(raw) == self.sha256(name)
        if qcow2:
            run("qemu-img", "check", "-q", "-f", "qcow2", qcow2)
            assert "backing_file" not in json.loads(run("qemu-img", "info", "--output=json", qcow2))
            run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", qcow2, self.layers[name])


def sha256(path):
    return re.match(r"\\?([0-9a-f]{64}) ", run("sha256sum", path))[1]
