# SPDX-License-Identifier: GPL-2.0-or-later
"""What a VM is like: written by somebody, told by its guest's agent, or known from libvirt; kept where
virsh finds it."""
import errno
import json
import os
import subprocess
import xml.etree.ElementTree as ET

import pytest

from clones import Clones, remove_clones
from commands import refused, run, wait_until, write_once
from disturb import disturbed
from faults import FEATURE_STEPS, FaultyMount, is_settled
from processes import has_ended

URI = "urn:kwsfs:features"
AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
DOMAIN = ["# domain: cpu 1", "# domain: disk 5M", "# domain: memory 16M"]


class Features:
    """recovery/VM, and what virsh says of the same."""

    def __init__(self, mount, name="web1"):
        self.mount, self.name = mount, name
        self.path = mount.point / "recovery" / name
        self.virsh, self.try_virsh = mount.libvirtd.virsh, mount.libvirtd.try_virsh

    @property
    def lines(self):
        os.listdir(self.path)
        return (self.path / "features").read_text().splitlines()

    @property
    def written(self):
        return [line for line in self.lines if not line.startswith("#")]

    def wait_for(self, lines):
        wait_until(lambda: self.lines == lines, f"{lines}, not {self.lines}")

    def write(self, *lines):
        write_once(self.path / "features", "\n".join(lines))

    def ask(self):
        write_once(self.path / "ask", "1")

    @property
    def error(self):
        return (self.mount.point / "snapshots" / self.name / ".kws" / "last_error").read_text()

    def kept(self, which="--config"):
        """[(category, value, source)]"""
        said = self.try_virsh("metadata", self.name, "--uri", URI, which)
        if said.returncode:
            assert "metadata not found" in said.stderr
            return []
        return [(f.get("category"), f.text, f.get("source"))
                for f in ET.fromstring(said.stdout).iter("feature")]

    def set(self, xml, *options):
        self.virsh("metadata", self.name, "--uri", URI, "--key", "kwsfs", "--set", xml, *options)

    def state(self):
        return self.virsh("dumpxml", self.name), self.virsh("dumpxml", self.name, "--inactive")


@pytest.fixture
def web1(mount, vm):
    """A VM that is off."""
    made = Features(mount)
    wait_until(made.path.exists, "it is there")
    return made


# ---- what libvirt knows ----

def test_environment(web1, vm):
    assert web1.lines == DOMAIN
    vm.virsh("setvcpus", "web1", "4", "--maximum", "--config")
    vm.virsh("setvcpus", "web1", "3", "--config")
    vm.virsh("setmaxmem", "web1", "2G", "--config")
    web1.wait_for(["# domain: cpu 3", "# domain: disk 5M", "# domain: memory 2048M"])
    run("qemu-img", "resize", "-q", vm.paths["vda"], "1023M")
    vm.virsh("setmaxmem", "web1", "20M", "--config")
    vm.start()
    web1.wait_for(["# domain: cpu 3", "# domain: disk 1G", "# domain: memory 20M"])
    (web1.mount.point / "snapshots" / "web1" / "s1").mkdir()  # another file, as large
    assert web1.lines[1] == "# domain: disk 1G"
    web1.write("memory much", "disk fast", "disk large")
    assert web1.lines == ["disk fast", "disk large", "memory much", "# domain: cpu 3"]
    web1.write("")
    assert web1.lines == ["# domain: cpu 3", "# domain: disk 1G", "# domain: memory 20M"]


# ---- what somebody writes ----

@pytest.mark.parametrize("running", [True, False])
def test_written(web1, vm, mount, running):
    if running:
        vm.start()
    web1.write("webserver Nginx", "", "  # a remark", "database\tMySQL  8.0 \r", "language Node.JS",
               "language C & <C++> \"'", "언어 한국어", "database MySQL 8.0")
    lines = ["database MySQL 8.0", "language C & <C++> \"'", "language Node.JS", "webserver Nginx",
             "언어 한국어"]
    assert web1.lines == lines + DOMAIN
    kept = [(*line.split(" ", 1), None) for line in lines]
    assert web1.kept() == kept
    assert web1.kept("--live" if running else "--current") == kept
    before = web1.state()
    text = (web1.path / "features").read_bytes()
    (web1.path / "features").write_bytes(text)
    assert web1.state() == before and (web1.path / "features").read_bytes() == text
    mount.kill()
    mount.start_again()
    assert web1.lines == lines + DOMAIN
    with open(web1.path / "features", "a", encoding="utf-8") as file:
        file.write("os Debian\n")
    assert web1.written == sorted(lines + ["os Debian"])
    if running:
        vm.stop()  # what counts now is the config
    assert web1.written == sorted(lines + ["os Debian"])
    web1.write("")
    assert web1.lines == DOMAIN and web1.kept() == [] and URI not in web1.state()[1]


