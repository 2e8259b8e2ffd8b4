# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM without an operating system: it stands in its BIOS, and what is to be written to its
disks goes through QEMU's monitor while it runs, and through qemu-io while it is off."""
import contextlib
import os
import re
import signal
import xml.etree.ElementTree as ET

import libvirt_qemu

from commands import run, try_run, wait_until
from processes import status_of

MIB = 1 << 20

DOMAIN = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>{memory}</memory>
  <os><type arch='x86_64' machine='{machine}'>hvm</type>{boot}</os>
  <cpu mode='custom' match='exact'><model>qemu64</model></cpu>
  <devices>
    {disks}
    <serial type='file'><source path='{console}'/><target port='0'/></serial>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""

DISK = """
    <disk type='file' device='disk'>
      <driver name='qemu' type='{format}'/>
      <source file='{path}'/>
      <target dev='{target}' bus='virtio'/>
    </disk>
"""

GUEST_BOOT = """
    <kernel>{guest}/vmlinuz</kernel>
    <initrd>{guest}/initrd</initrd>
    <cmdline>console=ttyS0 loglevel=0 panic=-1 {arguments}</cmdline>
"""


def is_image(path):
    try:
        with path.open("rb") as file:
            return path.suffix == ".raw" or file.read(4) == b"QFI\xfb"
    except FileNotFoundError:  # it has been merged away just now
        return False


def until_unlocked(attempt):
    """Tries again as long as a lock is refused: while layers of a VM that is off are merged, it does not
    start, and QEMU's tools cannot write to it, see README."""
    def is_done():
        done = attempt()
        assert done.returncode == 0 or '" lock' in done.stderr, done.stderr
        return done.returncode == 0

    wait_until(is_done, "nothing is merged, and it works")


