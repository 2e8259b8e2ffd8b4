# SPDX-License-Identifier: GPL-2.0-or-later
"""Going back, forward and aside."""
import errno
import re

import pytest

from commands import refused


def make_history(tree, vm):
    for number, name in enumerate(["one", "two", "three"], start=1):
        vm.write("vda", number, number << 18, 256 << 10)
        vm.write("vdb", number, 0, 4096 * number)
        tree.mkdir(name)
    vm.write("vda", 99, 0, 1 << 20)


def test_to_any_snapshot_from_anywhere(tree, vm):
    make_history(tree, vm)
    for name in "three", "one", "two", "one", "three":
        tree.revert(name)
        assert tree.link("current") == name
        tree.check()
        tree.check_files()


def test_branches(tree, vm):
    make_history(tree, vm)
    tree.revert("one")
    vm.write("vda", 50, 0, 4096)
    tree.mkdir("other branch")
    vm.write("vda", 51, 0, 4096)
    assert tree.link("other branch/parent") == "../one"
    tree.revert("three")
    vm.write("vda", 52, 0, 4096)
    tree.revert("other branch")
    tree.check()
    tree.check_files()


def test_a_running_vm_is_not_touched(tree, vm):
    vm.start()
    make_history(tree, vm)
    with refused(errno.EBUSY):
        tree.revert("one")
    assert "force" in tree.kws("last_error")
    assert vm.running and tree.link("current") == "three"
    tree.revert("one", "1 force")
    assert not vm.running
    tree.check()
    tree.check_files()


def test_start_and_write_on(tree, vm):
    vm.start()
    make_history(tree, vm)
    tree.revert("two", "1 force start")
    assert vm.running
    vm.write("vda", 77, 8192, 4096)
    vm.stop()
    tree.check_files()  # what virsh would start with next is two, and what was written since
    vm.start()
    vm.write("vdb", 78, 8192, 4096)
    tree.mkdir("on top")
    tree.check()


@pytest.mark.parametrize("running", [True, False])
def test_keep(tree, vm, running):
    if running:
        vm.start()
    make_history(tree, vm)
    left = vm.copy_of_content()
    tree.revert("one", "1 keep force")
    kept = tree.names - set(tree.reference)
    assert len(kept) == 1
    name = kept.pop()
    assert re.fullmatch(r"before-revert-\d{4}-\d\d-\d\dT\d{6}Z", name)
    tree.reference[name] = left
    tree.check()
    tree.revert(name)
    tree.check_files()


def test_words_that_are_no_order(tree, vm):
    make_history(tree, vm)
    for words in "0", "yes", "1 please", "1 keep keep it", "keep", "11", "":
        with refused(errno.EINVAL):
            tree.revert("one", words)
    vm.content["vda"][0:1 << 20] = bytes([99]) * (1 << 20)
    assert tree.link("current") == "three"


def test_the_definition_comes_back_too(tree, vm):
    tree.mkdir("small")
    vm.virsh("setmaxmem", "web1", "33554432", "--config")
    vm.virsh("setmem", "web1", "33554432", "--config")
    tree.mkdir("large")
    tree.revert("small")
    assert "<memory unit='KiB'>16384</memory>" in vm.virsh("dumpxml", "web1")
    tree.revert("large")
    assert "<memory unit='KiB'>33554432</memory>" in vm.virsh("dumpxml", "web1")
