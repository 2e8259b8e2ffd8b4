# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers from Debian's packages, with a configuration of their own, on a port of the loopback.
samba, nfs-ganesha, tgt and prometheus are unpacked by tests/lib/install, not installed: nothing of them is
started with the machine, and nothing of theirs is configured."""
import contextlib
import os
import pathlib
import socket
import subprocess

from commands import run, try_run, wait_until

UNPACKED = pathlib.Path(__file__).parents[2] / "build" / "servers"
LIBRARIES = UNPACKED / "usr" / "lib" / "x86_64-linux-gnu"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def running(folder, command, is_up, libraries=()):
    """Runs a server that stays in the foreground until the block ends."""
    log = folder / "server.log"
    environ = dict(os.environ, LD_LIBRARY_PATH=":".join(map(str, libraries)))
    with open(log, "w") as out:
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                   stdout=out, stderr=out, cwd=folder, env=environ,
                                   start_new_session=True)
    try:
        wait_until(lambda: process.poll() is not None or is_up(), f"{command[0]} answers")
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


SMB_CONF = """
[global]
server role = standalone server
interfaces = 127.0.0.1
bind interfaces only = yes
smb ports = {port}
disable netbios = yes
map to guest = bad user
guest account = root
load printers = no
disable spoolss = yes
passdb backend = tdbsam:{folder}/passdb.tdb
lock directory = {folder}
state directory = {folder}
cache directory = {folder}
pid directory = {folder}
private dir = {folder}
ncalrpc dir = {folder}/ncalrpc
[kws]
path = {path}
read only = yes
guest only = yes
guest ok = yes
"""


@contextlib.contextmanager
def samba(folder, path):
    """Shares a folder as `kws`, read-only; gives a function that runs commands of smbclient."""
    port = free_port()
    folder.mkdir()
    conf = folder / "smb.conf"
    conf.write_text(SMB_CONF.format(port=port, folder=folder, path=path))

    def client(*commands):
        return try_run("smbclient", "-N", "-s", conf, "-p", port, "//127.0.0.1/kws", "-c",
                       "; ".join(commands))

    with running(folder, [UNPACKED / "usr/sbin/smbd", "-F", "--no-process-group", "-s", conf, "-l",
                          folder],
                 lambda: client("ls").returncode == 0, [LIBRARIES, LIBRARIES / "samba"]):
        yield client


GANESHA_CONF = """
NFS_CORE_PARAM {{
	Protocols = 4; NFS_Port = {port}; Bind_addr = 127.0.0.1; mount_path_pseudo = true;
	Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false;
	Plugins_Dir = "{libraries}/ganesha";
}}
NFSV4 {{
	Graceless = true; RecoveryRoot = "{folder}/recovery"; Only_Numeric_Owners = true;
	UseGetpwnam = true;
}}
EXPORT {{
	Export_Id = 1; Path = "{path}"; Pseudo = /kws; Access_Type = {access}; Squash = No_Root_Squash;
	SecType = sys; Filesystem_id = 1.1; FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = EVENT; }}
"""


@contextlib.contextmanager
def nfs(folder, path, access="RO", port=None):
    """Exports a mount over NFS 4; gives a function that makes URLs for libnfs."""
    port = port or free_port()
    (folder / "recovery").mkdir(parents=True)
    conf = folder / "ganesha.conf"
    conf.write_text(GANESHA_CONF.format(port=port, folder=folder, path=path, libraries=LIBRARIES,
                                         access=access))

    def url(name):
        return f"nfs://127.0.0.1/kws/{name}?version=4&nfsport={port}"

    with running(folder, [UNPACKED / "usr/bin/ganesha.nfsd", "-F", "-f", conf, "-L",
                          folder / "ganesha.log", "-p", folder / "pid"],
                 lambda: try_run("nfs-ls", url("")).returncode == 0,
                 [LIBRARIES, UNPACKED / "usr/lib/ganesha"]):
        yield url


IQN = "iqn.2026-11.example.kws:golden"


@contextlib.contextmanager
def iscsi(folder, path, port, user=None, password=None):
    """Serves a file as LUN 1 of IQN, read-only, to initiators on this machine; with a user's name to
    those only that know the password (CHAP)."""
    folder.mkdir(exist_ok=True)
    environ = dict(os.environ, TGT_IPC_SOCKET=str(folder / "control"))

    def admin(mode, op, *options):
        return run(UNPACKED / "usr/sbin/tgtadm", "--lld", "iscsi", "--mode", mode, "--op", op, *options,
                   env=environ)

    def answers():
        with contextlib.suppress(AssertionError):
            admin("target", "show")
            return True

    with running(folder, ["env", f"TGT_IPC_SOCKET={folder}/control", UNPACKED / "usr/sbin/tgtd", "-f",
                          "--iscsi", f"portal=127.0.0.1:{port}"], answers):
        admin("target", "new", "--tid", "1", "-T", IQN)
        admin("logicalunit", "new", "--tid", "1", "--lun", "1", "--backing-store", path)
        admin("logicalunit", "update", "--tid", "1", "--lun", "1", "--params", "readonly=1")
        if user:
            admin("account", "new", "--user", user, "--password", password)
            admin("account", "bind", "--tid", "1", "--user", user)
        admin("target", "bind", "--tid", "1", "--initiator-address", "127.0.0.1")
        try:
            yield
        finally:
            admin("target", "delete", "--force", "--tid", "1")
            admin("system", "delete")
