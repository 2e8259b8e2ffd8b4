# SPDX-License-Identifier: GPL-2.0-or-later
"""The definition of a clone, as libvirt has it: what two VMs cannot both have is the clone's own, or
the clone is refused; all else is as the source has it."""
import errno
import pathlib
import re
import xml.etree.ElementTree as ET

import pytest

from clones import Clones, remove_clones
from commands import refused, run
from kwsmount import BUILD
from vm import VM

NAMES = ["web-01", "web-02", "web-03", "Web 4_한글", "한글"]
RENAME = BUILD / "tests" / "lib" / "rename-clone-xml"
OURS = "{urn:kwsfs:clone}clone"

NETWORK = """
    <interface type='user'><mac address='52:54:00:11:22:33'/><model type='virtio'/>
      <alias name='ua-first'/></interface>
    <interface type='user'><mac address='52:54:00:11:22:34'/><model type='virtio'/></interface>
    <interface type='ethernet'><mac address='52:54:00:11:22:35'/><target dev='tap-web'/>
      <model type='virtio'/></interface>
"""

DEVICES = NETWORK + """
    <disk type='file' device='cdrom'><source file='{folder}/cd.raw'/><target dev='sda' bus='sata'/>
      <readonly/></disk>
    <disk type='file' device='floppy'><target dev='fda' bus='fdc'/></disk>
    <parallel type='file'><source path='{folder}/printer.web1'/>
      <log file='{folder}/printer.log' append='on'/></parallel>
    <serial type='unix'><source mode='bind' path='{folder}/serial'/><target port='1'/></serial>
    <serial type='unix'><source mode='connect' path='{folder}/server'/><target port='2'/></serial>
    <serial type='file'><source path='/dev/null'/><target port='3'/></serial>
    <channel type='unix'><source mode='bind' path='{folder}/agent'/>
      <target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <graphics type='vnc' port='5987' autoport='no' passwd='secret'>
      <listen type='address' address='127.0.0.1'/></graphics>
    <video><model type='vga'/></video>
    <audio id='1' type='file' path='{folder}/sound.wav'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <vsock model='virtio'><cid auto='no' address='33'/></vsock>
    <filesystem type='mount'><source dir='{folder}'/><target dir='shared'/><readonly/></filesystem>
"""

SYSINFO = """
  <genid>0d0cb35e-bd1e-4a5c-9b9a-8d9ab43a3a31</genid>
  <sysinfo type='smbios'>
    <bios><entry name='vendor'>ACME</entry></bios>
    <system><entry name='manufacturer'>ACME</entry><entry name='serial'>1234</entry></system>
    <oemStrings><entry>ACME one</entry>
      <entry>io.systemd.credential:user-data=of the source</entry></oemStrings>
  </sysinfo>
  <sysinfo type='fwcfg'><entry name='opt/acme/one'>1</entry></sysinfo>
  <metadata><acme:machine xmlns:acme='urn:acme'>kept</acme:machine></metadata>
  <devices>"""

COMMANDLINE = """
  <qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
    <qemu:arg value='-name'/><qemu:arg value='guest=web'/>
  </qemu:commandline>
</domain>"""


@pytest.fixture(autouse=True)
def clean_up(libvirtd):
    yield
    remove_clones(libvirtd, NAMES)


@pytest.fixture
def define(mount, libvirtd, new_vm, folder):
    """Defines a VM with more devices, whose XML may be changed, and gives the clones of its
    snapshot `golden`."""
    (folder / "cd.raw").write_bytes(bytes(1 << 20))

    def make(name="web1", devices="", changed=lambda xml: xml, start=False):
        vm = new_vm(name, {"vda": 4 << 20}, devices.format(folder=folder))
        path = folder / f"{name}.xml"
        path.write_text(changed(libvirtd.virsh("dumpxml", "--inactive", "--security-info", name)))
        libvirtd.virsh("define", path)
        if start:
            vm.start()
        tree = mount.of(vm)
        tree.mkdir("golden")
        return Clones(tree, "golden")

    return make


def definition(vm):
    return ET.fromstring(vm.virsh("dumpxml", "--inactive", "--security-info", vm.name))


def addresses(vm):
    return [mac.get("address") for mac in definition(vm).findall("devices/interface/mac")]


def console_of(root):
    return [serial.find("source").get("path") for serial in root.findall("devices/serial")
            if serial.find("target").get("port") == "0"][0]


