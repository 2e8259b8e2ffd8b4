# SPDX-License-Identifier: GPL-2.0-or-later
"""File handles: what a server of NFS keeps instead of open files, for as long as its clients do."""
import ctypes
import errno
import os
import pathlib

from commands import refused

libc = ctypes.CDLL(None, use_errno=True)


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("handle", ctypes.c_ubyte * 128)]


def check_errno(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def handle_of(path):
    handle, mount_id = Handle(bytes=128), ctypes.c_int()
    check_errno(libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(handle),
                                       ctypes.byref(mount_id), 0))
    return handle


def open_by_handle(point, handle, flags=os.O_RDONLY):
    at = os.open(point, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return check_errno(libc.open_by_handle_at(at, ctypes.byref(handle), flags))
    finally:
        os.close(at)


def test_handles_outlive_the_daemon(chain, mount):
    """They are opened in a mount whose kernel has never seen the files: it asks for `.` of an
    inode, and for `..` until it has a folder's place. One of what is gone is stale."""
    kept = {path: handle_of(path) for path in (
        chain.path / "s3" / "vda.raw", chain.path / "s2" / "info.json", chain.path / "s1",
        chain.path / ".kws", chain.path, mount.point / "snapshots")}
    gone = [handle_of(chain.path / "s2" / "vda.raw"), handle_of(chain.path / "s2")]
    mount.stop()
    mount.start()
    for path, handle in kept.items():
        fd = open_by_handle(mount.point, handle)
        try:
            assert os.path.samestat(os.fstat(fd), os.stat(path)), path
            if path.is_dir():
                assert os.readlink(f"/proc/self/fd/{fd}") == str(path)
                assert set(os.listdir(fd)) == set(os.listdir(path))
            elif path.suffix == ".raw":
                chain.check("s3", raw=pathlib.Path(f"/proc/{os.getpid()}/fd/{fd}"))
        finally:
            os.close(fd)
    (chain.path / "s2").rmdir()
    for handle in gone:
        with refused(errno.ESTALE):
            os.close(open_by_handle(mount.point, handle))
    mount.stop()
    mount.start()
    for handle in gone:
        with refused(errno.ESTALE):
            os.close(open_by_handle(mount.point, handle))
