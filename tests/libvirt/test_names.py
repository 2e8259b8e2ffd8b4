# SPDX-License-Identifier: GPL-2.0-or-later
"""What a snapshot may be called, and what its owner may say about it."""
import errno
import os

import pytest

from commands import refused

LONGEST = "가" * 80  # 240 bytes of UTF-8

GOOD = ["with  two blanks ", "한글 스냅샷", LONGEST, "x" * 240, "it's \"quoted\" `so`",
        "100% %s %n %2$s", "--help", "-rf", "a&b<c>d;e", "back\\slash", "$HOME *", "latest.1",
        "zero\u200bwidth", "😀", "~", "@", "a,b=c:d"]

INVALID = [".hidden", "...", "line\nbreak", "tab\t", "del\x7f", "c1\u0085", b"\xff\xfe",
           b"cut \xea\xb0", b"overlong \xc0\xaf", b"surrogate \xed\xa0\x80", "\ufffe"]

TOO_LONG = ["x" * 241, LONGEST + "x", "x" * 255]


def test_the_names_of_links_are_refused_while_there_are_none(tree):
    for name in "latest", "current":
        with refused(errno.EINVAL):
            (tree / name).mkdir()


def test_any_name_but(tree, vm):
    for number, name in enumerate(GOOD):
        vm.write("vda", number, number << 12, 4096)
        tree.mkdir(name)
        assert vm.virsh("snapshot-info", "--domain", "web1", "--snapshotname", name)
    tree.check()
    for name in INVALID + TOO_LONG:
        code = errno.EINVAL if name in INVALID else errno.ENAMETOOLONG
        with refused(code):
            os.mkdir(os.path.join(os.fsencode(tree.path), os.fsencode(name)))
        assert tree.kws("last_error") != ""
        with refused(code):
            os.rename(os.fsencode(tree / "@"),
                      os.path.join(os.fsencode(tree.path), os.fsencode(name)))
    assert tree.names == set(GOOD)
    for name in GOOD:
        tree.rmdir(name)
        tree.sync()
    tree.check_files()


def test_a_name_that_is_taken(tree, vm):
    tree.mkdir("one")
    tree.mkdir("two")
    with refused(errno.EEXIST):
        (tree / "one").mkdir()
    with refused(errno.EEXIST, errno.ENOTEMPTY):
        os.rename(tree / "one", tree / "two")
    tree.check()


@pytest.mark.parametrize("running", [True, False])
def test_rename(tree, vm, running):
    if running:
        vm.start()
    for number, name in enumerate(["one", "two", "three"]):
        vm.write("vda", number + 1, 0, 65536 * (3 - number))
        tree.mkdir(name)
    with open(tree / "two" / "vda.raw", "rb") as image:
        tree.mv("two", "한글")  # in the middle
        assert image.read() == tree.reference["한글"]["vda"]
    tree.check()
    tree.mv("three", "--help")  # the current one
    tree.mv("one", "two")  # the first one, to a name that was another's
    tree.check()
    assert tree.link("한글/parent") == "../two" and tree.link("latest") == "--help"
    if running:
        vm.stop()
    tree.revert("two")
    tree.rmdir("한글")
    tree.check()
    tree.check_files()


def test_a_rename_keeps_what_belongs_to_a_snapshot(tree, vm):
    tree.mkdir("one")
    before = os.stat(tree / "one")
    (tree / "one" / "description").write_text("before the upgrade")
    (tree / "one" / "pin").write_text("1")
    tree.mv("one", "two")
    after = os.stat(tree / "two")
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (tree / "two" / "description").read_text() == "before the upgrade\n"
    assert (tree / "two" / "pin").read_text() == "1\n"


def test_a_snapshot_stays_in_its_vm(mount, new_vm):
    """As EXDEV would make mv copy: the mkdir it begins with would take a snapshot."""
    first, second = mount.of(new_vm("first")), mount.of(new_vm("second"))
    first.mkdir("one")
    for where in second / "one", second.path, first / ".kws" / "one", mount.point / "one":
        with refused(errno.EPERM):
            os.rename(first / "one", where)
    with refused(errno.EPERM):
        os.rename(first.path, mount.point / "snapshots" / "third")
    assert second.names == set()
    first.check()


def test_description(tree, vm):
    tree.mkdir("one")
    file = tree / "one" / "description"
    assert file.read_text() == ""
    for text in "업데이트 전, <before> & \"after\" 100%", "#1 of many", "x" * 4000, "":
        file.write_text(text + "\n")
        assert file.read_text() == (text + "\n" if text else "")
        assert vm.description_of("one") == text
    file.write_text("kept")
    for bad in "two\nlines", "control\x01", "x" * 4001:
        with refused(errno.EINVAL):
            file.write_text(bad)
    with refused(errno.EINVAL):
        file.write_bytes(b"\xff")
    assert file.read_text() == "kept\n"


def test_pin(tree, vm):
    tree.mkdir("one")
    file = tree / "one" / "pin"
    assert file.read_text() == "0\n"
    for words in "2", "yes", "1 1", "":
        with refused(errno.EINVAL):
            file.write_text(words + "\n")
    file.write_text("1\n")
    assert file.read_text() == "1\n"
