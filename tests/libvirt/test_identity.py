# SPDX-License-Identifier: GPL-2.0-or-later
"""Who a clone is, as its guest sees it without an agent, and the texts that are told to it."""
import base64
import errno
import os
import pathlib
import re
import xml.etree.ElementTree as ET

import pytest

from clones import Clones, remove_clones
from commands import refused, run, wait_until

LIB = pathlib.Path(__file__).parents[1] / "lib"
LARGEST = {"user_data": 2304, "meta": 512}
PAGE = 4096  # systemd before 257 reads no more of the OEM strings
USER_DATA = "#cloud-config\nfqdn: \"a, b\"  # 한글 'x' %s <&>;\n\n\truncmd: [ date ]\n"
META = "role: web\nrack: 7\n"
LONG_NAME = "a" + "-name" * 12 + "-x"  # 63 bytes: the longest hostname
NETWORK = 2 * "<interface type='user'><model type='virtio'/></interface>"


@pytest.fixture
def clones(mount, new_vm, guest, libvirtd):
    """Of a VM that boots the guest which tells what it knows of itself."""
    vm = new_vm("web1", {"vda": 1 << 20}, NETWORK, define=False)
    tree = mount.of(vm.boot_guest(guest, "kws=identity").define())
    tree.mkdir("golden")
    yield Clones(tree, "golden")
    remove_clones(libvirtd, ["web-01", "web-02"])


@pytest.fixture
def systemd_guest(base, guest):
    """A folder with the kernel of the other one, and an initrd with Debian's systemd."""
    made = base / "systemd-guest"
    run(LIB / "systemd-guest", made)
    os.link(guest / "vmlinuz", made / "vmlinuz")
    return made


@pytest.fixture
def texts(clones):
    return clones / ".kws"


def strings_of(root):
    return [entry.text for entry in root.findall("sysinfo/oemStrings/entry")]


def definition(vm):
    return ET.fromstring(vm.virsh("dumpxml", "--inactive", vm.name))


def credentials(strings):
    """{name: content}, as systemd takes them."""
    found = {}
    for string in strings:
        name, _, value = string.removeprefix("io.systemd.credential.binary:").partition("=")
        found[name] = base64.b64decode(value, validate=True).decode()
    return found


def what_the_guest_says(vm):
    """{word: what it said after it, line by line}."""
    console = vm.console.with_name(f"{vm.console.name}.{vm.name}")
    vm.start()
    wait_until(lambda: console.exists() and "nothing more to do" in console.read_text(),
               "the guest has said all")
    vm.stop()
    lines = console.read_text().splitlines()
    return {word: [line.split(" ", 1)[1] for line in lines if line.startswith(f"{word} ")]
            for word in ("serial", "address", "string", "credential")}


def test_the_guest_knows(clones, texts):
    (texts / "user_data").write_text(USER_DATA)
    (texts / "meta").write_text(META)
    clone = clones.make("web-01")
    xml = definition(clone)
    said = what_the_guest_says(clone)
    uuid = xml.findtext("uuid")
    assert re.fullmatch(rf"ds=nocloud;i={uuid}-[0-9a-f]{{10}};h=web-01;"
                        "s=/run/credentials/@system/", said["serial"][0])
    assert credentials(said["string"]) == {"system.hostname": "web-01", "user-data": USER_DATA,
                                           "meta-data": META}
    addresses = [mac.get("address") for mac in xml.findall("devices/interface/mac")]
    assert len(addresses) == 2 and set(addresses) <= set(said["address"])


def test_systemd_takes_it(mount, new_vm, systemd_guest, libvirtd):
    """All of it, also where the texts and the hostname are as long as they may be."""
    vm = new_vm("web1", {"vda": 1 << 20}, define=False).boot_guest(systemd_guest, "")
    vm.memory = 256
    tree = mount.of(vm.define())
    tree.mkdir("golden")
    clones = Clones(tree, "golden")
    told = {file: f"#{file}: 한글\n".ljust(size - 4, "x") for file, size in LARGEST.items()}
    for file, text in told.items():
        assert len(text.encode()) == LARGEST[file]
        (clones / ".kws" / file).write_text(text)
    try:
        said = what_the_guest_says(clones.make(LONG_NAME))["credential"]
    finally:
        remove_clones(libvirtd, [LONG_NAME])
    got = {name: base64.b64decode(content).decode() for name, content in map(str.split, said)}
    assert got == {"user-data": told["user_data"], "meta-data": told["meta"],
                   "system.hostname": LONG_NAME}


