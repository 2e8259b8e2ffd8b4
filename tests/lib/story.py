# SPDX-License-Identifier: GPL-2.0-or-later
"""A list of operations on a VM and its snapshots that is done in one place, where the power may go
at any moment, and whose outcome is known in another: the Moment after each of them."""
import copy
import dataclasses

from vm import VM

MIB = 1 << 20
DISKS = {"vda": 4 * MIB, "vdb": MIB}

# write: and flushed. scribble: not flushed; a snapshot holds it nevertheless.
OPERATIONS = {"running": [
    ("write", "vda", 1, 0, 300 << 10), ("write", "vdb", 2, 0, 64 << 10),
    ("mkdir", "one"),
    ("write", "vda", 3, 200 << 10, 300 << 10), ("scribble", "vdb", 4, 4096, 64 << 10),
    ("mkdir", "two"),
    ("scribble", "vda", 5, 64 << 10, 64 << 10),
    ("mkdir", "three"),
    ("write", "vda", 6, 1 << 20, 128 << 10),
    ("mv", "two", "zwei"),
    ("rmdir", "one"),    # its layer takes in that of 'two', in the middle of the chain
    ("sync",),
    ("rmdir", "three"),  # its layer takes in the one that the VM writes to
    ("sync",),
    ("write", "vda", 7, 32 << 10, 64 << 10),
    ("revert", "zwei", "1 force start"),
    ("write", "vdb", 8, 0, 8192),
    ("mkdir", "side"),
    ("write", "vdb", 9, 4096, 8192),
    ("rmdir", "zwei"),
    ("rmdir", "side"),
    ("sync",),
], "off": [
    ("write", "vda", 1, 0, 300 << 10), ("write", "vdb", 2, 0, 64 << 10),
    ("mkdir", "one"),
    ("write", "vda", 3, 200 << 10, 300 << 10),
    ("mkdir", "two"),
    ("write", "vda", 4, 64 << 10, 64 << 10),
    ("mkdir", "three"),
    ("write", "vda", 5, 1 << 20, 128 << 10),
    ("revert", "two", "1"),
    ("write", "vdb", 6, 0, 8192),
    ("mkdir", "side"),
    ("mv", "one", "eins"),
    ("rmdir", "two"),    # two lie on it: it waits
    ("rmdir", "three"),  # ... until now
    ("sync",),
    ("rmdir", "eins"),
    ("revert", "side", "1"),
    ("rmdir", "side"),
    ("sync",),
]}


def act(operation, vm, tree):
    """Does one of them."""
    verb, *arguments = operation
    if verb in ("write", "scribble"):
        vm.write(*arguments)
        if verb == "write":
            vm.flush(arguments[0])
    else:
        getattr(tree, verb)(*arguments)


@dataclasses.dataclass
class Moment:
    """What must be there. Until a write is flushed, what was there before may be there instead."""
    content: dict  # target: bytes, as all that follow
    unflushed: dict
    snapshots: dict = dataclasses.field(default_factory=dict)  # name: {target: bytes}
    parents: dict = dataclasses.field(default_factory=dict)  # name: name or None
    current: str = None

    def after(self, operation):
        new = copy.deepcopy(self)
        verb, *arguments = operation
        getattr(new, verb)(*arguments)
        if verb == "write":
            new.unflushed.pop(arguments[0])
        elif verb in ("mkdir", "revert"):
            new.unflushed = {}
        return new

    def amid(self, operation):
        """The moments of which each may be what is there while that goes on."""
        if operation[0] == "write":
            return [self.after(("scribble", *operation[1:]))]
        return [self, self.after(operation)]

    def scribble(self, target, pattern, offset, length):
        self.unflushed.setdefault(target, []).append((offset, self.content[target][offset:offset + length]))
        content = bytearray(self.content[target])
        content[offset:offset + length] = bytes([pattern]) * length
        self.content[target] = bytes(content)

    write = scribble

    def mkdir(self, name):
        self.snapshots[name] = dict(self.content)
        self.parents[name], self.current = self.current, name

    def rmdir(self, name):
        parent = self.parents.pop(name)
        del self.snapshots[name]
        self.parents = {n: parent if p == name else p for n, p in self.parents.items()}
        self.current = parent if self.current == name else self.current

    def mv(self, old, new):
        for of_all in self.snapshots, self.parents:
            of_all[new] = of_all.pop(old)
        self.parents = {n: new if p == old else p for n, p in self.parents.items()}
        self.current = new if self.current == old else self.current

    def revert(self, name, how):
        self.content, self.current = dict(self.snapshots[name]), name

    def sync(self):
        pass

    def allows(self, target, found):
        """Whether that may be the content of the disk."""
        wanted = bytearray(self.content[target])
        for offset, old in reversed(self.unflushed.get(target, [])):
            for at in range(offset, offset + len(old)):
                if found[at] == old[at - offset]:
                    wanted[at] = found[at]
        return found == wanted


def moments(operations):
    """Before the first, and after each of them."""
    empty = {target: bytes(size) for target, size in DISKS.items()}
    told = [Moment(empty, {})]
    for operation in operations:
        told.append(told[-1].after(operation))
    return told


def new_vm(libvirtd, folder):
    return VM(libvirtd, folder, "web1", DISKS)
