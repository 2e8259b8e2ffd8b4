# SPDX-License-Identifier: GPL-2.0-or-later
"""The image reader against QEMU's: chains made at random by qemu-img and qemu-io must read as
`qemu-img convert` reads them, and what is called empty must be what `qemu-img map` calls so.
KWS_SEED and KWS_IMAGES set other images than the default ones."""
import json
import os
import pathlib
import random

import pytest

from commands import run, try_run

DUMP = pathlib.Path(os.environ["KWS_BUILD"]) / "tests" / "lib" / "image-dump"
SEED = int(os.environ.get("KWS_SEED", 1))
IMAGES = int(os.environ.get("KWS_IMAGES", 150))
KIB = 1 << 10


def make_layer(dice, path, below, below_format, size):
    version = dice.choice(["0.10", "1.1", "1.1"])
    options = [f"compat={version}", f"cluster_size={dice.choice([512, 4 * KIB, 64 * KIB, 2048 * KIB])}"]
    if version == "1.1":
        options += [f"refcount_bits={dice.choice([1, 8, 16, 64])}",
                    f"lazy_refcounts={dice.choice(['on', 'off'])}"]
    backing = ["-b", below, "-F", below_format] if below else []
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", ",".join(options), *backing, path, size)
    zeroes = ["write -z", "write -z -u", "discard"] if version == "1.1" else []
    scribble(dice, path, "qcow2", size, zeroes)


def scribble(dice, path, image_format, size, more_verbs=()):
    commands = []
    for _ in range(dice.randrange(1, 7)):
        verb = dice.choice([f"write -P {dice.randrange(1, 256)}"] * 2 + list(more_verbs))
        offset = dice.randrange(size // 512) * 512
        length = min(dice.choice([512, 4 * KIB, 65 * KIB, 300 * KIB]), size - offset)
        commands += ["-c", f"{verb} {offset} {length}"]
    run("qemu-io", "-d", "unmap", "-f", image_format, *commands, path)


def make_chain(dice, folder):
    """A chain of some depth whose layers differ in everything that may differ."""
    below, below_format = None, None
    size = dice.choice([1 << 20, 3 << 20, (1 << 20) + 512 * 7, 64 * KIB])
    if dice.random() < 0.5:
        below, below_format = folder / "base.raw", "raw"
        run("qemu-img", "create", "-q", "-f", "raw", below, size)
        scribble(dice, below, "raw", size)
    for number in range(dice.randrange(1, 7)):
        if dice.random() < 0.3:  # smaller or larger than what it lies on
            size = max(64 * KIB, size + dice.choice([-512 * KIB, 512 * 77, 1 << 20]))
        layer = folder / f"layer{number}.qcow2"
        name = below.name if below and dice.random() < 0.5 else below  # relative, or not
        make_layer(dice, layer, name, below_format, size)
        if dice.random() < 0.2 and try_run("qemu-img", "snapshot", "-c", "internal",
                                           layer).returncode == 0:  # not with 1 bit per refcount
            scribble(dice, layer, "qcow2", size)
        below, below_format = layer, "qcow2"
    return below


def read_map(text):
    for line in text.splitlines():
        start, length, kind = line.split()
        yield int(start), int(length), kind


def is_data(entries, size):
    """A bytearray with a 1 for each sector that is data."""
    sectors = bytearray(size // 512 + 1)
    for start, length in entries:
        first, last = start // 512, (start + length + 511) // 512
        sectors[first:last] = b"\1" * (last - first)
    return sectors


@pytest.mark.parametrize("number", range(IMAGES))
def test_as_qemu_reads_it(tmp_path, number):
    dice = random.Random(SEED * 100_000 + number)
    top = make_chain(dice, tmp_path)
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", top, tmp_path / "theirs")
    theirs = (tmp_path / "theirs").read_bytes()
    run("sh", "-c", '"$0" "$1" qcow2 > "$2"', DUMP, top, tmp_path / "ours")
    assert (tmp_path / "ours").read_bytes() == theirs

    ours = list(read_map(run(DUMP, "--map", top, "qcow2")))
    assert [start for start, _, _ in ours[1:]] == [start + length for start, length, _ in ours[:-1]]
    assert sum(length for _, length, _ in ours) == len(theirs)
    mapped = json.loads(run("qemu-img", "map", "-f", "qcow2", "--output=json", top))
    wanted = is_data([(e["start"], e["length"]) for e in mapped if e["data"]], len(theirs))
    found = is_data([(start, length) for start, length, kind in ours if kind == "data"], len(theirs))
    assert found == wanted


REFUSED = {
    "extended L2": ["-f", "qcow2", "-o", "extended_l2=on", "1M"],
    "data file": ["-f", "qcow2", "-o", "data_file={folder}/data", "1M"],
    "encryption": ["-f", "qcow2", "--object", "secret,id=s,data=x",
                   "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "1M"],
    "compression": ["-f", "qcow2", "-o", "compression_type=zstd", "1M"],
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refused_by_name(tmp_path, reason):
    options = [word.format(folder=tmp_path) for word in REFUSED[reason]]
    run("qemu-img", "create", "-q", *options[:-1], tmp_path / "image", options[-1])
    done = try_run(DUMP, tmp_path / "image", "qcow2")
    assert done.returncode == 1 and done.stdout == ""
    assert reason in done.stderr and str(tmp_path / "image") in done.stderr


def test_compressed_clusters_are_refused_by_name(tmp_path):
    run("qemu-img", "create", "-q", "-f", "raw", tmp_path / "raw", "1M")
    scribble(random.Random(1), tmp_path / "raw", "raw", 1 << 20)
    run("qemu-img", "convert", "-c", "-O", "qcow2", tmp_path / "raw", tmp_path / "image")
    done = try_run(DUMP, tmp_path / "image", "qcow2")
    assert done.returncode == 1 and "compressed clusters" in done.stderr


def test_formats_are_not_guessed(tmp_path):
    run("qemu-img", "create", "-q", "-f", "raw", tmp_path / "base", "1M")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", tmp_path / "base", "-F", "raw",
        tmp_path / "top")
    # A header that does not name the format is what old versions of qemu-img wrote.
    extension = bytes.fromhex("e2792aca 00000003") + b"raw"
    image = (tmp_path / "top").read_bytes()
    assert image.count(extension) == 1
    (tmp_path / "top").write_bytes(image.replace(extension, b"?" * 4 + extension[4:]))
    done = try_run(DUMP, tmp_path / "top", "qcow2")
    assert done.returncode == 1 and "rebase -u -F" in done.stderr


def test_a_loop_of_backing_files_ends(tmp_path):
    for name, other in ("a", "b"), ("b", "a"):
        run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", tmp_path / other, "-F", "qcow2",
            tmp_path / name, "1M")
    done = try_run(DUMP, tmp_path / "a", "qcow2")
    assert done.returncode == 1 and "lies on itself" in done.stderr


@pytest.mark.parametrize("keep", [0.99, 0.6, 0.3])
def test_a_layer_that_is_cut_off(tmp_path, keep):
    """What is lost is an error, not zeroes; the rest can be read."""
    image = tmp_path / "image"
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "4M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 5 0 4M", image)
    os.truncate(image, int(os.stat(image).st_size * keep) // 65536 * 65536)
    done = try_run("sh", "-c", f'"{DUMP}" "{image}" qcow2 > "{tmp_path}/out"')
    assert done.returncode == 1 and "cut off" in done.stderr
    read = (tmp_path / "out").read_bytes()
    assert read == b"\5" * len(read) and len(read) > 0
