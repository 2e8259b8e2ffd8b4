# SPDX-License-Identifier: GPL-2.0-or-later
"""Another VM in the place of one that failed: its QEMU is killed, and what then runs is libvirt's to say."""
import errno
import re

import pytest

from commands import refused, wait_until
from events import Events
from recoveries import WEB, Recovery, remove_all

MAC = "52:54:00:00:00:01"
INTERFACE = f"<interface type='user'><mac address='{MAC}'/><model type='virtio'/></interface>"


@pytest.fixture
def recovery(mount, new_vm, libvirtd):
    yield Recovery(mount, new_vm)
    mount.stop()  # so that nothing takes the place of what is taken away
    wait_until(lambda: remove_all(libvirtd), "the VMs have gone")


# ---- by what ----

def test_a_clone_of_a_template(recovery):
    recovery.publish()
    web1 = recovery.failing()
    with Events(recovery.mount) as events:
        web1.kill()
        done, _ = events.until("recovery-done")
    assert done["vm"] == "web1" and done["new_name"] == "web1-r1" and done["seconds"] > 0
    assert recovery.domains() == {"web1-r1"} and web1.state == "shut off"
    report = recovery.wait("done")
    assert "fenced, it was shut off (crashed)\n" in report
    assert "passed over golden: it is what the pool 'web' is made of\n" in report
    assert "chosen pool/web, similarity 1.000, clone\n  replacement web1-r1, ran after " in report
    assert (recovery.mount.point / "pool" / "web" / "web1-r1").is_dir()
    assert recovery.get("web1-r1/auto") == "1\n"
    assert set(WEB.split("\n")) <= set(recovery.get("web1-r1/features").split("\n"))
    assert recovery.metric("kwsfs_recovery_seconds_count") == "1"
    assert recovery.metric('kwsfs_recoveries_total{result="done"}') == "1"
    web1.start()  # by hand, and now there are both
    assert recovery.domains() == {"web1", "web1-r1"} and recovery.result() == "done"


@pytest.mark.parametrize("state", ["defined", "paused", "saved"])
def test_a_spare(recovery, state):
    recovery.publish(spare_wait=0, spare_state=state, spare=1)
    status = recovery.mount.point / "pool" / "web" / ".kws" / "status"
    wait_until(lambda: f"spares 1 of 1 {state}" in status.read_text(), "a spare is ready")
    spare = re.search(r"^(web-spare-\S*)\t", status.read_text(), re.MULTILINE)[1]
    uuid = recovery.libvirtd.virsh("domuuid", spare)
    web1 = recovery.failing()
    web1.kill()
    recovery.wait("done")
    name = "web1-r1" if state == "defined" else spare  # until it is off
    assert recovery.libvirtd.virsh("domuuid", name) == uuid
    assert recovery.libvirtd.virsh("domstate", name) == "running"
    assert "replacement web1-r1, ran after " in recovery.report()
    assert (recovery.mount.point / "pool" / "web" / "web1-r1").is_dir()


def test_one_that_is_stopped(recovery):
    recovery.vm("standby")
    recovery.vm("other", features="language Java\ndatabase Oracle", run=True)
    web1 = recovery.failing()
    web1.kill()
    assert "chosen standby, similarity 1.000, start" in recovery.wait("done")
    assert recovery.domains() == {"standby", "other"}
    assert recovery.get("standby/auto") == "1\n" and recovery.get("other/auto") == "0\n"


def test_one_that_runs(recovery):
    """It is told, and nothing is made."""
    recovery.publish()
    recovery.vm("web2", run=True)
    web1 = recovery.failing()
    web1.kill()
    report = recovery.wait("done")
    assert "chosen web2, similarity 1.000, runs\n  replacement web2, told after " in report
    assert recovery.domains("--all") == {"web1", "web2", "golden"}
    assert recovery.get("web2/auto") == "0\n"
    assert recovery.metric('kwsfs_recoveries_total{result="told"}') == "1"


def test_its_own_snapshot(recovery):
    recovery.set("policy", "own_last_snapshot")
    recovery.vm("standby")
    web1 = recovery.failing()
    web1.write("vda", 7, 0, 1 << 16)
    tree = recovery.mount.of(web1)
    tree.mkdir("old")
    tree.mkdir("new")
    web1.kill()
    report = recovery.wait("done")
    assert "passed over standby: " in report and "chosen snapshot/new, similarity 1.000" in report
    assert recovery.domains() == {"web1-r1"}
    assert (tree / "new" / "clones" / "web1-r1").is_dir()
    tree.check()


