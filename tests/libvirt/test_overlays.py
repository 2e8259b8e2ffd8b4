# SPDX-License-Identifier: GPL-2.0-or-later
"""New overlays, which are written from a template that qemu-img made once."""
import json
import pathlib

from commands import run
from kwsmount import Mount


def backing_of(path):
    return json.loads(run("qemu-img", "info", "--output=json", path))["full-backing-filename"]


def assert_as_of_qemu_img(path, options, folder):
    """Byte for byte."""
    made = folder / "made"
    info = json.loads(run("qemu-img", "info", "--output=json", path))
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-o", options, "-b",
        info["full-backing-filename"], "-F", info["backing-filename-format"], made,
        info["virtual-size"])
    assert pathlib.Path(path).read_bytes() == made.read_bytes()


def test_they_are_what_qemu_img_makes(tree, vm, folder):
    for name in ("first", "second", "third"):
        below = vm.active
        tree.mkdir(name)
        for target, path in vm.active.items():
            assert backing_of(path) == below[target]
            assert_as_of_qemu_img(path, "extended_l2=on,cluster_size=128k", folder)
    assert not list((tree.mount.folder / "state").glob("*.qcow2"))
    tree.check()
    tree.check_files()


def test_on_a_raw_disk(mount, new_vm, folder):
    vm = new_vm(define=False)
    raw = vm.folder / "vda.raw"
    run("qemu-img", "convert", "-O", "raw", vm.paths["vda"], raw)
    vm.paths["vda"].unlink()
    vm.paths["vda"] = raw
    vm.define()
    tree = mount.of(vm)
    tree.mkdir("s1")
    assert_as_of_qemu_img(vm.active["vda"], "extended_l2=on,cluster_size=128k", folder)
    tree.check()
    tree.check_files()


def test_where_the_name_of_a_template_does_not_fit(libvirtd, vm, folder):
    """Clusters of 512 bytes have no room for a name of 1023."""
    mount = Mount(libvirtd, folder / "mount", "overlay_options=cluster_size=512")
    try:
        tree = mount.start().of(vm)
        for name in ("first", "second"):
            tree.mkdir(name)
            assert_as_of_qemu_img(vm.active["vda"], "cluster_size=512", folder)
        tree.check()
        tree.check_files()
    finally:
        mount.stop()
