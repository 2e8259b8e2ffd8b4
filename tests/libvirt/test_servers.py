# SPDX-License-Identifier: GPL-2.0-or-later
"""What is served is served on: over NBD, NFS and SMB, each by a server that many use. What comes
out there is compared with what qemu-img reads from the layers; see chain.py."""
import json
import re
import subprocess

import pytest

import servers
from chain import MOST_DATA, SIZE
from commands import run


def check_over_nbd(chain, name, uri):
    run("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", uri, chain.layers[name])
    extents = json.loads(run("qemu-img", "map", "-f", "raw", "--output=json", uri))
    assert sum(extent["length"] for extent in extents) == SIZE
    assert sum(extent["length"] for extent in extents if extent["data"]) < MOST_DATA


@pytest.mark.parametrize("shape", ["raw", "qcow2"])
def test_qemu_nbd(chain, folder, shape):
    path = folder / "socket"
    with servers.running(folder, ["qemu-nbd", "--read-only", "--persistent", "-f", shape, "-k", path,
                                  chain.path / "s3" / f"vda.{shape}"], path.exists):
        check_over_nbd(chain, "s3", f"nbd+unix:///?socket={path}")


def test_nbdkit(chain, folder):
    """Which finds the holes by SEEK_HOLE; all snapshots by one server."""
    path = folder / "socket"
    for name in chain.layers:
        (folder / name).symlink_to(chain.path / name / "vda.raw")
    with servers.running(folder, ["nbdkit", "-f", "-r", "-U", path, "file", f"dir={folder}"],
                         path.exists):
        for name in chain.layers:
            check_over_nbd(chain, name, f"nbd+unix:///{name}?socket={path}")


def names(mount):
    """Of all there is below snapshots/, with sizes of the files."""
    said = run("find", mount.point / "snapshots", "-mindepth", "1", "-printf", "%P %y %s\n")
    return {path: int(size) if kind == "f" else None
            for path, kind, size in (line.rsplit(" ", 2) for line in said.splitlines())}


def test_nfs(chain, mount, folder):
    """Ganesha opens files by their handles, as a kernel's server does."""
    with servers.nfs(folder / "nfs", mount.point) as url:
        said = run("nfs-ls", "-R", url("snapshots"))
        found = {}
        for line in said.splitlines():
            kind, size, path = re.match(r"(\S)\S+ +\d+ +\d+ +\d+ +(\d+) (.*)", line).groups()
            found[path] = int(size) if kind == "-" else None
        assert found == names(mount)
        for name in chain.layers:
            for shape in "raw", "qcow2":
                with open(folder / "copy", "wb") as out:
                    subprocess.run(["nfs-cat", url(f"snapshots/web1/{name}/vda.{shape}")],
                                   stdout=out, check=True)
                chain.check(name, **{shape: folder / "copy"})
        assert run("nfs-cat", url("snapshots/web1/s1/info.json")) == \
            (chain.path / "s1" / "info.json").read_text()


def test_samba(chain, mount, folder):
    with servers.samba(folder / "samba", mount.point / "snapshots") as client:
        for name in chain.layers:
            done = client(f"cd web1/{name}", f"lcd {folder}", "get vda.raw", "get vda.qcow2",
                          "get info.json")
            assert done.returncode == 0, done.stdout
            chain.check(name, raw=folder / "vda.raw", qcow2=folder / "vda.qcow2")
            run("cmp", folder / "info.json", chain.path / name / "info.json")
        done = client("recurse on", "ls")
        for name in "s1", "s2", "s3", "latest", "current", ".kws":
            assert re.search(rf"^  {re.escape(name)} +\w*D\w* ", done.stdout, re.MULTILINE), name
        assert len(re.findall(rf"^  vda\.raw +N +{SIZE} ", done.stdout, re.MULTILINE)) >= 3
        for command in "put smb.conf web1/s1/vda.raw", "rmdir web1/s3", "mkdir web1/s4":
            done = client(f"lcd {folder}/samba", command)
            assert "NT_STATUS_ACCESS_DENIED" in done.stdout or \
                "NT_STATUS_MEDIA_WRITE_PROTECTED" in done.stdout, done.stdout
    assert {path.name for path in chain.path.glob("s*")} == {"s1", "s2", "s3"}