def serial_of(root):
    return root.findtext("sysinfo[@type='smbios']/system/entry[@name='serial']")


def leave_out(root, paths):
    """What there is besides what is at these places, elements or attributes of elements; devices
    may be in another order."""
    for path in paths:
        place, _, attribute = path.partition("/@")
        for parent in root.iter():
            for child in list(parent):
                if child not in root.findall(place):
                    continue
                if attribute:
                    child.attrib.pop(attribute, None)
                else:
                    parent.remove(child)
    return sorted(ET.canonicalize(ET.tostring(part, encoding="unicode"), strip_text=True)
                  for part in [*root.find("devices"), *root] if part.tag != "devices")


def test_what_is_the_clones_own(define, folder, libvirtd):
    def more(xml):
        xml = xml.replace("<devices>", SYSINFO).replace("</domain>", COMMANDLINE)
        return xml.replace("</os>", "<smbios mode='sysinfo'/></os>")

    clones = define(devices=DEVICES, changed=more)
    source = clones.tree.vm
    clone = clones.make("web-01")
    was, now = definition(source), definition(clone)

    assert now.findtext("name") == "web-01" and now.findtext("uuid") != was.findtext("uuid")
    assert now.findtext("genid") != was.findtext("genid")
    ours = now.find(f"metadata/{OURS}")
    assert ours.attrib == {"source": was.findtext("uuid"), "snapshot": "golden"}
    assert now.find("metadata/{urn:acme}machine").text == "kept"

    files = {source.get("path") for source in now.findall("devices/*/source")} - {None}
    assert files == {f"{source.console}.web-01", f"{folder}/printer.web-01",
                     f"{folder}/serial.web-01", f"{folder}/server", "/dev/null"}
    assert now.find("devices/parallel/log").get("file") == f"{folder}/printer.log.web-01"
    assert now.find("devices/audio").get("path") == f"{folder}/sound.wav.web-01"
    assert now.find("devices/channel/source") is None  # libvirt makes one up
    vnc = now.find("devices/graphics")
    assert vnc.get("autoport") == "yes" and vnc.get("port") == "-1" and vnc.get("passwd") == "secret"
    assert now.find("devices/vsock/cid").attrib == {"auto": "yes"}
    assert not [target for target in now.findall("devices/interface/target")]
    assert now.find("devices/interface/alias").get("name") == "ua-first"

    # And nothing else is another.
    differ = ["name", "uuid", "genid", f"metadata/{OURS}", "devices/interface/mac",
              "devices/interface/target", "devices/disk[@device='disk']/source",
              "devices/serial/source/@path", "devices/console/source/@path",
              "devices/parallel/source/@path", "devices/parallel/log/@file", "devices/audio/@path",
              "devices/channel/source", "devices/graphics/@port", "devices/graphics/@autoport",
              "devices/vsock/cid", "sysinfo[@type='smbios']/system/entry[@name='serial']",
              "sysinfo[@type='smbios']/system/entry[@name='uuid']",
              "sysinfo[@type='smbios']/oemStrings"]
    assert leave_out(now, differ) == leave_out(was, differ)
    (folder / "clone.xml").write_text(libvirtd.virsh("dumpxml", "--inactive", "web-01"))
    run("virt-xml-validate", folder / "clone.xml", "domain")


@pytest.mark.parametrize("source_runs", [True, False])
def test_both_run_at_once(define, source_runs):
    """What libvirt and QEMU let only one of them have would keep the second from starting."""
    runs = ["vsock", "filesystem", "unix'><source mode='connect'", "type='ethernet'"]
    devices = "".join(part for part in re.split(r"(?=\n    <)", DEVICES)
                      if not any(word in part for word in runs))
    clones = define(devices=devices, start=source_runs)
    made = [clones.make(name) for name in ("web-01", "web-02")]
    for vm in made + ([] if source_runs else [clones.tree.vm]):
        vm.start()
    assert {vm.state for vm in made + [clones.tree.vm]} == {"running"}
    ports = {vm.virsh("vncdisplay", vm.name) for vm in made + [clones.tree.vm]}
    assert len(ports) == 3


def test_addresses(define):
    clones = define(devices=NETWORK)
    first, second = (addresses(clones.make(name)) for name in ("web-01", "web-02"))
    assert len(set(first + second)) == 6
    for address in first + second:
        octet = int(address[:2], 16)
        assert octet & 2 and not octet & 1  # local, and no multicast
    (clones / "web-01").rmdir()
    assert addresses(clones.make("web-01")) == first  # whoever has that name