def test_beside_strings_of_the_source(clones, texts, libvirtd, folder):
    """What not every guest could read is refused."""
    vm = clones.tree.vm
    (texts / "user_data").write_text(USER_DATA)
    strings = strings_of(definition(clones.make("web-01")))
    room = PAGE - 5 - 1 - sum(len(string) + 1 for string in strings) - 1
    path = folder / "domain.xml"
    xml = libvirtd.virsh("dumpxml", "--inactive", vm.name)
    for name, length, fits in [("fits", room, True), ("not", room + 1, False)]:
        entry = f"<entry>{'x' * length}</entry>"
        info = f"<sysinfo type='smbios'><oemStrings>{entry}</oemStrings></sysinfo>"
        path.write_text(xml.replace("<devices>", info + "<devices>"))
        libvirtd.virsh("define", path)
        clones.tree.mkdir(name)
        own = Clones(clones.tree, name)
        (own / ".kws" / "user_data").write_text(USER_DATA)
        if fits:
            own.make("web-02")
        else:
            with refused(errno.EFBIG):
                (own / "web-03").mkdir()
            assert f"{PAGE + 1} bytes" in clones.tree.kws("last_error")


def test_without_texts(clones):
    """There is no folder then in which cloud-init would look in vain."""
    said = what_the_guest_says(clones.make("web-01"))
    assert said["serial"][0].endswith(";h=web-01")
    assert credentials(said["string"]) == {"system.hostname": "web-01"}


@pytest.mark.parametrize("file, name, other", [("user_data", "user-data", "meta-data"),
                                               ("meta", "meta-data", "user-data")])
def test_one_of_them(clones, texts, file, name, other):
    """cloud-init wants both."""
    (texts / file).write_text(META)
    told = credentials(strings_of(definition(clones.make("web-01"))))
    assert told[name] == META and told[other].endswith("{}\n")
    # It is what was written when the clone was made.
    (texts / file).write_text("other\n")
    assert credentials(strings_of(definition(clones.make("web-02"))))[name] == "other\n"
    assert credentials(strings_of(definition(clones.vm("web-01"))))[name] == META


def test_writing(clones, texts, mount, folder):
    file = texts / "user_data"
    assert file.read_text() == (texts / "meta").read_text() == ""
    file.write_text(USER_DATA)
    assert file.read_text() == USER_DATA and file.stat().st_size == len(USER_DATA.encode())
    file.write_text("one line")
    assert file.read_text() == "one line"
    # Shells write line by line.
    run("bash", "-c", r"printf '#!/bin/sh\necho 1\n' >$0; echo 'echo 2' >>$0", file)
    assert file.read_text() == "#!/bin/sh\necho 1\necho 2\n"
    (folder / "text").write_text(USER_DATA * 10)
    run("cp", folder / "text", file)
    assert file.read_text() == USER_DATA * 10
    mount.stop()
    mount.start()
    assert file.read_text() == USER_DATA * 10
    file.write_text("\n")
    assert file.read_text() == "" and (texts / "meta").read_text() == ""


def test_what_is_refused(clones, texts):
    file = texts / "user_data"
    file.write_text(USER_DATA)
    for content, code in [(b"x" * (LARGEST["user_data"] + 1), errno.EFBIG), (b"a\0b", errno.EINVAL),
                          (b"\xff\xfe", errno.EINVAL), (b"\x1f\x8b\x08", errno.EINVAL)]:
        with refused(code):
            file.write_bytes(content)
        assert file.read_text() == USER_DATA
        assert clones.tree.kws("last_error") != ""
    fd = os.open(file, os.O_WRONLY)
    with refused(errno.EINVAL):
        os.pwrite(fd, b"x", 5)
    os.close(fd)
    with refused(errno.EFBIG):
        (texts / "meta").write_text("x" * (LARGEST["meta"] + 1))
    for name in LARGEST:
        with refused(errno.EPERM):
            (texts / name).unlink()


def test_others_do_not_read_it(clones, texts):
    clones.tree.path.chmod(0o777)
    assert {(texts / name).stat().st_mode & 0o777 for name in ("user_data", "meta")} == {0o660}


def test_it_goes_with_the_snapshot(clones, texts):
    (texts / "user_data").write_text(USER_DATA)
    os.rename(clones.tree / "golden", clones.tree / "silver")
    file = clones.tree / "silver" / "clones" / ".kws" / "user_data"
    assert file.read_text() == USER_DATA
    (clones.tree / "silver").rmdir()
    (clones.tree / "silver").mkdir()
    assert file.read_text() == ""
