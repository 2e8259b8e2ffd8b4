# SPDX-License-Identifier: GPL-2.0-or-later
"""The private libvirtd of the tests, see private-libvirtd."""
import contextlib
import os
import pathlib

import libvirt

from commands import run, try_run

SCRIPT = pathlib.Path(__file__).with_name("private-libvirtd")

libvirt.registerErrorHandler(lambda context, error: None, None)


class Libvirtd:
    def __init__(self, folder, enter=()):
        """enter: the command by which it is started somewhere else, in a network namespace for instance."""
        self.folder, self.enter = folder, enter
        self.uri = run(SCRIPT, "uri", folder).strip()
        self.environ = dict(os.environ, LC_ALL="C.UTF-8", LIBVIRT_DEFAULT_URI=self.uri)

    def start(self):
        run(*self.enter, SCRIPT, "start", self.folder)

    def kill(self):
        """As kill -9 of libvirtd; the VMs go on."""
        run(SCRIPT, "kill", self.folder)

    @contextlib.contextmanager
    def killed(self):
        """It is dead as long as the block runs."""
        self.kill()
        yield
        self.start()

    def terminate(self):
        """Ends libvirtd properly; the VMs go on."""
        run(SCRIPT, "term", self.folder)

    def stop(self):
        """Ends libvirtd and its VMs."""
        run(SCRIPT, "stop", self.folder)

    def virsh(self, *command):
        """What virsh prints, without the empty lines it ends with."""
        try:
            return run("virsh", *command, env=self.environ).rstrip("\n")
        except AssertionError as e:
            log = (self.folder / "log" / "libvirtd.log").read_text(errors="replace")
            raise AssertionError(f"{e}\nlibvirtd's log ends with:\n{log[-3000:]}") from None

    def try_virsh(self, *command):
        return try_run("virsh", *command, env=self.environ)

    @contextlib.contextmanager
    def domain(self, name):
        """For what would take too many calls of virsh."""
        connection = libvirt.open(self.uri)
        try:
            yield connection.lookupByName(name)
        finally:
            connection.close()

    def snapshot_xmls(self, name):
        """{snapshot: XML} of a domain, in one go."""
        with self.domain(name) as domain:
            return {snapshot.getName(): snapshot.getXMLDesc()
                    for snapshot in domain.listAllSnapshots()}


@contextlib.contextmanager
def private_libvirtd(folder, enter=()):
    """One that runs as long as the block, with its VMs. It makes the folder's parent, too."""
    folder.parent.mkdir(exist_ok=True)
    daemon = Libvirtd(folder, enter)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()
