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
    """One qcow2 with whatever QEMU can make: versions, cluster sizes, sub-clusters, both
    compressions, data in a file of their own, holes and zeroes of each kind."""
    version = dice.choice(["0.10", "1.1", "1.1", "1.1"])
    cluster = dice.choice([512, 4 * KIB, 16 * KIB, 64 * KIB, 2048 * KIB])
    options = [f"compat={version}", f"cluster_size={cluster}"]
    data_file = False
    if version == "1.1":
        data_file = dice.random() < 0.15
        options += [f"lazy_refcounts={dice.choice(['on', 'off'])}",
                    f"compression_type={dice.choice(['zlib', 'zstd'])}"]
        if cluster >= 16 * KIB and dice.random() < 0.5:
            options += ["extended_l2=on"]
        if data_file:
            raw = not below and dice.random() < 0.3
            options += [f"data_file={path}.data", f"data_file_raw={'on' if raw else 'off'}"]
        else:
            options += [f"refcount_bits={dice.choice([1, 8, 16, 64])}"]
    backing = ["-b", backing_name(dice, path, below, below_format), "-F", below_format] if below else []
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", ",".join(options), *backing, path, size)
    verbs = ["write -z", "write -z -u", "discard"] if version == "1.1" else []
    if not data_file and not below and dice.random() < 0.4:
        pack(dice, path, options, size)
    scribble(dice, path, "qcow2", size, verbs)


def backing_name(dice, path, below, below_format):
    return dice.choice([
        below, below, below.name,
        "json:" + json.dumps({"driver": below_format,
                              "file": {"driver": "file", "filename": str(below)}}),
        "json:" + json.dumps({"driver": below_format, "file.filename": str(below)})])


def pack(dice, path, options, size):
    """Makes it anew, compressed; as `qemu-img convert -c` is the only one that does so."""
    run("qemu-img", "create", "-q", "-f", "raw", f"{path}.raw", size)
    scribble(dice, f"{path}.raw", "raw", size, packable=True)
    run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", ",".join(options),
        f"{path}.raw", path)


def scribble(dice, path, image_format, size, more_verbs=(), packable=False):
    commands = []
    for _ in range(dice.randrange(1, 7)):
        verb = dice.choice([f"write -P {dice.randrange(1, 256)}"] * 2 + list(more_verbs))
        offset = dice.randrange(size // 512) * 512
        longest = 1 << 20 if packable else 300 * KIB
        length = min(dice.choice([512, 4 * KIB, 65 * KIB, longest]), size - offset)
        commands += ["-c", f"{verb} {offset} {length}"]
    run("qemu-io", "-d", "unmap", "-f", image_format, *commands, path)


def make_chain(dice, folder):
    """A chain of some depth whose layers differ in everything that may differ."""
    below, below_format = None, None
    size = dice.choice([1 << 20, 3 << 20, (1 << 20) + 512 * 7, 64 * KIB])
    if dice.random() < 0.4:
        below, below_format = folder / "base.raw", "raw"
        run("qemu-img", "create", "-q", "-f", "raw", below, size)
        scribble(dice, below, "raw", size)
        if dice.random() < 0.3:  # QEMU makes whole sectors of it
            os.truncate(below, size - 100)
    for number in range(dice.randrange(1, 9)):
        if dice.random() < 0.3:  # smaller or larger than what it lies on
            size = max(64 * KIB, size + dice.choice([-512 * KIB, 512 * 77, 1 << 20]))
        layer = folder / f"layer{number}.qcow2"
        make_layer(dice, layer, below, below_format, size)
        if dice.random() < 0.2 and try_run("qemu-img", "snapshot", "-c", "internal",
                                           layer).returncode == 0:  # not with 1 bit per refcount
            scribble(dice, layer, "qcow2", size)
        if dice.random() < 0.1:
            try_run("qemu-img", "bitmap", "--add", layer, "bitmap")
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

    run("sh", "-c", '"$0" --qcow2 "$1" qcow2 > "$2"', DUMP, top, tmp_path / "alone")
    run("qemu-img", "check", "-q", "-f", "qcow2", tmp_path / "alone")
    run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", tmp_path / "alone",
        tmp_path / "theirs")

    ours = list(read_map(run(DUMP, "--map", top, "qcow2")))
    assert [start for start, _, _ in ours[1:]] == [start + length for start, length, _ in ours[:-1]]
    assert sum(length for _, length, _ in ours) == len(theirs)
    mapped = json.loads(run("qemu-img", "map", "-f", "qcow2", "--output=json", top))
    wanted = is_data([(e["start"], e["length"]) for e in mapped if e["data"]], len(theirs))
    found = is_data([(start, length) for start, length, kind in ours if kind == "data"], len(theirs))
    assert found == wanted


