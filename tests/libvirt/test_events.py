# SPDX-License-Identifier: GPL-2.0-or-later
"""/kws/events: one line of JSON for each thing that happened."""
import contextlib
import datetime
import errno
import json
import os
import re
import socket
import subprocess
import threading
import time

import pytest

from commands import refused, run, wait_until
from events import Events
from kwsmount import Mount

RFC3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"


@pytest.fixture
def tree(tree, mount):
    """When its coming has been told of."""
    wait_until(lambda: "web1: the VM is defined" in mount.log.read_text(), "the VM is there")
    return tree


@pytest.fixture
def events(tree, mount):
    with Events(mount) as opened:
        yield opened


def test_a_story(tree, vm, events):
    """What is done, in its order, with what it was about."""
    assert events.read() == []
    before = datetime.datetime.now(datetime.timezone.utc)
    vm.write("vda", 1, 0, 1 << 20)
    tree.mkdir("s1")
    vm.write("vda", 2, 1 << 20, 1 << 20)
    tree.mkdir("s 2")
    tree.mv("s1", "first")
    (tree / "first" / "description").write_text("as it was\n")
    (tree / "s 2" / "pin").write_text("1\n")
    with refused(errno.EPERM):
        (tree / "s 2").rmdir()
    (tree / "s 2" / "pin").write_text("0\n")
    tree.revert("first")
    tree.rmdir("first")
    came = events.read()
    told = [(e["event"], e.get("snapshot"), e["result"]) for e in came if e["event"][:5] != "merge"]
    assert told == [
        ("snapshot-created", "s1", "ok"), ("snapshot-created", "s 2", "ok"),
        ("snapshot-renamed", "s1", "ok"), ("snapshot-described", "first", "ok"),
        ("snapshot-pinned", "s 2", "ok"), ("refused", "s 2", "EPERM"),
        ("snapshot-unpinned", "s 2", "ok"), ("reverted", "first", "ok"),
        ("snapshot-deleted", "first", "ok")]
    uuid = vm.virsh("domuuid", "web1").strip()
    for event in came:
        assert event["vm"] == "web1" and event["uuid"] == uuid and event["message"]
        assert re.fullmatch(RFC3339, event["time"])
        moment = datetime.datetime.fromisoformat(event["time"][:26] + "+00:00")
        assert abs(moment - before) < datetime.timedelta(minutes=5)
    assert [e["new_name"] for e in came if e["event"] == "snapshot-renamed"] == ["first"]
    assert "pinned" in [e["message"] for e in came if e["event"] == "refused"][0]


def test_a_merge(tree, vm, events):
    vm.start()
    vm.write("vda", 1, 0, 1 << 20)
    tree.mkdir("s1")
    vm.write("vda", 2, 0, 1 << 20)
    tree.mkdir("s2")
    tree.rmdir("s1")
    tree.sync()
    came = [e for e in events.read() if e["event"].startswith("merge-")]
    assert {e["disk"] for e in came} == {"vda", "vdb"}
    for disk in "vda", "vdb":
        assert [e["event"] for e in came if e["disk"] == disk] == ["merge-started", "merge-ended"]
    ended = [e for e in came if e["event"] == "merge-ended"]
    assert all(e["result"] == "ok" and e["seconds"] > 0 for e in ended)
    assert [e["bytes"] for e in ended if e["disk"] == "vda"] == [1 << 20]


def test_what_virsh_does(tree, vm, events, libvirtd, new_vm):
    """It is told of, whoever did it."""
    vm.start()
    events.until("vm-state", vm="web1", message="running")
    vm.virsh("snapshot-create-as", "web1", "theirs", "--disk-only")
    wait_until(lambda: "theirs" in tree.names, "who lists it has it found")
    assert events.until("snapshot-created")[0]["snapshot"] == "theirs"
    vm.stop()
    events.until("vm-state", vm="web1", message="shut off")
    other = new_vm("web2")
    events.until("vm-added", vm="web2")
    libvirtd.virsh("domrename", "web2", "web3")
    assert events.until("vm-renamed", vm="web2")[0]["new_name"] == "web3"
    other.name = "web3"
    other.remove()
    events.until("vm-removed", vm="web3")


def test_libvirt_goes_and_comes(tree, vm, events, libvirtd):
    libvirtd.kill()
    try:
        events.until("libvirt-lost", result="EHOSTDOWN")
        with refused(errno.EHOSTDOWN):
            (tree / "s1").mkdir()
        assert events.until("refused")[0] | {"time": 0, "message": 0} == {
            "time": 0, "message": 0, "event": "refused", "vm": "web1", "result": "EHOSTDOWN",
            "uuid": events_uuid(tree), "snapshot": "s1"}
    finally:
        libvirtd.start()
    events.until("libvirt-back")


def events_uuid(tree):
    return os.getxattr(tree.path, "user.kws.uuid").decode()


