# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM is given to somebody by chown and chmod of its directory."""
import errno
import os

import pytest

from commands import refused, run, try_run

USER, GROUP = "daemon", "games"  # any who are on every Debian


def as_user(*command, group=None):
    """The command, run by USER, who is in GROUP or in no group of interest."""
    groups = ["--groups", group] if group else ["--clear-groups"]
    return try_run("setpriv", "--reuid", USER, "--regid", "nogroup", *groups, "--", *command)


def denied(done):
    return done.returncode != 0 and "Permission denied" in done.stderr


@pytest.fixture
def given(tree):
    """The VM's directory, USER's own, with a snapshot."""
    tree.mkdir("s1")
    run("chown", f"{USER}:{GROUP}", tree.path)
    return tree.path


def test_nobody_else_gets_in(tree, vm):
    vm.write("vda", 1, 0, 4096)
    tree.mkdir("s1")
    assert denied(as_user("ls", tree.path))
    assert denied(as_user("cat", tree / "s1" / "vda.raw"))
    assert denied(as_user("mkdir", tree / "s2"))
    assert denied(as_user("rmdir", tree / "s1"))
    assert denied(as_user("sh", "-c", f"echo 1 > {tree / 's1' / 'revert'}"))
    assert denied(as_user("chown", USER, tree.path)) or "not permitted" in as_user(
        "chown", USER, tree.path).stderr
    tree.check()


def test_the_owner_does_all(given, tree, vm):
    for command in (["mkdir", given / "s2"], ["mv", given / "s2", given / "s3"],
                    ["sh", "-c", f"echo text > {given}/s1/description"],
                    ["sh", "-c", f"echo 1 > {given}/s1/revert"],
                    ["sh", "-c", f"echo no > {given}/.kws/quiesce"],
                    ["cp", given / "s1" / "vda.raw", os.devnull], ["rmdir", given / "s3"],
                    ["chmod", "0750", given]):
        done = as_user(*command)
        assert done.returncode == 0, done.stderr
    assert tree.names == {"s1"}
    status = run("stat", "-c", "%U %G %a", given, given / "s1", given / "s1" / "vda.raw",
                 given / "s1" / "pin", given / ".kws" / "state").splitlines()
    assert status == [f"{USER} {GROUP} {mode}" for mode in ("750", "750", "440", "640", "440")]


def test_the_group_may_what_the_mode_says(given, tree):
    assert denied(as_user("ls", tree.path, group=GROUP)) is False  # USER is the owner
    run("chown", "root", given)
    assert denied(as_user("ls", given, group=GROUP))
    run("chmod", "0750", given)
    assert as_user("cat", given / "s1" / "vda.raw", group=GROUP).returncode == 0
    assert denied(as_user("mkdir", given / "s2", group=GROUP))
    assert denied(as_user("sh", "-c", f"echo 1 > {given}/s1/pin", group=GROUP))
    assert denied(as_user("ls", given))
    run("chmod", "0770", given)
    assert as_user("mkdir", given / "s2", group=GROUP).returncode == 0
    assert as_user("sh", "-c", f"echo 1 > {given}/s1/pin", group=GROUP).returncode == 0
    assert "not permitted" in as_user("chmod", "0777", given, group=GROUP).stderr
    assert denied(as_user("ls", given))


def test_it_lasts(given, tree, mount, vm):
    run("chmod", "0750", given)
    mount.kill()
    mount.start()
    vm.virsh("destroy", "web1") if vm.running else vm.start()
    assert run("stat", "-c", "%U %G %a", given) == f"{USER} {GROUP} 750\n"
    assert as_user("mkdir", given / "s2").returncode == 0


def test_owner_and_mode_are_those_of_the_vm(given, mount):
    for inside in given / "s1", given / "s1" / "vda.raw", given / ".kws":
        for command in ["chown", "root", inside], ["chmod", "0777", inside]:
            assert "Operation not permitted" in try_run(*command).stderr
    for above in mount.point, mount.point / "snapshots":
        with refused(errno.EPERM):
            os.chown(above, 1, 1)
