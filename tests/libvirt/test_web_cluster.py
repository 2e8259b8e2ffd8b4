# SPDX-License-Identifier: GPL-2.0-or-later
"""A cluster of web servers, all of them instances of one golden image, behind a load balancer: one
is killed and replaced by another one, and nobody who asks for a page notices."""
import http.client
import os
import re
import signal
import threading
import urllib.request

import pytest

import servers
from clones import remove_clones
from commands import run, wait_until, write_once
from conftest import LIB
from libvirtd import private_libvirtd

NETWORK = LIB / "web-network"
CARD = """
    <interface type='bridge'><source bridge='web0'/><model type='virtio'/><driver name='qemu'/></interface>
"""
NAMES = ["web-01", "web-02", "web-03"]
PAGE = re.compile(r"I am (\S+), release (\d+), at ([0-9a-f:]{17})\n")


class Balancer:
    def __init__(self, folder):
        self.folder = folder
        self.port = servers.free_port()

    def start(self):
        run(NETWORK, "start", self.folder, self.port)

    def stop(self):
        run(NETWORK, "stop", self.folder)

    @property
    def namespace(self):
        return run(NETWORK, "name", self.folder).strip()

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return answer.read().decode()

    def page(self):
        """Of one of the servers: its name, its release and the address of its network card. No
        balancer can take back half an answer, of a server that is killed in the middle of it:
        then one asks again, as browsers do."""
        try:
            page = self.get("/")
        except http.client.IncompleteRead:
            page = self.get("/")
        return PAGE.fullmatch(page).groups()

    def up(self):
        """The servers that get requests."""
        rows = [row.split(",") for row in self.get("/balancer;csv").splitlines()]
        return {row[1] for row in rows
                if row[0] == "web" and row[1] not in ("FRONTEND", "BACKEND") and row[17] == "UP"}

    def wait_for(self, *names):
        wait_until(lambda: self.up() == set(names), f"those that serve are {names}")


class Visitors:
    """Who asks for a page, again and again, until the block ends; each failure is one of the test."""

    def __init__(self, balancer):
        self.balancer = balancer
        self.pages, self.failures = [], []
        self.gone = threading.Event()
        self.threads = [threading.Thread(target=self.ask) for _ in range(3)]

    def ask(self):
        while not self.gone.is_set():
            try:
                self.pages.append(self.balancer.page())
            except Exception as e:  # whatever it is, it is what a visitor sees
                self.failures.append(repr(e))
            self.gone.wait(0.05)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.gone.set()
        for thread in self.threads:
            thread.join()

    def wait_for_all_of(self, *names):
        """Until each of these was seen from now on."""
        start = len(self.pages)
        wait_until(lambda: set(names) <= {page[0] for page in self.pages[start:]},
                   f"pages of {names} are seen")


@pytest.fixture(scope="module")
def balancer(base):
    network = Balancer(base / "web-network")
    try:
        network.start()
        yield network
    finally:
        network.stop()


@pytest.fixture(scope="module")
def libvirtd(base, balancer):
    """One whose VMs are in the balancer's network."""
    with private_libvirtd(base / "web" / "libvirt",
                          ["ip", "netns", "exec", balancer.namespace]) as daemon:
        yield daemon


@pytest.fixture
def pool(new_vm, guest, mount, libvirtd):
    """Of a snapshot with the golden image."""
    vm = new_vm("web", more_devices=CARD, define=False).boot_guest(guest, "kws=start")
    run(LIB / "web-golden", vm.paths["vda"])
    vm.define()
    tree = mount.of(vm)
    wait_until(tree.path.exists, "the VM is seen")
    tree.mkdir("golden")
    published = mount.point / "pool" / "web"
    published.symlink_to("../snapshots/web/golden/clones")
    yield published
    remove_clones(libvirtd, NAMES)


def provision(pool, name):
    """A new VM from the golden image; it starts."""
    (pool / name).mkdir()
    write_once(pool / name / "state", "start")


def kill(libvirtd, name):
    """As kill -9 of its QEMU."""
    os.kill(int((libvirtd.folder / "run" / "qemu" / f"{name}.pid").read_text()), signal.SIGKILL)


def mac(libvirtd, name):
    return re.search(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", libvirtd.virsh("domiflist", name))[0]


def test_one_is_killed_and_replaced(pool, libvirtd, balancer):
    for name in NAMES[:2]:
        provision(pool, name)
        wait_until(lambda: name in balancer.up(), f"{name} serves")
    balancer.wait_for("web-01", "web-02")
    with Visitors(balancer) as visitors:
        visitors.wait_for_all_of("web-01", "web-02")
        kill(libvirtd, "web-01")
        provision(pool, "web-03")
        balancer.wait_for("web-02", "web-03")
        visitors.wait_for_all_of("web-02", "web-03")
    assert visitors.failures == []
    assert set(visitors.pages) == {(name, "1", mac(libvirtd, name)) for name in NAMES}
    (pool / "web-01").rmdir()
    assert "web-01" not in libvirtd.virsh("list", "--all", "--name").split()
