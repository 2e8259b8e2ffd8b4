# SPDX-License-Identifier: GPL-2.0-or-later
"""The log of the device-mapper target log-writes, and what is on the device if the power goes at any
moment of it: all that was flushed before and, if the disk was quick, some of what was not.

The format is the kernel's (Documentation/admin-guide/device-mapper/log-writes.rst): a first sector,
then entries, each a sector that describes it with the sectors that were written behind it. All
numbers are little-endian."""
import dataclasses
import struct

MAGIC, VERSION = 0x6a736677736872, 1
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
HEAD = struct.Struct("<QQQL")
ENTRY = struct.Struct("<QQQQ")


@dataclasses.dataclass
class Entry:
    flags: int
    where: int  # bytes, on the device
    length: int
    at: int  # bytes, of the data in the log
    mark: str = None

    @property
    def is_barrier(self):
        """With it, all that stands before it is durable."""
        return self.mark is None and self.flags & (FLUSH | FUA) != 0


class Log:
    def __init__(self, path):
        self.file = open(path, "rb")
        magic, version, count, self.sector = HEAD.unpack(self.file.read(HEAD.size))
        assert (magic, version) == (MAGIC, VERSION), f"{path} is no log of writes"
        self.entries = list(self.read(count))

    def close(self):
        self.file.close()

    def read(self, count):
        at = self.sector
        for _ in range(count):
            self.file.seek(at)
            where, sectors, flags, text = ENTRY.unpack(self.file.read(ENTRY.size))
            assert not flags & DISCARD, "what a disk makes of a discard is its own affair"
            mark = self.file.read(text).decode() if flags & MARK else None
            at += self.sector
            length = sectors * self.sector
            yield Entry(flags, where * self.sector, length, at, mark)
            at += length

    def write(self, device, entries):
        for entry in entries:
            self.file.seek(entry.at)
            device.seek(entry.where)
            device.write(self.file.read(entry.length))
        device.flush()

    def not_durable_at(self, number):
        """What the disk may have been given when entry `number` was the last: it is durable with the
        next barrier only. Nothing of what came after a mark."""
        found = []
        for entry in self.entries[number + 1:]:
            if entry.mark is not None or entry.is_barrier:
                break
            found.append(entry)
        return found
