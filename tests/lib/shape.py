# SPDX-License-Identifier: GPL-2.0-or-later
"""What a VM's tree is at one moment, and what an operation makes of it. Of one that was
interrupted the tree is that of before or that of after."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Shape:
    reference: dict  # {snapshot: {target: bytes}}
    parents: dict    # {snapshot: parent or None}
    current: str     # None: the VM stands on none
    content: dict    # {target: bytes}, of the VM's disks

    @classmethod
    def of(cls, tree):
        return cls(dict(tree.reference), tree.parents(), tree.link("current"),
                   tree.vm.copy_of_content())

    def with_new(self, name):
        return Shape({**self.reference, name: self.content}, {**self.parents, name: self.current},
                     name, self.content)

    def without(self, name):
        above = self.parents[name]
        return Shape({n: disks for n, disks in self.reference.items() if n != name},
                     {n: above if p == name else p for n, p in self.parents.items() if n != name},
                     above if self.current == name else self.current, self.content)

    def renamed(self, old, new):
        def called(name):
            return new if name == old else name
        return Shape({called(n): disks for n, disks in self.reference.items()},
                     {called(n): called(p) for n, p in self.parents.items()},
                     called(self.current), self.content)

    def reverted(self, name):
        return Shape(self.reference, self.parents, name, self.reference[name])

    def is_that_of(self, tree):
        return tree.names == set(self.parents) and tree.parents() == self.parents and \
            tree.link("current") == self.current

    def expect(self, tree):
        """From now on tree.check() and tree.check_files() compare with this."""
        tree.reference = dict(self.reference)
        tree.vm.content = {target: bytearray(disk) for target, disk in self.content.items()}


def recognised(tree, before, after):
    """Which of the two the tree is; what it holds is for tree.check() to see."""
    for shape in after, before:
        if shape.is_that_of(tree):
            return shape
    raise AssertionError(f"neither before nor after: {tree.parents()}, current {tree.link('current')}; "
                         f"before {before.parents}, current {before.current}; "
                         f"after {after.parents}, current {after.current}")