def test_what_is_refused(web1, vm):
    vm.start()
    web1.write("database MySQL")
    before = web1.state()
    bad = {"database": "line 1: 'database' has no value",
           "os Debian\n\n webserver ": "line 3: 'webserver' has no value",
           "a=b c": "'a=b' is no category", "a,b c": "'a,b' is no category",
           "x" * 65 + " y": "a category has 64 bytes at most",
           "x " + "y" * 193: "the value of 'x' has more than 192 bytes",
           "x a\ufffeb": "line 1: a feature is UTF-8 text",
           "\n".join(f"x {n}" for n in range(257)): "256 features at most, and not 257"}
    for text, sentence in bad.items():
        with refused(errno.EINVAL):
            web1.write(text)
        assert sentence in web1.error, web1.error
    for data in b"x \xff\n", b"x a\0b\n", b"x \x1b[0m\n":
        with refused(errno.EINVAL):
            (web1.path / "features").write_bytes(data)
    with refused(errno.EFBIG):
        web1.write("x " + "y" * 100_000)
    for text in "yes", "", "2":
        with refused(errno.EINVAL):
            write_once(web1.path / "ask", text)
    assert web1.state() == before and web1.lines == ["database MySQL"] + DOMAIN
    web1.write(*(f"category{n} {n}{'y' * 150}" for n in range(256)))  # as many as there may be
    assert len(web1.written) == len(web1.kept("--live")) == 256


def test_without_libvirt(web1, libvirtd):
    web1.write("database MySQL")
    libvirtd.kill()
    try:
        with refused(errno.EHOSTDOWN):
            web1.write("database PostgreSQL")
        assert web1.lines == ["database MySQL"] + DOMAIN
    finally:
        libvirtd.start()
    wait_until(lambda: "libvirt connected" in
               (web1.mount.point / "snapshots" / "web1" / ".kws" / "status").read_text(), "it is back")
    assert web1.kept() == [("database", "MySQL", None)]
    web1.write("database PostgreSQL")
    assert web1.kept() == [("database", "PostgreSQL", None)]


def test_modes(web1, mount):
    """They are the VM's."""
    folder = mount.point / "snapshots" / "web1"
    for mode in 0o700, 0o750, 0o755:
        folder.chmod(mode)
        wait_until(lambda: os.stat(web1.path).st_mode & 0o777 == mode & 0o555, f"{mode:o}")
        for name in "features", "ask":
            wait_until(lambda: os.stat(web1.path / name).st_mode & 0o777 == mode & 0o666, f"{mode:o} of {name}")


# ---- what others do with it ----

def test_virsh_metadata(web1, vm):
    vm.start()
    web1.set("<features><feature category='os'>Debian</feature></features>", "--live", "--config")
    web1.wait_for(["os Debian"] + DOMAIN)
    # By hand, with the namespace everywhere, and with what is no feature.
    web1.set("""<k:features xmlns:k='urn:kwsfs:features'><k:feature category='os'>Ubuntu</k:feature>
        <feature category='os' source='agent'>Debian</feature><feature>x</feature><other category='a'>b</other>
        <feature category='two words'>x</feature><feature category='y'>two
        lines</feature><feature category='z'/></k:features>""", "--live")
    web1.wait_for(["os Ubuntu", "y two lines"] + DOMAIN)
    web1.write("os Ubuntu", "language C")  # and what the agent is said to have told stays
    for which in "--live", "--config":
        assert web1.kept(which) == [("language", "C", None), ("os", "Debian", "agent"),
                                    ("os", "Ubuntu", None)]
    web1.write("language C")
    assert web1.lines == ["language C", "# agent: os Debian"] + DOMAIN
    web1.virsh("metadata", "web1", "--uri", URI, "--remove", "--live", "--config")
    web1.wait_for(DOMAIN)
    web1.virsh("undefine", "web1")  # it is transient from here on
    web1.write("os Debian")
    assert web1.kept("--live") == [("os", "Debian", None)] and web1.written == ["os Debian"]


