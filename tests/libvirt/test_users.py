# SPDX-License-Identifier: GPL-2.0-or-later
"""The tools that people have, reading large and sparse disks whose content lies in several
layers. qemu-img, which reads the layers themselves, says what the content is; see chain.py. What
the same tools do with the other files of a snapshot is in test_tools.py."""
import mmap
import os
import random

import pytest

from chain import MIB, MOST_DATA, SIZE
from commands import run

# Copies the folder of a snapshot, FROM, into the folder TO. What keeps holes must leave them.
KEEP_HOLES = {
    "tar": 'tar -C "$FROM" -Scf "$TO.tar" . && tar -C "$TO" -xf "$TO.tar"',
    "rsync -S": 'rsync -rS "$FROM/" "$TO/"',
    "cp": 'cp -r --reflink=never --sparse=auto "$FROM/." "$TO/"',
    "cp -a": 'cp -a "$FROM/." "$TO/"',
    "dd sparse": 'for f in raw qcow2; do dd status=none bs=64k conv=sparse '
                 'if="$FROM/vda.$f" of="$TO/vda.$f"; done',
}
FILL_HOLES = {
    "rsync --inplace": 'rsync -a --inplace "$FROM/" "$TO/"',
    "rsync --inplace over another": 'cp "$FROM/../s1"/vda.* "$TO/" && chmod u+w "$TO"/* && '
                                    'rsync -rI --inplace --no-whole-file "$FROM/" "$TO/"',
    "dd direct": 'for f in raw qcow2; do dd status=none bs=4k iflag=direct '
                 'if="$FROM/vda.$f" of="$TO/vda.$f"; done',
    "dd of an odd size": 'for f in raw qcow2; do dd status=none bs=100003 '
                         'if="$FROM/vda.$f" of="$TO/vda.$f"; done',
}


@pytest.mark.parametrize("how", [*KEEP_HOLES, *FILL_HOLES])
def test_copy(chain, folder, how):
    to = folder / "copy"
    to.mkdir()
    run("bash", "-c", f"set -e -o pipefail; {(KEEP_HOLES | FILL_HOLES)[how]}",
        env=dict(os.environ, FROM=str(chain.path / "s3"), TO=str(to)))
    chain.check("s3", raw=to / "vda.raw", qcow2=to / "vda.qcow2")
    if how in KEEP_HOLES:
        assert os.stat(to / "vda.raw").st_blocks * 512 < MOST_DATA
    if how == "tar":
        assert os.stat(f"{to}.tar").st_size < 2 * MOST_DATA  # in two shapes


def test_checksums(chain, folder):
    """Of a list that was made of the originals, as one keeps it beside a backup."""
    sums = [f"{chain.sha256(name)}  {name}/vda.raw\n" for name in chain.layers]
    assert len(set(sums)) == len({line.split()[0] for line in sums}) == 3
    (folder / "sums").write_text("".join(sums))
    run("sha256sum", "--strict", "-c", folder / "sums", cwd=chain.path)


def test_qemu_img_reads_them(chain):
    for name, layer in chain.layers.items():
        for shape in "raw", "qcow2":
            run("qemu-img", "compare", "-q", "-f", shape, "-F", "qcow2",
                chain.path / name / f"vda.{shape}", layer)
        run("qemu-img", "check", "-q", chain.path / name / "vda.qcow2")


def reads(size):
    """Offsets and lengths around pages, clusters, requests and the end, and some at random."""
    for edge in 0, 4096, 65536, 256 << 10, MIB, 20 * MIB, 40 * MIB, 70 * MIB, size:
        for before in 0, 1, 511, 4097:
            yield max(edge - before, 0), 2 * before + 1
    source = random.Random(2)
    for _ in range(300):
        yield source.randrange(size), source.choice((1, 13, 4095, 70001, 300007, 2000003))


@pytest.mark.parametrize("shape", ["raw", "qcow2"])
def test_odd_reads(chain, folder, shape):
    """pread, mmap and sendfile, wherever they begin and end. What the qcow2 holds is what dd
    read, which is right as qemu-img says."""
    served = chain.path / "s3" / f"vda.{shape}"
    original = chain.original("s3")
    if shape == "qcow2":
        original = folder / "vda.qcow2"
        run("dd", f"if={served}", f"of={original}", "bs=64k", "status=none")
        chain.check("s3", qcow2=original)
    wanted = original.read_bytes()
    fd, out = os.open(served, os.O_RDONLY), os.open(folder / "out", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with mmap.mmap(fd, len(wanted), prot=mmap.PROT_READ) as mapped:
            for offset, length in reads(len(wanted)):
                piece = wanted[offset:offset + length]
                assert os.pread(fd, length, offset) == piece, (offset, length)
                assert mapped[offset:offset + length] == piece, (offset, length)
                os.lseek(out, 0, os.SEEK_SET)
                done = os.sendfile(out, fd, offset, length)
                assert os.pread(out, length, 0)[:done] == piece[:done], (offset, length)
                assert done > 0 or not piece
    finally:
        os.close(fd)
        os.close(out)


def test_reads_past_the_cache(chain):
    """O_DIRECT: whatever is aligned, and the end, which is not."""
    wanted = chain.original("s3").read_bytes()
    fd = os.open(chain.path / "s3" / "vda.raw", os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, 2 * MIB)
    try:
        for offset, length in reads(SIZE):
            offset, length = offset // 512 * 512, min((length + 511) // 512 * 512, len(buffer))
            n = os.preadv(fd, [memoryview(buffer)[:length]], offset)
            assert buffer[:n] == wanted[offset:offset + length], (offset, length)
        assert os.preadv(fd, [buffer], SIZE + 512) == 0
    finally:
        os.close(fd)


def test_pages_in_no_order(chain):
    """So often that parts of the layers are mapped for it."""
    wanted = chain.original("s3").read_bytes()
    pages = list(range(0, SIZE // 4096 * 4096, 4096)) * 2
    random.Random(1).shuffle(pages)
    fd = os.open(chain.path / "s3" / "vda.raw", os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, 4096)
    try:
        for offset in pages:
            os.preadv(fd, [buffer], offset)
            assert buffer[:] == wanted[offset:offset + 4096], offset
    finally:
        os.close(fd)