@pytest.mark.parametrize("options", ["cluster_size=65536", "cluster_size=16384,extended_l2=on",
                                     "cluster_size=2048"])
def test_a_large_image_in_any_order(tmp_path, options):
    """Of many slices of the map, of which the neighbours are made at once."""
    dice, size, below = random.Random(SEED), (700 << 20) + 512, None
    for number in range(6):
        layer = tmp_path / f"{number}.qcow2"
        backing = ["-b", below, "-F", "qcow2"] if below else []
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, *backing, layer, size)
        commands = []
        for _ in range(40):
            verb = dice.choice([f"write -P {dice.randrange(1, 256)}", "write -z"])
            length = dice.randrange(1, 3 << 11) * 512  # some go over the end of a slice
            edge = dice.randrange(1, 700) << 20
            commands += ["-c", f"{verb} {max(0, edge - length // 2 // 512 * 512)} {length}"]
        run("qemu-io", "-f", "qcow2", *commands, layer)
        below = layer
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", below, tmp_path / "theirs")
    for order in "", "--shuffled":
        run("sh", "-c", '"$0" $1 "$2" qcow2 > "$3"', DUMP, order, below, tmp_path / "ours")
        run("cmp", tmp_path / "ours", tmp_path / "theirs")


def test_two_hundred_layers_of_16_tib(tmp_path):
    """Nobody walks over all of it: the map, and the qcow2 that stands alone, know what is there."""
    dice, written, below = random.Random(SEED), {}, None
    for number in range(200):
        layer = tmp_path / f"{number}.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", layer, "16T")
        cluster = dice.randrange((16 << 40) // 65536) if number % 2 else number
        run("qemu-io", "-f", "qcow2", "-c", f"write -P {number + 1} {cluster * 65536} 65536", layer)
        if below:  # now, so that those who write need not open all that lies under it
            run("qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", below, layer)
        written[cluster] = number + 1
        below = layer
    found = {start: length for start, length, kind in read_map(run(DUMP, "--map", below, "qcow2"))
             if kind == "data"}
    assert sum(found.values()) == len(written) * 65536
    run("sh", "-c", '"$0" --qcow2 "$1" qcow2 > "$2"', DUMP, below, tmp_path / "alone")
    run("qemu-img", "check", "-q", tmp_path / "alone")
    assert os.stat(tmp_path / "alone").st_size < 60 << 20
    for cluster, pattern in written.items():
        said = run("qemu-io", "-r", "-f", "qcow2", "-c",
                   f"read -P {pattern} {cluster * 65536} 65536", tmp_path / "alone")
        assert "verification failed" not in said


REFUSED = {
    "encryption": ["-f", "qcow2", "--object", "secret,id=s,data=x",
                   "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,"
                   "encrypt.hash-alg=sha512", "1M"],
    "encryption ": ["-f", "qcow2", "--object", "secret,id=s,data=x",
                    "-o", "encrypt.format=aes,encrypt.key-secret=s", "1M"],
    "not a qcow2": ["-f", "qed", "1M"],
    "not a qcow2 ": ["-f", "vmdk", "1M"],
}

# What qemu-img says of a LUKS image if the clock of its processor time, which moves at the
# kernel's ticks, stood still while it tried how fast this machine hashes.
NO_TICK_YET = "Unable to get accurate CPU usage"


@pytest.mark.parametrize("reason", REFUSED)
def test_refused_by_name(tmp_path, reason):
    *options, size = REFUSED[reason]
    create = ["qemu-img", "create", "-q", *options, tmp_path / "image", size]
    for _ in range(20):
        made = try_run(*create)
        if NO_TICK_YET not in made.stderr:
            break
    assert made.returncode == 0, made.stderr
    done = try_run(DUMP, tmp_path / "image", "qcow2")
    assert done.returncode == 1 and done.stdout == ""
    assert reason.strip() in done.stderr and str(tmp_path / "image") in done.stderr


def set_bytes(path, at, new):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(new)


def test_unknown_features_are_refused_by_name(tmp_path):
    image = tmp_path / "image"
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "1M")
    set_bytes(image, 72, (1 << 40).to_bytes(8, "big"))
    done = try_run(DUMP, image, "qcow2")
    assert done.returncode == 1 and "a feature that is not known" in done.stderr
    set_bytes(image, 72, (1 << 3).to_bytes(8, "big"))
    set_bytes(image, 104, b"\7")
    done = try_run(DUMP, image, "qcow2")
    assert done.returncode == 1 and "compression" in done.stderr


