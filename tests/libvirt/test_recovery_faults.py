# SPDX-License-Identifier: GPL-2.0-or-later
"""Recovering while other things go wrong: candidates that vanish, VMs that crash at once, or again and
again, and a kwsfs or libvirtd that is killed on the way. As test_recovery.py."""
import os
import re
import signal

import pytest

from commands import wait_until, write_once
from events import Events
from faults import FaultyMount
from kwsmount import ImpatientMount
from recoveries import WEB, Recovery, remove_all


@pytest.fixture
def recovery(mount, new_vm, libvirtd):
    yield Recovery(mount, new_vm)
    mount.stop()  # so that nothing takes the place of what is taken away
    wait_until(lambda: remove_all(libvirtd), "the VMs have gone")


def recovery_over(mount, end, new_vm, libvirtd):
    """For a fixture: over a mount of its own, which `end` ends."""
    try:
        yield Recovery(mount.start(), new_vm)
    finally:
        print(mount.log.read_text())
        end()
        wait_until(lambda: remove_all(libvirtd), "the VMs have gone")
    assert "Sanitizer" not in mount.log.read_text()


@pytest.fixture
def faulty(libvirtd, folder, new_vm):
    mount = FaultyMount(libvirtd, folder / "mount")
    yield from recovery_over(mount, mount.give_up, new_vm, libvirtd)


@pytest.fixture
def impatient(libvirtd, folder, new_vm):
    mount = ImpatientMount(libvirtd, folder / "mount")
    yield from recovery_over(mount, mount.stop, new_vm, libvirtd)


@pytest.fixture
def patient(libvirtd, folder, new_vm):
    mount = ImpatientMount(libvirtd, folder / "mount", wait_ms=600000)
    yield from recovery_over(mount, mount.stop, new_vm, libvirtd)


def test_one_that_vanishes(faulty):
    """Between the choice and the start."""
    first = faulty.vm("a-standby")
    faulty.vm("b-standby")
    web1 = faulty.failing()
    faulty.mount.arm("recovery.take", "before", "pause")
    web1.kill()
    wait_until(lambda: not faulty.mount.armed, "it is chosen")
    first.remove()
    faulty.mount.go()
    report = faulty.wait("done")
    assert "passed over a-standby: " in report and faulty.domains() == {"b-standby"}


def test_a_spare_that_is_being_made(faulty):
    """It is no candidate, and no VM, before it is known to be a spare."""
    faulty.publish(spare_wait=0, spare_state="defined")
    faulty.failing()
    faulty.mount.arm("clone.record", "before", "pause")
    write_once(faulty.mount.point / "pool" / "web" / ".kws" / "spare", 1)
    wait_until(lambda: not faulty.mount.armed, "it is defined")
    try:
        assert len(faulty.domains("--all")) == 3 and faulty.mount.vms == {"web1", "golden"}
        assert "spare" not in faulty.get("web1/candidates")
    finally:
        faulty.mount.go()
    wait_until(lambda: len(faulty.mount.vms) == 3, "it is shown")
    assert "spare" not in faulty.get("web1/candidates")


def test_two_at_once(faulty):
    """The second one sees what has taken the place of the first."""
    faulty.vm("standby")
    web1 = faulty.failing()
    web2 = faulty.vm("web2", run=True)
    wait_until(lambda: faulty.mount.of(web2).kws("state") == "running", "it is seen to run")
    faulty.set("threshold", "1")
    faulty.set("web2/auto", "1")
    faulty.set("web2/features", WEB)
    faulty.mount.arm("recovery.fence", "before", "pause")
    for vm in web1, web2:
        vm.kill()
    wait_until(lambda: not faulty.mount.armed, "the first is being recovered")
    wait_until(lambda: all(faulty.mount.of(vm).kws("state") != "running" for vm in (web1, web2)),
               "it is seen that both have failed")
    faulty.mount.go()
    reports = faulty.wait("done"), faulty.wait("done", "web2")
    assert faulty.domains() == {"standby"}
    assert sorted(re.search("replacement standby, (ran|told)", report)[1] for report in reports) == \
        ["ran", "told"], reports


