# SPDX-License-Identifier: GPL-2.0-or-later
"""Images in which bytes were changed at random, in the header and in the tables: they are refused,
or read as QEMU reads them, and never bring the reader down. KWS_SEED sets another damage."""
import os
import random

import pytest

from commands import run, try_run
from test_reader import DUMP, SEED, scribble

DAMAGES = int(os.environ.get("KWS_DAMAGES", 150))
CLUSTER = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    dice = random.Random(SEED)
    run("qemu-img", "create", "-q", "-f", "raw", folder / "base", "2M")
    scribble(dice, folder / "base", "raw", 2 << 20)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size={CLUSTER}", "-F", "raw", "-b",
        folder / "base", folder / "top")
    scribble(dice, folder / "top", "qcow2", 2 << 20, ["write -z", "write -z -u"])
    return (folder / "top").read_bytes()


def tables(image):
    """Where header, L1 and L2 tables lie, as the specification of qcow2 says."""
    l1_entries = int.from_bytes(image[36:40], "big")
    l1 = int.from_bytes(image[40:48], "big")
    found = [(0, 120), (l1, l1_entries * 8)]
    for entry in range(l1_entries):
        l2 = int.from_bytes(image[l1 + entry * 8:l1 + entry * 8 + 8], "big") & 0x00fffffffffffe00
        found += [(l2, CLUSTER)] if l2 else []
    return found


@pytest.mark.parametrize("number", range(DAMAGES))
def test_damage(whole, tmp_path, number):
    dice = random.Random(SEED * 100_000 + number)
    image = bytearray(whole)
    start, length = dice.choice(tables(whole))
    for _ in range(dice.randrange(1, 4)):
        image[start + dice.randrange(length)] ^= 1 << dice.randrange(8)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(image)
    ours = try_run("sh", "-c", '"$0" "$1" qcow2 > "$2"', DUMP, damaged, tmp_path / "ours")
    assert ours.returncode in (0, 1), ours.stderr  # the sanitizers' is another one
    if ours.returncode == 1:
        assert len(ours.stderr.splitlines()) == 1, ours.stderr
        return
    theirs = try_run("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", damaged,
                     tmp_path / "theirs")
    if theirs.returncode == 0:
        assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