def test_they_travel(web1, vm, tree, mount, libvirtd, folder):
    """With snapshots, clones, and a definition that somebody takes elsewhere."""
    web1.write("database MySQL", "os Ubuntu 20.04")
    wanted = ["database MySQL", "os Ubuntu 20.04"]
    vm.start()
    tree.mkdir("s1")
    web1.write("database PostgreSQL")
    clone = Clones(tree, "s1").make("web-01")
    other = ET.fromstring(web1.virsh("dumpxml", "web1", "--inactive"))
    other.find("name").text = "second"
    other.remove(other.find("uuid"))
    (folder / "second.xml").write_text(ET.tostring(other, encoding="unicode"))
    try:
        assert Features(mount, "web-01").written == wanted
        assert "MySQL" in (tree / "s1" / "domain.xml").read_text()
        libvirtd.virsh("define", folder / "second.xml")
        second = Features(mount, "second")
        wait_until(second.path.exists, "it is there")
        assert second.written == ["database PostgreSQL"]
        second.write("os Debian")
        assert web1.written == ["database PostgreSQL"]
        tree.revert("s1", "1 force")
        assert web1.written == wanted
    finally:
        (tree / "s1" / "clones" / "web-01").rmdir()
        remove_clones(libvirtd, [clone.name, "second"])


# ---- faults ----

@pytest.fixture
def mount_class():
    """For all of these, so that each can be broken."""
    return FaultyMount


NEW = "<features><feature category='os'>new</feature></features>"


@pytest.mark.parametrize("fault", ["step fails", "kwsfs killed", "libvirtd killed"])
def test_fault(web1, vm, mount, libvirtd, add_fault, fault):
    """Both definitions have what was written, or both what was there before."""
    assert FEATURE_STEPS == ["features.keep"]
    for when in "before", "after":
        if not vm.running:
            vm.start()
        web1.write("os old")
        if fault == "libvirtd killed":
            kill_libvirtd_at_rename(web1, libvirtd, 1 if when == "before" else 2)
        else:
            mount.arm("features.keep", when, "fail" if fault == "step fails" else "kill")
            with pytest.raises(OSError):
                web1.write("os new")
        if fault == "kwsfs killed":
            mount.start_again()
        wait_until(lambda: is_settled(mount.of(vm)), "all is finished or undone")
        assert web1.kept("--live") == web1.kept("--config")
        became = web1.written
        is_done = (fault, when) == ("kwsfs killed", "after")
        assert became == (["os new"] if is_done else ["os old"])
        vm.stop()
        assert web1.written == became
        add_fault("features", True, "features.keep", when, fault, "done" if is_done else "undone")
    web1.write("os another")
    assert web1.kept() == [("os", "another", None)]


def kill_libvirtd_at_rename(web1, libvirtd, number):
    """It writes the definition of the VM that runs, then its config, each beside the old one, and
    gives it its name."""
    pid = (libvirtd.folder / "libvirtd.pid").read_text().strip()
    try:
        with disturbed(pid, f"rename:signal=KILL:when={number}"):
            with refused(errno.EHOSTDOWN):
                web1.write("os new")
            wait_until(lambda: has_ended(pid), "it has ended")
        assert (">new<" in (libvirtd.folder / "run" / "qemu" / "web1.xml").read_text()) == (number > 1)
    finally:
        if libvirtd.try_virsh("version").returncode:
            libvirtd.start()
    assert web1.kept() == [("os", "old", None)]


@pytest.mark.parametrize("which", ["--live", "--config"])
def test_one_of_both(web1, vm, mount, which):
    """Somebody else may have set one of them when kwsfs had died."""
    vm.start()
    web1.write("os old")
    mount.arm("features.keep", "before", "kill")
    with pytest.raises(OSError):
        web1.write("os new")
    web1.set(NEW, which)
    mount.start_again()
    wait_until(lambda: is_settled(mount.of(vm)), "it is undone")
    assert web1.kept("--live") == web1.kept("--config") == [("os", "old", None)]


# ---- what the guest says ----