class VM:
    def __init__(self, libvirtd, folder, name, disks=None, more_devices=""):
        """disks: {target: size in bytes}, made as empty qcow2 files in folder, unless that is there
        already. The attribute `content` is what lies on each disk, kept up by write()."""
        self.libvirtd = libvirtd
        self.name = name
        self.folder = folder
        self.console = folder / "console.log"
        self.content = {}
        self.memory, self.machine, self.boot = 16, "pc", ""
        self.more_devices = more_devices
        self.paths = {}
        is_new = not folder.exists()
        folder.mkdir(mode=0o755, exist_ok=True)
        for target, size in (disks or {"vda": 4 * MIB}).items():
            self.paths[target] = folder / f"{target}.qcow2"
            self.content[target] = bytearray(size)
            if is_new:
                run("qemu-img", "create", "-q", "-f", "qcow2", self.paths[target], size)

    def define(self):
        disks = "".join(DISK.format(target=target, path=path, format=format_of(path))
                        for target, path in self.paths.items())
        xml = self.folder / "domain.xml"
        xml.write_text(DOMAIN.format(name=self.name, memory=self.memory, machine=self.machine,
                                     boot=self.boot, console=self.console,
                                     disks=disks + self.more_devices))
        self.define_once_more(xml)
        xml.unlink()
        return self

    def define_once_more(self, xml):
        """A merge that gives a VM other files may have defined the one of an earlier test again,
        while that was undefined."""
        done = self.libvirtd.try_virsh("define", xml)
        if done.returncode:
            assert "already exists" in done.stderr, done.stderr
            self.remove()
            self.virsh("define", xml)

    def start_with_agent(self, guest):
        """The small real guest with a file system on vda, and its agent, which answers."""
        size, image = len(self.content["vda"]), self.folder / "ext4"
        run("mkfs.ext4", "-q", image, f"{size >> 20}M")
        run("qemu-img", "convert", "-O", "qcow2", image, self.paths["vda"])
        image.unlink()
        self.boot_guest(guest, "kws=agent").define().start()
        wait_until(lambda: self.libvirtd.try_virsh("domfsinfo", self.name).returncode == 0,
                   "the agent answers")
        return self

    def boot_guest(self, guest, arguments):
        """Makes it one that boots the guest built by tests/lib/guest; before define()."""
        self.memory, self.machine = 80, "q35"
        self.boot = GUEST_BOOT.format(guest=guest, arguments=arguments)
        return self

    def remove(self):
        """As far as it is still there; also the snapshots' metadata."""
        self.libvirtd.try_virsh("destroy", self.name)
        self.libvirtd.try_virsh("undefine", self.name, "--snapshots-metadata", "--nvram")

    def virsh(self, command, *arguments):
        return self.libvirtd.virsh(command, *arguments)

    @property
    def state(self):
        return self.virsh("domstate", self.name)

    @property
    def running(self):
        with self.libvirtd.domain(self.name) as domain:
            return bool(domain.isActive())

    def start(self):
        until_unlocked(lambda: self.libvirtd.try_virsh("start", self.name))

    def stop(self):
        self.virsh("destroy", self.name)

    @property
    def images(self):
        """All files in the folders of its disks that are images."""
        folders = {self.folder} | {path.parent for path in self.paths.values()}
        return {str(path) for folder in folders for path in folder.iterdir() if is_image(path)}

    @property
    def qemu(self):
        """The process id of its QEMU, None if it has none."""
        try:
            pid = (self.libvirtd.folder / "run" / "qemu" / f"{self.name}.pid").read_text().strip()
        except FileNotFoundError:
            return None
        return int(pid) if status_of(pid).get("Name", "").startswith("qemu") else None

    def kill(self):
        """As kill -9 of its QEMU; nothing if it has ended just now."""
        killed = self.qemu
        if killed is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not self.running or self.qemu not in (killed, None),
                   "it is seen that QEMU has died")

    @property
    def active(self):
        """{target: file that is written to}, as libvirt says."""
        with self.libvirtd.domain(self.name) as domain:
            return {disk.find("target").get("dev"): disk.find("source").get("file")
                    for disk in ET.fromstring(domain.XMLDesc()).findall("devices/disk")
                    if disk.find("source") is not None}

    def qemu_io(self, target, command):
        """In the QEMU that runs the VM."""
        number = list(self.paths).index(target)
        with self.libvirtd.domain(self.name) as domain:
            libvirt_qemu.qemuMonitorCommand(
                domain, f"qemu-io -d /machine/peripheral/virtio-disk{number}/virtio-backend "
                        f'"{command}"', libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)

    def flush(self, target):
        """As a guest does that wants to be sure; qemu-io flushes by itself."""
        if self.running:
            self.qemu_io(target, "flush")

    def write(self, target, pattern, offset, length):
        """Fills a range of a disk with one byte, and has it on disk: QEMU may be killed next.
        Whether it arrived is seen when the disk is compared with `content`."""
        command = f"write -f -P {pattern} {offset} {length}"

        def by_tool():
            active = self.active[target]
            return try_run("qemu-io", "-f", format_of(active), "-c", command, active)

        with self.libvirtd.domain(self.name) as domain:
            if domain.isActive():
                self.qemu_io(target, command)
            else:
                until_unlocked(by_tool)
        self.content[target][offset:offset + length] = bytes([pattern]) * length

    def copy_of_content(self):
        return {target: bytes(content) for target, content in self.content.items()}

    def written_by_guest(self):
        """The highest number that the guest's writer says to be on the disks."""
        numbers = re.findall(r"^written (\d+)\r?$", self.console.read_text(), re.MULTILINE)
        return int(numbers[-1]) if numbers else 0

    def wait_for_guest(self, number):
        wait_until(lambda: self.written_by_guest() >= number, f"the guest has written {number}")

    # What libvirt says of its snapshots

    def snapshot_tree(self):
        """{name: parent or None}, as `virsh snapshot-list --tree` draws it."""
        parents, above = {}, []
        for line in self.virsh("snapshot-list", self.name, "--tree").splitlines():
            found = re.match(r"^((?:  |\|)[ |]*)?\+- (.*)$", line)
            if found:  # indented by 2, 6, 10, ...
                depth, name = (line.index("+- ") + 2) // 4, found[2]
            elif line.strip(" |"):
                depth, name = 0, line
            else:
                continue
            del above[depth:]
            parents[name] = above[-1] if above else None
            above.append(name)
        return parents

    @property
    def current(self):
        said = self.libvirtd.try_virsh("snapshot-current", self.name, "--name")
        return said.stdout.rstrip("\n") if said.returncode == 0 else None

    def description_of(self, snapshot):
        xml = self.virsh("snapshot-dumpxml", "--domain", self.name, "--snapshotname", snapshot)
        return ET.fromstring(xml).findtext("description", default="")

    def snapshot_layers(self):
        """{snapshot: {target: the file that was frozen}} of libvirt's metadata."""
        return {name: frozen_layers(xml)
                for name, xml in self.libvirtd.snapshot_xmls(self.name).items()}


def format_of(path):
    return "raw" if str(path).endswith(".raw") else "qcow2"


def frozen_layers(snapshot_xml):
    root = ET.fromstring(snapshot_xml)
    taking_part = {disk.get("name") for disk in root.findall("disks/disk")
                   if disk.get("snapshot") == "external"}
    return {disk.find("target").get("dev"): disk.find("source").get("file")
            for disk in root.findall("domain/devices/disk")
            if disk.find("target").get("dev") in taking_part}
