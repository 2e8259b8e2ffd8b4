# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures: one private libvirtd for all, a mount and VMs of its own for each test. Everything
is taken down again by finalizers, also when a test fails or is interrupted."""
import os
import pathlib
import shutil
import tempfile

import pytest

from chain import SIZE, Chain
from commands import run
from fault_table import FaultTable
from kwsmount import Mount
from libvirtd import private_libvirtd
from vm import VM

LIB = pathlib.Path(__file__).with_name("lib")
FAULTS = FaultTable()


def pytest_runtest_logreport(report):
    """In the process that prints, whichever one the test ran in."""
    if report.when == "call":
        for name, row in report.user_properties:
            if name == "fault":
                FAULTS.add(*row)


def pytest_terminal_summary(terminalreporter):
    FAULTS.print(terminalreporter)


@pytest.fixture
def add_fault(request):
    """What came of a fault, for the table that is printed when all is over: FaultTable.add."""
    def add(*row):
        request.node.user_properties.append(("fault", row))
    return add


@pytest.fixture(scope="session")
def base():
    """A folder into which QEMU's user can look, on a real disk; `check` says where, and cleans
    up after a run that was killed."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=os.environ.get("KWS_TEST_DIR", "/var/tmp"),
                                           prefix="kwsfs-test-"))
    folder.chmod(0o755)
    # Shared, so that libvirtd sees what is mounted here: kwsfs.
    run("mount", "--bind", folder, folder)
    try:
        run("mount", "--make-shared", folder)
        yield folder
    finally:
        run("umount", folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def libvirtd(base):
    with private_libvirtd(base / "libvirt") as daemon:
        yield daemon


@pytest.fixture(scope="session")
def guest(base):
    """A folder with the kernel and the initrd of the small real guest."""
    made = base / "guest"
    run(LIB / "guest", made)
    return made


@pytest.fixture
def folder(base, request):
    """Of one test."""
    made = pathlib.Path(tempfile.mkdtemp(dir=base, prefix=request.node.originalname[:40] + "-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def mount_class():
    """Which kwsfs it is; for a file of tests to say another."""
    return Mount


@pytest.fixture
def mount(libvirtd, folder, mount_class, new_vm):
    """kwsfs, running. It ends before the VMs go: a merge that is not over yet would define one again
    that is just being undefined."""
    mounted = mount_class(libvirtd, folder / "mount")
    try:
        yield mounted.start()
    finally:
        print(mounted.log.read_text())  # seen if the test fails
        mounted.stop()


@pytest.fixture
def new_vm(libvirtd, folder):
    """Makes and defines VMs: new_vm(), new_vm("web2", {"vda": size, "vdb": size})."""
    vms = []

    def make(name="web1", disks=None, more_devices="", define=True):
        vm = VM(libvirtd, folder / name, name, disks, more_devices)
        vms.append(vm)
        return vm.define() if define else vm

    yield make
    for vm in vms:
        vm.remove()


@pytest.fixture
def vm(new_vm):
    """One that is off, with two disks."""
    return new_vm("web1", {"vda": 4 << 20, "vdb": 1 << 20})


@pytest.fixture
def tree(mount, vm):
    """The VM's folder in the mount."""
    return mount.of(vm)


@pytest.fixture
def chain(mount, new_vm, folder):
    """One that runs, with three snapshots of random data."""
    return Chain(mount, new_vm("web1", {"vda": SIZE}), folder)
