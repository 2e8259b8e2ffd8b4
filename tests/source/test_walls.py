# SPDX-License-Identifier: GPL-2.0-or-later
"""The walls of the house, as docs/DESIGN.md and HACKING.md have them: who includes what."""
import pathlib
import re

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
SOURCES = [path for folder in ("common", "engine", "fs", "mount")
           for path in (TOP / folder).glob("*.[ch]")]
MAY_INCLUDE = {"common": {"common"}, "engine": {"common", "engine"}, "fs": {"common", "engine", "fs"},
               "mount": {"common", "engine", "fs", "mount"}}

# What each library's headers begin with, and the only files that may include them.
LIBRARIES = {r"libvirt/": r"engine/hv-libvirt.*", r"sqlite3": r"engine/registry.*",
             r"fuse": r"fs/.*", r"libxml/": r"engine/.*-?xml(-tree)?\.[ch]",
             r"systemd/": r"mount/.*", r"json-c/": r"(engine/(plan|qemu-img|backing|storage-daemon|hv-libvirt-agent)|fs/(events|info))\.c",
             r"blkid/": r"engine/partitions\.c",
             r"(zlib|zstd)": r"engine/qcow2-compressed\.c"}

# What the folders above see of the one below.
DOORS = {"fs": {"engine/engine.h"}, "mount": {"engine/engine.h", "fs/fs.h"}}


def includes(path, kind):
    opening, closing = kind
    return re.findall(rf'^#include {opening}([^{closing}]+){closing}', path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(TOP)))
def test_who_includes_what(path):
    where, name = path.parent.name, str(path.relative_to(TOP))
    for header in includes(path, '""'):
        folder = header.split("/")[0]
        assert folder in MAY_INCLUDE[where] or header.endswith("schema.h")
        assert folder in (where, "common") or header in DOORS[where]
    for header in includes(path, "<>"):
        for beginning, users in LIBRARIES.items():
            assert not re.match(beginning, header) or re.fullmatch(users, name)


def test_there_are_sources():
    assert len(SOURCES) > 80