def with_firmware(xml, firmware):
    return xml.replace("</os>", f"{firmware}</os><features><acpi/></features>")


@pytest.mark.parametrize("there", [True, False])
def test_firmware(define, folder, there):
    """The clone's variables are a copy, or made from the template at its first start."""
    def firmware(xml):
        loader = f"<loader readonly='yes' type='pflash'>{folder}/code.fd</loader>"
        nvram = f"<nvram template='{folder}/template.fd'>{folder}/vars.fd</nvram>"
        return with_firmware(xml, loader + nvram)

    if there:
        (folder / "vars.fd").write_bytes(b"variables")
    os = definition(define(changed=firmware).make("web-01")).find("os")
    nvram = os.find("nvram")
    assert os.findtext("loader") == f"{folder}/code.fd"
    assert nvram.get("template") == f"{folder}/template.fd" and nvram.text != f"{folder}/vars.fd"
    own = pathlib.Path(nvram.text)
    assert own.exists() == there and (not there or own.read_bytes() == b"variables")


def test_firmware_that_is_written(define, folder):
    clones = define(changed=lambda xml: with_firmware(
        xml, f"<loader readonly='no' type='pflash'>{folder}/code.fd</loader>"))
    with refused(errno.EOPNOTSUPP):
        (clones / "web-01").mkdir()
    assert f"{folder}/code.fd" in clones.tree.kws("last_error")


@pytest.mark.parametrize("name, hostname", [("web-01", "web-01"), ("Web 4_한글", "web-4"),
                                            ("한글", None)])
def test_serial_number(define, name, hostname):
    root = definition(define().make(name))
    uuid = root.findtext("uuid")
    hostname = hostname or f"vm-{uuid[:8]}"
    assert root.find("os/smbios").get("mode") == "sysinfo"
    assert re.fullmatch(rf"ds=nocloud;i={uuid}-[0-9a-f]{{10}};h={hostname}", serial_of(root))


def test_sysinfo_of_the_source(define):
    clones = define(changed=lambda xml: xml.replace("<devices>", SYSINFO))
    info = definition(clones.make("web-01")).find("sysinfo[@type='smbios']")
    assert info.findtext("bios/entry") == "ACME"
    assert info.findtext("system/entry[@name='manufacturer']") == "ACME"
    strings = [entry.text for entry in info.findall("oemStrings/entry")]
    assert strings[0] == "ACME one" and not [s for s in strings if "of the source" in s]


def test_a_clone_of_a_clone(define, mount):
    clones = define(devices=DEVICES)
    first = clones.make("web-01")
    (mount.point / "snapshots" / "web-01" / "golden").mkdir()
    tree = mount.of(first)
    tree.reference["golden"] = first.copy_of_content()
    second = definition(Clones(tree, "golden").make("web-02"))
    assert console_of(second) == f"{clones.tree.vm.console}.web-02"
    ours = second.findall(f"metadata/{OURS}")
    assert [o.get("source") for o in ours] == [definition(first).findtext("uuid")]
    Clones(tree, "golden").path.joinpath("web-02").rmdir()
    (tree / "golden").rmdir()


def test_another_name(define, folder, libvirtd):
    clones = define(devices=DEVICES)
    (clones / ".kws" / "user_data").write_text("#cloud-config\n")
    clone = clones.make("web-01")
    was = definition(clone)
    (folder / "was.xml").write_text(libvirtd.virsh("dumpxml", "--inactive", "web-01"))
    renamed = run("sh", "-c", '"$0" "$1" <"$2"', RENAME, "web-03", folder / "was.xml")
    (folder / "now.xml").write_text(renamed)
    libvirtd.virsh("domrename", "web-01", "web-03")
    libvirtd.virsh("define", folder / "now.xml")
    now = definition(VM(libvirtd, folder / "web1", "web-03", {}))

    assert now.findtext("uuid") == was.findtext("uuid")
    assert console_of(now) == f"{clones.tree.vm.console}.web-03"
    assert now.find("devices/parallel/log").get("file") == f"{folder}/printer.log.web-03"
    (folder / "other.xml").write_text(run("sh", "-c", '"$0" "$1" <"$2"', RENAME, "web-01",
                                          folder / "now.xml"))
    # Whoever has been called that has what it would have been made with.
    assert ET.canonicalize((folder / "other.xml").read_text(), strip_text=True) == \
        ET.canonicalize((folder / "was.xml").read_text(), strip_text=True)
    serials = serial_of(was), serial_of(now)
    assert [re.search("h=([^;]*)", serial)[1] for serial in serials] == ["web-01", "web-03"]
    assert len({re.search("i=([^;]*)", serial)[1] for serial in serials}) == 2
    assert all(serial.endswith(";s=/run/credentials/@system/") for serial in serials)