class Guest:
    """The test guest, through its agent."""

    def __init__(self, vm):
        self.vm = vm

    def agent(self, execute, **arguments):
        text = json.dumps({"execute": execute, "arguments": arguments})
        return json.loads(self.vm.virsh("qemu-agent-command", "web1", text))["return"]

    def sh(self, script):
        pid = self.agent("guest-exec", path="/bin/sh", arg=["-c", script])["pid"]
        done = wait_until(lambda: (status := self.agent("guest-exec-status", pid=pid))["exited"] and status,
                          script)
        assert done["exitcode"] == 0

    def write(self, path, text):
        handle = self.agent("guest-file-open", path=path, mode="w")
        encoded = subprocess.run(["base64", "-w0"], input=text, capture_output=True, check=True).stdout
        self.agent("guest-file-write", **{"handle": handle, "buf-b64": encoded.decode()})
        self.agent("guest-file-close", handle=handle)

    def start_agent_without(self, commands):
        """A new one, that refuses them."""
        script = f"echo -b {commands} >/run/qga.options; sleep .5; kill $(cat /run/qga.pid)"
        self.agent("guest-exec", path="/bin/sh", arg=["-c", script])
        wait_until(lambda: self.refuses(commands.split(",")[0]), "the new agent answers")

    def refuses(self, command):
        said = self.vm.libvirtd.try_virsh("qemu-agent-command", "web1", '{"execute": "guest-info"}',
                                          "--timeout", "5")  # what the old one was asked is lost
        return said.returncode == 0 and any(
            c["name"] == command and not c["enabled"]
            for c in json.loads(said.stdout)["return"]["supported_commands"])


@pytest.fixture
def guest_of(new_vm, guest):
    return Guest(new_vm("web1", {"vda": 8 << 20}, AGENT, define=False).start_with_agent(guest))


def test_agent(guest_of, mount):
    web1 = Features(mount)
    domain = ["# domain: cpu 1", "# domain: disk 8M", "# domain: memory 80M"]
    with refused(errno.EOPNOTSUPP):
        web1.ask()  # it has neither a file nor a name for its OS
    assert "tells nothing of its OS" in web1.error
    guest_of.sh("mkdir -p /etc/kwsfs")
    guest_of.write("/etc/os-release", b'NAME=Ubuntu\nVERSION_ID="20.04"\nPRETTY_NAME="Ubuntu 20.04.6 LTS"\n')
    assert (web1.path / "ask").read_text().startswith("# write 1")
    web1.ask()
    assert web1.lines == ["# agent: os Ubuntu 20.04"] + domain
    assert web1.kept("--live") == web1.kept() == [("os", "Ubuntu 20.04", "agent")]

    web1.write("database PostgreSQL")
    guest_of.write("/etc/kwsfs/features", "# ours\nlanguage Node.JS\ndatabase MySQL\n언어 한국어\n".encode())
    web1.ask()
    lines = ["database PostgreSQL", "# agent: language Node.JS", "# agent: os Ubuntu 20.04",
             "# agent: 언어 한국어"] + domain
    assert web1.lines == lines
    (web1.path / "features").write_text("\n".join(lines))
    assert web1.lines == lines

    for data, code in (b"database\n", errno.EINVAL), (b"x \xff\n", errno.EINVAL), (b"x \0", errno.EBADMSG), \
            (b"x y\n" * 5000, errno.EFBIG):
        guest_of.write("/etc/kwsfs/features", data)
        with refused(code):
            web1.ask()
        assert "cannot ask the guest for its features" in web1.error
        assert web1.lines == lines
    guest_of.write("/etc/kwsfs/features", b"x y\n" * 4096)  # as much as there may be, and 256 of a kind
    web1.ask()
    assert web1.lines[1:3] == ["# agent: os Ubuntu 20.04", "# agent: x y"]
    guest_of.write("/etc/kwsfs/features", b"os Own\n")
    web1.ask()
    assert web1.lines == ["database PostgreSQL", "# agent: os Own"] + domain

    guest_of.start_agent_without("guest-file-open")
    web1.ask()
    assert web1.lines == ["database PostgreSQL", "# agent: os Ubuntu 20.04"] + domain
    guest_of.start_agent_without("guest-get-osinfo,guest-file-open")
    with refused(errno.EOPNOTSUPP):
        web1.ask()
    assert "tells nothing of its OS" in web1.error
    guest_of.vm.stop()  # a VM that failed cannot be asked, and what it said is known
    with refused(errno.EINVAL):
        web1.ask()
    assert "the VM does not run" in web1.error
    assert web1.lines == ["database PostgreSQL", "# agent: os Ubuntu 20.04"] + domain


def test_no_agent(web1, vm, new_vm, mount):
    with refused(errno.EINVAL):
        web1.ask()
    vm.start()
    with refused(errno.EOPNOTSUPP):
        web1.ask()
    new_vm("web2", more_devices=AGENT).start()
    second = Features(mount, "web2")
    wait_until(second.path.exists, "it is there")
    with refused(errno.ETIMEDOUT):
        second.ask()  # nobody is at the other end
    assert web1.lines == DOMAIN