def test_again_and_again(impatient):
    """With those that have taken its place it is one line; after six times somebody has to look."""
    impatient.publish()
    web1 = impatient.failing()
    with Events(impatient.mount) as events:
        web1.kill()
        for number in range(1, 7):
            name = f"web1-r{number}"
            assert events.until("recovery-done")[0]["new_name"] == name
            assert impatient.get(f"{name}/auto") == "1\n"
            web1.name = name
            web1.kill()
        given_up, _ = events.until("recovery-failed")
    assert given_up["vm"] == "web1-r6" and given_up["result"] == "ECANCELED"
    assert impatient.get("web1-r6/auto") == "0\n"
    assert impatient.report("web1-r6").startswith("given up: ")
    assert "given up" in impatient.error() and impatient.domains() == set()
    impatient.set("web1-r6/auto", "1")
    impatient.wait("done", "web1-r6")
    assert impatient.domains() == {"web1-r7"}
    web1.name = "web1"


def test_it_waits(patient):
    patient.publish()
    web1 = patient.failing()
    web1.kill()
    patient.wait("done")
    web1.name = "web1-r1"
    web1.kill()
    wait_until(lambda: patient.report("web1-r1").startswith("put off until "), "it waits")
    assert patient.domains() == set()
    patient.set("web1-r1/recover", "best")  # who orders it does not
    assert patient.domains() == {"web1-r2"} and "put off" not in patient.report("web1-r1")
    web1.name = "web1"


# ---- killed on the way ----

@pytest.mark.parametrize("step", ["recovery.fence", "recovery.take", "clone.define", "clone.record",
                                  "recovery.start", "recovery.record"])
def test_killed(faulty, step):
    """The next kwsfs goes on: one VM is in its place, and nothing is left."""
    faulty.publish()
    web1 = faulty.failing()
    faulty.mount.arm(step, "before", "kill")
    web1.kill()
    wait_until(lambda: faulty.mount.process.poll() is not None, "it is killed")
    faulty.mount.start_again()
    faulty.wait("done")
    assert faulty.report().count("failure ") == 1
    running = faulty.domains()
    assert len(running) == 1 and faulty.domains("--all") == {"web1", "golden"} | running
    assert faulty.get(f"{running.pop()}/auto") == "1\n"


def test_killed_by_order(faulty):
    """Nobody waits any more: it is told, and nothing else is done."""
    faulty.vm("standby")
    web1 = faulty.failing(auto=False)
    web1.kill()
    faulty.mount.arm("recovery.take", "before", "kill")
    with pytest.raises(OSError):
        faulty.set("web1/recover", "best")
    faulty.mount.start_again()
    assert "kwsfs ended while it was recovered" in faulty.wait("failed")
    assert faulty.domains() == set()
    faulty.set("web1/recover", "best")
    assert faulty.domains() == {"standby"}


def test_while_it_is_away(recovery):
    """A crash that nobody saw is noticed by the next kwsfs; one from before it was looked after is not."""
    recovery.vm("standby")
    web1 = recovery.failing()
    recovery.mount.kill()
    web1.kill()
    recovery.mount.start_again()
    recovery.wait("done")
    assert recovery.domains() == {"standby"}
    recovery.set("web1/auto", "0")
    recovery.set("web1/auto", "1")
    recovery.mount.kill()
    recovery.mount.start_again()
    recovery.libvirtd.virsh("destroy", "standby")
    wait_until(lambda: (recovery.mount.point / "snapshots/standby/.kws/state").read_text() ==
               "shut off\n", "it is seen")
    assert recovery.report().count("failure ") == 1 and recovery.domains() == set()


def test_at_once(recovery):
    """What is started and crashes before anybody looks has run all the same."""
    recovery.vm("standby")
    web1 = recovery.failing()
    web1.stop()
    wait_until(lambda: recovery.mount.of(web1).kws("state") == "shut off", "it is seen")
    recovery.mount.process.send_signal(signal.SIGSTOP)
    try:
        web1.start()
        web1.kill()
    finally:
        recovery.mount.process.send_signal(signal.SIGCONT)
    recovery.wait("done")
    assert recovery.domains() == {"standby"}


def test_libvirtd_is_away(recovery):
    recovery.vm("standby")
    web1 = recovery.failing()
    recovery.libvirtd.kill()
    try:
        os.kill(web1.qemu, signal.SIGKILL)
    finally:
        recovery.libvirtd.start()
    recovery.wait("done")
    assert recovery.domains() == {"standby"}