REFUSED = {
    "disk 'vdb'": "<disk type='file' device='disk' snapshot='no'><driver type='raw'/>"
                  "<source file='{folder}/cd.raw'/><target dev='vdb' bus='virtio'/></disk>",
    "disk 'vdc'": "<disk type='file' device='disk' snapshot='no'><driver type='raw'/>"
                  "<source file='{folder}/cd.raw'/><target dev='vdc' bus='virtio'/>"
                  "<shareable/></disk>",
    "disk 'vdd'": "<disk type='network' device='disk' snapshot='no'><driver type='raw'/>"
                  "<source protocol='nbd' name='x'><host name='localhost' port='10809'/></source>"
                  "<target dev='vdd' bus='virtio'/></disk>",
    "disk 'sdb'": "<controller type='scsi' model='virtio-scsi'/>"
                  "<disk type='block' device='lun' snapshot='no'><driver type='raw'/>"
                  "<source dev='/dev/loop7'/><target dev='sdb' bus='scsi'/></disk>",
    "disk 'fda'": "<disk type='file' device='floppy' snapshot='no'><driver type='raw'/>"
                  "<source file='{folder}/cd.raw'/><target dev='fda' bus='fdc'/></disk>",
    "filesystem 'shared'": "<filesystem type='mount'><source dir='{folder}'/>"
                           "<target dir='shared'/></filesystem>",
    "0000:03:00.0": "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='3' "
                    "slot='0' function='0'/></source></hostdev>",
    "c2177883": "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>"
                "<address uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/></source></hostdev>",
    "52:54:00:00:00:09": "<interface type='server'><mac address='52:54:00:00:00:09'/>"
                         "<source address='127.0.0.1' port='5558'/></interface>",
    "52:54:00:00:00:08": "<interface type='vhostuser'><mac address='52:54:00:00:00:08'/>"
                         "<source type='unix' path='{folder}/vhost' mode='client'/>"
                         "<model type='virtio'/></interface>",
    "52:54:00:00:00:07": "<interface type='direct'><mac address='52:54:00:00:00:07'/>"
                         "<source dev='lo' mode='passthrough'/></interface>",
    "TPM": "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm7'/></backend>"
           "</tpm>",
    "/dev/ttyS7": "<serial type='dev'><source path='/dev/ttyS7'/><target port='1'/></serial>",
    "pipe7": "<parallel type='pipe'><source path='{folder}/pipe7'/></parallel>",
    "port 2445": "<serial type='tcp'><source mode='bind' host='127.0.0.1' service='2445'/>"
                 "<target port='1'/></serial>",
    "evdev7": "<input type='evdev'><source dev='/dev/input/evdev7'/></input>",
    "'chunk'": "<shmem name='chunk'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>",
    "'area'": "<lease><lockspace>space</lockspace><key>area</key>"
              "<target path='{folder}/lease'/></lease>",
}


def test_what_two_vms_cannot_have(define, mount):
    vms = []
    for number, (words, device) in enumerate(REFUSED.items()):
        clones = define(f"vm{number}", device)
        vms.append(clones.tree.vm.name)
        before = clones.tree.vm.images
        with refused(errno.EOPNOTSUPP):
            (clones / "web-01").mkdir()
        assert words in clones.tree.kws("last_error"), clones.tree.kws("last_error")
        assert clones.names == set() and clones.tree.vm.images == before
    assert mount.vms == set(vms)


def test_a_name_too_long(define, folder):
    clones = define(devices=f"<serial type='unix'><source mode='bind' path='{folder}/s'/>"
                            "<target port='1'/></serial>")
    with refused(errno.ENAMETOOLONG):
        (clones / ("x" * 100)).mkdir()
    assert f"{folder}/s" in clones.tree.kws("last_error")
    clones.make("web-01")