def test_checksums_and_orphans(tree, vm, mount, events, folder):
    tree.mkdir("s1")
    (tree / "s1" / "SHA256SUMS").write_text("1\n")
    made = [events.until("checksum-made")[0] for _ in range(2)]
    assert {e["snapshot"] for e in made} == {"s1"}
    orphan = vm.folder / "kws-00000000-0123456789abcdef-vda.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", orphan, "1M")
    lost = mount.point / "lost+found"
    [name] = wait_until(lambda: [name for name in os.listdir(lost) if name != ".kws"], "it is shown")
    (lost / name).unlink()
    assert name in events.until("orphan-removed")[0]["message"]


# ---- the file ----

def test_a_reader_begins_now_and_each_has_its_own_place(tree, vm, mount):
    with Events(mount) as first:
        tree.mkdir("s1")
        with Events(mount) as second:
            assert second.is_waiting() and second.read() == []
            tree.mkdir("s2")
            assert [e["snapshot"] for e in second.read()] == ["s2"]
        assert [e["snapshot"] for e in first.read()
                if e["event"] == "snapshot-created"] == ["s1", "s2"]
        assert first.read() == [] and first.is_waiting()


def test_no_line_is_cut_unless_it_must_be(tree, mount, events):
    for number in range(4):
        tree.mkdir(f"s{number}")
    lines = []
    while True:
        came = events.read(600)  # asserts that all of them are whole
        if not came:
            break
        assert len(came) < 4
        lines += came
    assert [e["snapshot"] for e in lines] == ["s0", "s1", "s2", "s3"]
    tree.mkdir("bit by bit")
    text = b""
    while True:
        piece = os.read(events.fd, 7)
        if not piece:
            break
        text += piece
    assert json.loads(text)["snapshot"] == "bit by bit"


def test_poll_wakes(tree, vm, events):
    """One that sleeps in poll, as programs do."""
    woken = threading.Thread(target=lambda: came.extend(events.next()))
    came = []
    assert events.is_waiting()
    woken.start()
    tree.mkdir("s1")
    woken.join(60)
    assert not woken.is_alive() and came[0]["snapshot"] == "s1"
    assert events.is_waiting()


def test_the_file(tree, mount, events):
    path = mount.point / "events"
    tree.mkdir("s1")
    st = os.stat(path)
    assert st.st_mode & 0o777 == 0o400
    length = len(os.read(events.fd, 1 << 16))
    assert 0 < length <= st.st_size
    tree.mkdir("s2")
    assert os.stat(path).st_size == st.st_size + len(os.read(events.fd, 1 << 16))
    for attempt in (lambda: os.lseek(events.fd, 0, os.SEEK_SET), lambda: os.pread(events.fd, 1, 0)):
        with refused(errno.ESPIPE):
            attempt()
    for flags in os.O_WRONLY, os.O_RDWR:
        with refused(errno.EROFS):
            os.open(path, flags)
    assert path.read_text() == ""  # who comes later has missed it


