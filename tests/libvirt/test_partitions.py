# SPDX-License-Identifier: GPL-2.0-or-later
"""Each partition of a disk as a file: where sfdisk put it, and fit for a loop mount."""
import json
import os
import re
import subprocess

import pytest

from commands import run

MIB = 1 << 20

TABLES = {
    "gpt": "label: gpt\nsize=2MiB\nsize=5MiB\nsize=3MiB\n",
    "mbr": "label: dos\nsize=2MiB, type=83\nsize=16MiB, type=5\nsize=5MiB, type=83\n"
           "size=3MiB, type=83\nsize=1MiB, type=82\n",
    "none": "",
}


def make_disk(vm, folder, table):
    """Writes a table to the VM's disk, with other bytes in each partition; returns
    {number: (start, size)} in bytes, as sfdisk says."""
    raw = folder / "raw"
    run("qemu-img", "create", "-q", "-f", "raw", raw, 24 * MIB)
    if TABLES[table]:
        subprocess.run(["sfdisk", "-q", raw], input=TABLES[table], text=True, check=True)
    said = json.loads(run("sfdisk", "--json", raw)) if TABLES[table] else None
    found = {}
    for entry in said["partitiontable"]["partitions"] if said else ():
        number = int(re.search(r"(\d+)$", entry["node"])[1])
        if entry["type"] != "5":  # the extended one
            found[number] = entry["start"] * 512, entry["size"] * 512
            run("qemu-io", "-f", "raw", "-c",
                f"write -P {number} {entry['start'] * 512} {entry['size'] * 512}", raw)
    run("qemu-img", "convert", "-O", "qcow2", raw, vm.active["vda"])
    return found


@pytest.mark.parametrize("table", TABLES)
def test_partitions(mount, new_vm, folder, table):
    vm = new_vm(disks={"vda": 24 * MIB})
    partitions = make_disk(vm, folder, table)
    tree = mount.of(vm)
    (tree / "s1").mkdir()
    assert {name for name in os.listdir(tree / "s1") if re.search(r"\.p\d+\.raw$", name)} == \
        {f"vda.p{number}.raw" for number in partitions}
    assert (len(partitions) > 0) == (table != "none")
    whole = (tree / "s1" / "vda.raw").read_bytes()
    for number, (start, size) in partitions.items():
        part = tree / "s1" / f"vda.p{number}.raw"
        assert os.stat(part).st_size == size
        assert part.read_bytes() == whole[start:start + size] == bytes([number]) * size
    assert not (tree / "s1" / "vda.p99.raw").exists()


def test_loop_mount(mount, new_vm, folder):
    vm = new_vm(disks={"vda": 24 * MIB})
    start, size = make_disk(vm, folder, "gpt")[2]
    run("qemu-img", "create", "-q", "-f", "raw", folder / "fs", size)
    run("mkfs.ext4", "-q", folder / "fs")
    run("qemu-img", "convert", "-O", "raw", vm.active["vda"], folder / "raw")
    run("dd", f"if={folder}/fs", f"of={folder}/raw", "bs=512", f"seek={start // 512}",
        "conv=notrunc", "status=none")
    run("qemu-img", "convert", "-O", "qcow2", folder / "raw", vm.active["vda"])
    tree = mount.of(vm)
    (tree / "s1").mkdir()
    (folder / "disk").mkdir()
    run("mount", "-o", "loop,ro,noload", tree / "s1" / "vda.p2.raw", folder / "disk")
    try:
        assert "lost+found" in os.listdir(folder / "disk")
    finally:
        run("umount", folder / "disk")
    fd = os.open(tree / "s1" / "vda.p2.raw", os.O_RDONLY)
    try:
        assert os.lseek(fd, 0, os.SEEK_DATA) == 0
        assert os.lseek(fd, 0, os.SEEK_HOLE) < size
    finally:
        os.close(fd)