@pytest.mark.parametrize("length", [8192, 65536])
def test_a_header_that_is_longer_than_those_of_today(tmp_path, length):
    image = tmp_path / "image"
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "1M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 5 0 1M", image)
    set_bytes(image, 100, length.to_bytes(4, "big"))
    run("qemu-img", "compare", "-q", image, image)
    assert run(DUMP, image, "qcow2") == "\5" * (1 << 20)


def test_backing_files_that_are_no_files_are_refused(tmp_path):
    for name in "nbd://localhost/x", 'json:{"driver":"nbd","host":"x","export":"y"}':
        image = tmp_path / "image"
        run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", name, image, "1M")
        done = try_run(DUMP, image, "qcow2")
        assert done.returncode == 1 and "not named by a path" in done.stderr, (name, done.stderr)


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_a_backing_file_that_is_no_file(tmp_path, kind):
    below = tmp_path / "below" if kind != "device" else pathlib.Path("/dev/zero")
    {"fifo": os.mkfifo, "folder": os.mkdir, "device": os.stat}[kind](below)
    run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", below,
        tmp_path / "image", "1M")
    done = try_run(DUMP, tmp_path / "image", "qcow2", timeout=20)
    assert done.returncode == 1 and "neither a file nor" in done.stderr


def test_a_data_file_is_found_by_its_path_only(tmp_path):
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=data", "image", "1M",
        cwd=tmp_path)
    done = try_run(DUMP, tmp_path / "image", "qcow2")
    assert done.returncode == 1 and "absolute path" in done.stderr


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


def test_damage_is_where_it_is(tmp_path):
    """One bad entry in a table, one packed cluster that does not unpack: EIO there, and the rest
    reads as it should."""
    run("qemu-img", "create", "-q", "-f", "raw", tmp_path / "raw", "1M")
    run("qemu-io", "-f", "raw", *(word for n in range(16) for word in
                                  ("-c", f"write -P {n + 1} {n * 64}k 64k")), tmp_path / "raw")
    content = (tmp_path / "raw").read_bytes()
    for kind in "packed", "plain":
        image = tmp_path / kind
        run("qemu-img", "convert", *(["-c"] if kind == "packed" else []), "-O", "qcow2",
            tmp_path / "raw", image)
        head = image.read_bytes()
        l1 = int.from_bytes(head[40:48], "big")
        l2 = int.from_bytes(head[l1:l1 + 8], "big") & 0x00fffffffffffe00
        entry = int.from_bytes(head[l2 + 5 * 8:l2 + 6 * 8], "big")
        if kind == "packed":
            set_bytes(image, entry & ((1 << 54) - 1), b"\xff" * 16)
        else:
            set_bytes(image, l2 + 5 * 8, (entry | 1 << 10).to_bytes(8, "big"))
        done = try_run("sh", "-c", f'"{DUMP}" --errors "{image}" qcow2 > "{tmp_path}/out"')
        assert done.returncode == 0, done.stderr
        assert "damaged" in done.stderr and len(done.stderr.splitlines()) == 1
        read = (tmp_path / "out").read_bytes()
        assert read[:5 << 16] == content[:5 << 16] and read[6 << 16:] == content[6 << 16:]
        assert read[5 << 16:6 << 16] == b"?" * (1 << 16)
