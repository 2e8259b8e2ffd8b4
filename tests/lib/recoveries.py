# SPDX-License-Identifier: GPL-2.0-or-later
"""/kws/recovery, and VMs that fail."""
import re

from clones import remove_clones
from commands import wait_until, write_once

WEB = "language Node.JS\ndatabase MySQL\nwebserver Nginx"


class Recovery:
    """recovery/ of a mount, and the VMs in it."""

    def __init__(self, mount, new_vm):
        self.mount, self.new_vm = mount, new_vm
        self.libvirtd, self.path = mount.libvirtd, mount.point / "recovery"

    def vm(self, name, features=WEB, run=False, **how):
        """One with features."""
        made = self.new_vm(name, {"vda": 1 << 20}, **how)
        wait_until(lambda: name in self.mount.vms, "it is seen")
        if features:
            self.set(f"{name}/features", features)
        if run:
            made.start()
        return made

    def failing(self, auto=True, **how):
        """web1, which runs."""
        made = self.vm("web1", run=True, **how)
        wait_until(lambda: self.mount.of(made).kws("state") == "running", "it is seen to run")
        if auto:
            self.set("web1/auto", 1)
        return made

    def publish(self, **settings):
        """A pool, which is as web1 was. That is written down when its snapshot has been taken."""
        golden = self.vm("golden", features="")
        self.mount.of(golden).mkdir("one")
        self.set("golden/features", WEB)
        pool = self.mount.point / "pool" / "web"
        pool.symlink_to("../snapshots/golden/one/clones")
        for what, value in settings.items():
            write_once(pool / ".kws" / what, value)
        return golden

    def set(self, what, text):
        write_once(self.path / what, text)

    def get(self, what):
        return (self.path / what).read_text()

    def report(self, vm="web1"):
        return self.get(f"{vm}/report")

    def result(self, vm="web1"):
        """Of the newest failure, "" if there is none."""
        found = re.search(r"^failure .*, (.*)$", self.report(vm), re.MULTILINE)
        return found[1] if found else ""

    def wait(self, result, vm="web1"):
        wait_until(lambda: self.result(vm) == result, f"{result}, not {self.report(vm)}")
        return self.report(vm)

    def domains(self, *options):
        """As virsh has them."""
        return set(self.libvirtd.virsh("list", "--name", *options).split())

    def error(self):
        return self.get(".kws/last_error").rstrip("\n")

    def metric(self, name):
        return re.search(rf"^{re.escape(name)} (.*)$", (self.mount.point / "metrics").read_text(),
                         re.MULTILINE)[1]


def remove_all(libvirtd):
    """Whatever was made; true if there was nothing. libvirtd may yet define or start one for a
    kwsfs that was killed."""
    names = libvirtd.virsh("list", "--all", "--name").split()
    remove_clones(libvirtd, names)
    return not names
