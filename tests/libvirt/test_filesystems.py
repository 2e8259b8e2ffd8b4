# SPDX-License-Identifier: GPL-2.0-or-later
"""File systems inside of a disk that has partitions, read without the VM: by the kernel from a
partition's file, and by libguestfs from the whole disk. Each file must be as it was put there."""
import json
import os
import pathlib
import random
import subprocess

import pytest

from commands import run

BUILD = pathlib.Path(__file__).parents[2] / "build" / "kernel"

MIB = 1 << 20
SIZE = 48 * MIB


def make_files(folder, seed):
    """Of all sizes, with links and names that are not ASCII."""
    source = random.Random(seed)
    (folder / "더 깊이" / "deep").mkdir(parents=True)
    for size in 0, 1, 4095, 4097, 100_000, 3_000_000:
        (folder / f"{size} bytes").write_bytes(source.randbytes(size))
    (folder / "더 깊이" / "deep" / "hello").write_text(f"hello from {seed}\n")
    (folder / "link").symlink_to("더 깊이/deep/hello")
    with open(folder / "sparse", "wb") as f:
        f.seek(2 * MIB)
        f.write(b"end")
    return folder


@pytest.fixture
def disk(mount, new_vm, folder):
    """(Folder of the VM, {(snapshot, partition): folder with the files that are in it}). The
    second partition is made anew between the snapshots."""
    vm = new_vm("web1", {"vda": SIZE})
    raw, path = folder / "raw", mount.point / "snapshots" / "web1"
    run("qemu-img", "create", "-q", "-f", "raw", raw, SIZE)
    subprocess.run(["sfdisk", "-q", raw], input="label: gpt\nsize=20MiB\nsize=24MiB\n", text=True,
                   check=True)
    table = json.loads(run("sfdisk", "--json", raw))["partitiontable"]["partitions"]
    files = {}

    def fill(number, seed):
        files_of = make_files(folder / f"files{seed}", seed)
        entry = table[number - 1]
        run("mkfs.ext4", "-q", "-L", f"fs{number}", "-d", files_of, folder / "fs",
            f"{entry['size'] // 2}k")
        run("dd", f"if={folder}/fs", f"of={raw}", "bs=512", f"seek={entry['start']}",
            "conv=notrunc", "status=none")
        (folder / "fs").unlink()
        run("qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", raw, vm.active["vda"])
        return files_of

    files["s1", 1], files["s1", 2] = fill(1, 1), fill(2, 2)
    (path / "s1").mkdir()
    files["s2", 1], files["s2", 2] = files["s1", 1], fill(2, 3)
    (path / "s2").mkdir()
    vm.start()
    vm.write("vda", 0xFF, MIB, SIZE - 2 * MIB)
    return path, files


def test_each_partition_mounts(disk, folder):
    path, files = disk
    point = folder / "disk"
    point.mkdir()
    for (snapshot, number), wanted in files.items():
        run("mount", "-o", "loop,ro", "-t", "ext4", path / snapshot / f"vda.p{number}.raw", point)
        try:
            assert sorted(os.listdir(point)) == sorted([*os.listdir(wanted), "lost+found"])
            run("diff", "-r", "--no-dereference", "-x", "lost+found", wanted, point)
        finally:
            run("umount", point)
        run("e2fsck", "-fn", path / snapshot / f"vda.p{number}.raw")


def appliance(folder):
    """The environment in which libguestfs makes its own small VM here, without KVM and without
    libvirt, from the kernel that the guests of the tests have."""
    for root in pathlib.Path("/"), BUILD:
        for image in sorted(root.glob("boot/vmlinuz-*-cloud-amd64")):
            version = image.name.removeprefix("vmlinuz-")
            modules = root / "lib" / "modules" / version
            if modules.is_dir():
                if not (modules / "modules.dep").exists():  # of one that is unpacked only
                    run("depmod", "-b", root, version)
                return dict(os.environ, LC_ALL="C.UTF-8", LIBGUESTFS_BACKEND="direct",
                            LIBGUESTFS_BACKEND_SETTINGS="force_tcg",
                            LIBGUESTFS_CACHEDIR=str(folder), TMPDIR=str(folder),
                            SUPERMIN_KERNEL=str(image), SUPERMIN_KERNEL_VERSION=version,
                            SUPERMIN_MODULES=str(modules))
    raise AssertionError("there is no cloud kernel, see tests/lib/install")


def test_libguestfs(disk, folder):
    """As virt-filesystems and virt-copy-out do, in one go: most of the time goes into making the
    VM and booting it."""
    path, files = disk
    for number in 1, 2:
        (folder / f"out{number}").mkdir()
    said = run("guestfish", "--ro", "-a", path / "s2" / "vda.qcow2", "run",
               ":", "list-partitions", ":", "list-filesystems",
               ":", "vfs-label", "/dev/sda1", ":", "vfs-label", "/dev/sda2",
               ":", "mount-ro", "/dev/sda1", "/", ":", "copy-out", "/", folder / "out1",
               ":", "umount", "/",
               ":", "mount-ro", "/dev/sda2", "/", ":", "copy-out", "/", folder / "out2",
               env=appliance(folder), timeout=600)
    assert said.splitlines() == ["/dev/sda1", "/dev/sda2", "/dev/sda1: ext4", "/dev/sda2: ext4",
                                 "fs1", "fs2"]
    for number in 1, 2:
        run("diff", "-r", "--no-dereference", "-x", "lost+found", files["s2", number],
            folder / f"out{number}")