def test_policy(recovery):
    """Without start a clone of the stopped VM's snapshot takes the place."""
    recovery.set("policy", "clone")
    standby = recovery.vm("standby")
    recovery.mount.of(standby).mkdir("s")
    web1 = recovery.failing()
    web1.kill()
    recovery.wait("done")
    assert recovery.domains() == {"web1-r1"} and standby.state == "shut off"
    assert (recovery.mount.of(standby) / "s" / "clones" / "web1-r1").is_dir()


# ---- by order ----

def test_orders(recovery):
    recovery.vm("one")
    recovery.vm("two", features="webserver Nginx")
    web1 = recovery.failing(auto=False)
    before = recovery.domains("--all")
    for order, code, why in (("best", errno.EBUSY, "the VM is running: write 'force' before it"),
                             ("force none", errno.ENOENT, "there is no candidate 'none'"),
                             ("force ", errno.EINVAL, "write best"),
                             ("none", errno.EBUSY, "the VM is running")):
        with refused(code):
            recovery.set("web1/recover", order)
        assert why in recovery.mount.of(web1).kws("last_error")
    with refused(errno.ENOENT):
        recovery.set("web9/recover", "best")
    for text in "2", "", "yes":
        with refused(errno.EINVAL):
            recovery.set("web1/auto", text)
    recovery.set("web1/recover", recovery.get("web1/recover").rstrip())  # its help is no order
    assert recovery.domains("--all") == before and web1.running and recovery.report() == ""
    web1.stop()
    recovery.set("web1/recover", "two")  # which is below the threshold, but was named
    assert recovery.domains() == {"two"}
    report = recovery.wait("done")
    assert "by order, done\n  fenced, it was shut off\n  chosen two, similarity 0." in report
    web1.start()
    recovery.set("web1/recover", "force best")
    assert recovery.domains() == {"one", "two"} and web1.state == "shut off"
    with refused(errno.EPERM):
        recovery.set("two/recover", "force web1")
    assert "another VM has taken its place" in recovery.error()
    assert recovery.get("one/auto") == recovery.get("two/auto") == "0\n"
    recovery.libvirtd.virsh("undefine", "one")  # which makes a transient one of it
    with refused(errno.EOPNOTSUPP):
        recovery.set("one/recover", "force best")
    assert "one" in recovery.domains()


def test_who_is_not_ended(recovery):
    """Of what nobody can replace nothing is ended by force."""
    web1 = recovery.failing(features=None)
    with refused(errno.ENODATA):
        recovery.set("web1/recover", "force best")
    recovery.set("web1/features", WEB)
    recovery.vm("half", features="webserver Nginx")
    with refused(errno.ESRCH):
        recovery.set("web1/recover", "force best")
    assert "no candidate is similar enough" in recovery.error()
    assert web1.running and recovery.report() == ""
    recovery.set("web1/features", "os Debian")
    web1.kill()
    assert "error cannot be recovered: no candidate is similar enough" in recovery.wait("failed")
    assert recovery.domains() == set()
    assert recovery.metric('kwsfs_recoveries_total{result="failed"}') == "1"


def test_who_shuts_it_off(recovery):
    """What somebody wanted is no failure."""
    recovery.vm("standby")
    web1 = recovery.failing()
    web1.stop()
    wait_until(lambda: recovery.mount.of(web1).kws("state") == "shut off", "it is seen")
    web1.start()
    wait_until(lambda: recovery.mount.of(web1).kws("state") == "running", "it is seen to run")
    web1.kill()
    recovery.wait("done")
    assert recovery.report().count("failure ") == 1 and recovery.domains() == {"standby"}


def test_the_same_mac_address(recovery):
    """Two with one identity are worse than none."""
    recovery.vm("neighbour", features="language Java", more_devices=INTERFACE, run=True)
    recovery.vm("a-standby", more_devices=INTERFACE)
    recovery.vm("b-standby")
    web1 = recovery.failing()
    web1.kill()
    report = recovery.wait("done")
    assert f"passed over a-standby: 'neighbour', which runs, has its MAC address {MAC}\n" in report
    assert recovery.domains() == {"neighbour", "b-standby"}
    web1.start()
    with refused(errno.EEXIST):  # a named one is not replaced by another
        recovery.set("web1/recover", "force a-standby")
    assert MAC in recovery.get(".kws/last_error")  # and it is not ended for nothing
    assert recovery.domains() == {"neighbour", "b-standby", "web1"}
