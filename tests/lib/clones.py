# SPDX-License-Identifier: GPL-2.0-or-later
"""Clones, as a user makes them, and as VMs of the tests."""
import pathlib

from vm import VM


class Clones:
    """clones/ of a snapshot of a tree."""

    def __init__(self, tree, snapshot):
        self.tree = tree
        self.snapshot = snapshot
        self.path = tree / snapshot / "clones"

    def __truediv__(self, name):
        return self.path / name

    def make(self, name):
        (self / name).mkdir()
        return self.vm(name)

    @property
    def names(self):
        return {path.name for path in self.path.iterdir()} - {".kws"}

    def vm(self, name):
        """What a clone is as a VM, with the content that the snapshot had."""
        source = self.tree.vm
        clone = VM(source.libvirtd, source.folder, name, {})
        clone.paths = {target: pathlib.Path(path) for target, path in clone.active.items()}
        clone.content = {target: bytearray(content)
                         for target, content in self.tree.reference[self.snapshot].items()}
        return clone


def remove_clones(libvirtd, names):
    """However a test has ended."""
    for name in names:
        libvirtd.try_virsh("destroy", name)
        libvirtd.try_virsh("undefine", name, "--managed-save", "--snapshots-metadata", "--nvram")