@contextlib.contextmanager
def tail(folder, *command):
    out = folder / "tail.out"
    with open(out, "wb") as to:
        process = subprocess.Popen([str(word) for word in command], stdout=to,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        yield out, process
        assert process.poll() is None, out.read_text()
    finally:
        process.kill()
        process.wait()


def has_open(process, path):
    folder = f"/proc/{process.pid}/fd"
    return any(os.path.realpath(f"{folder}/{fd}") == str(path) for fd in os.listdir(folder))


@pytest.mark.parametrize("command", [("tail", "-f"), ("tail", "-F"), ("tail", "-n", "0", "-f"),
                                     ("tail", "-n", "+1", "-f"), ("busybox", "tail", "-f")],
                         ids=" ".join)
def test_tail(tree, mount, folder, command):
    tree.mkdir("before")  # the file has a size when it is opened
    with tail(folder, *command, mount.point / "events") as (out, process):
        wait_until(lambda: has_open(process, mount.point / "events"), "tail has opened it")
        if "0" in command:
            time.sleep(1)  # then it passes over what is there
        for number in range(5):
            tree.mkdir(f"s{number}")
            wait_until(lambda: f'"s{number}"' in out.read_text(), "tail has shown it")
        events = [json.loads(line) for line in out.read_text().splitlines()]
    assert [e["snapshot"] for e in events] == [f"s{n}" for n in range(5)]


def test_a_reader_that_is_too_slow(tree, mount):
    """What is held is bounded. Refusals are cheap events."""
    with Events(mount) as slow, Events(mount) as fast:
        count = 0
        while count < 9000:
            for _ in range(100):
                with refused(errno.EPERM):
                    os.rmdir(tree.path / ".kws")
                count += 1
            assert len(fast.read(1 << 20)) == 100
        came = []
        while not slow.is_waiting():
            came += slow.read(1 << 17)
        assert came[0]["event"] == "lost"
        assert came[0]["lines"] + len(came) - 1 == 9000
        assert {e["event"] for e in came[1:]} == {"refused"} and len(came) > 1000
        with refused(errno.EPERM):
            os.rmdir(tree.path / ".kws")
        assert [e["event"] for e in slow.read()] == ["refused"]


def test_hostile_names(tree, mount, events):
    names = ['a"b', "back\\slash", "<script>", "한글", "😀", "$HOME `id`", "{}", "%s%n"]
    for name in names:
        tree.mkdir(name)
    assert [e["snapshot"] for e in events.read()] == names


def test_the_end_of_the_mount(tree, mount):
    """Whoever still waits is woken; the daemon ends."""
    events = Events(mount)
    ended = threading.Thread(target=lambda: said.append(events.poll.poll(60000)))
    said = []
    ended.start()
    mount.stop()
    ended.join(60)
    assert not ended.is_alive() and said[0]
    with refused(errno.ENOTCONN):
        os.close(events.fd)


# ---- the log ----

def test_each_event_is_one_line_of_the_log(tree, mount, events):
    tree.mkdir("s1")
    with refused(errno.EINVAL):
        (tree / "two\nlines").mkdir()
    log = mount.log.read_text().splitlines()
    came = events.read()
    assert [e["event"] for e in came] == ["snapshot-created", "refused"]
    for event in came:
        assert log.count(f"kwsfs: web1: {event['message']}") == 1


def parse_journal(datagram):
    """The fields of one entry: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/."""
    fields = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        key, equals, value = line.partition(b"=")
        if not equals:  # binary: a length, the value, a newline
            length = int.from_bytes(datagram[:8], "little")
            value, datagram = datagram[8:8 + length], datagram[8 + length + 1:]
        fields[key.decode()] = value.decode()
    return fields


# Before the program starts: what is at /run/systemd/journal, for it alone, is a folder of the test.
BEHIND = """
mount --make-private "$(findmnt -no TARGET -T /run)"
mount -t tmpfs journal /run
mkdir /run/systemd
ln -s "$0" /run/systemd/journal
exec "$@"
"""


class JournalMount(Mount):
    def __init__(self, libvirtd, folder, target):
        super().__init__(libvirtd, folder, f"log={target}")
        self.journal = folder / "journal"
        self.journal.mkdir()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.journal / "socket"))
        self.socket.settimeout(60)

    def start(self, stderr_is_the_journal=True):
        # Its mounts are shared, but for /run: so what it mounts is seen here.
        command = ["unshare", "-m", "--propagation", "unchanged", "sh", "-ec", BEHIND,
                   self.journal, self.program, "-f", "-o", self.options, self.libvirtd.uri,
                   self.point]
        with open(self.log, "a") as log:
            st = os.fstat(log.fileno())
            stream = f"{st.st_dev}:{st.st_ino + (not stderr_is_the_journal)}"
            self.process = subprocess.Popen(command, env=dict(self.environ, JOURNAL_STREAM=stream),
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
        wait_until(lambda: self.process.poll() is not None or self.is_up(), "the mount answers")
        assert self.process.poll() is None, self.log.read_text()
        return self

    def entry(self, event):
        """The next one of that event."""
        while True:
            fields = parse_journal(self.socket.recv(1 << 16))
            assert fields["SYSLOG_IDENTIFIER"] == "kwsfs" and fields["SYSLOG_FACILITY"] == "3"
            if fields.get("KWS_EVENT") == event:
                return fields


@pytest.fixture
def journal_mount(libvirtd, folder):
    mounts = []

    def make(target):
        mounts.append(JournalMount(libvirtd, folder / f"mount{len(mounts)}", target))
        return mounts[-1]

    yield make
    for mounted in mounts:
        mounted.stop()
        mounted.socket.close()


@pytest.mark.parametrize("target", ["syslog", "stderr"])
def test_fields_in_the_journal(journal_mount, new_vm, target):
    mount = journal_mount(target).start()
    vm = new_vm("web 1")
    tree = mount.of(vm)
    uuid = mount.entry("vm-added")["KWS_VM_UUID"]
    assert uuid == vm.virsh("domuuid", "web 1").strip()
    tree.mkdir("one")
    created = mount.entry("snapshot-created")
    assert created | {"MESSAGE": ""} == {
        "MESSAGE": "", "PRIORITY": "6", "SYSLOG_IDENTIFIER": "kwsfs", "SYSLOG_FACILITY": "3",
        "KWS_EVENT": "snapshot-created", "KWS_VM": "web 1", "KWS_VM_UUID": uuid,
        "KWS_SNAPSHOT": "one"}
    assert created["MESSAGE"].startswith("web 1: the snapshot 'one' was taken")
    with refused(errno.EINVAL):
        (tree / "two\nlines").mkdir()
    entry = mount.entry("refused")
    assert entry["KWS_ERRNO"] == "EINVAL" and entry["KWS_SNAPSHOT"] == "two\nlines"
    assert mount.log.read_text() == ""  # nothing is said twice


def test_stderr_led_elsewhere(journal_mount, new_vm):
    """Led elsewhere after systemd set the variable: the lines are where stderr goes."""
    mount = journal_mount("stderr").start(stderr_is_the_journal=False)
    new_vm("web1")
    wait_until(lambda: "<6>web1: the VM is defined\n" in mount.log.read_text(), "it was logged")
    mount.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        mount.socket.recv(1)
