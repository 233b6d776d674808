# SPDX-License-Identifier: Apache-2.0
"""Writes initial RAM file systems: the "newc" cpio format of the kernel's buffer-format.rst.

Uncompressed on purpose: unpacking costs the emulated CPU more than reading costs the host.
"""
import os
import stat
import subprocess

from . import ToolError


class Archive:
    """An initramfs in the making. Paths inside are relative to its root, without a leading slash."""

    def __init__(self):
        self._parts = []
        self._inode = 0
        self._have = set()

    def _add(self, path, mode, data=b"", rdev=(0, 0)):
        path = path.strip("/")
        if path in self._have:
            return
        parent = os.path.dirname(path)
        if parent:
            self.directory(parent)
        self._have.add(path)
        self._inode += 1
        self._parts.append(_entry(path, self._inode, mode, data, rdev))

    def directory(self, path):
        if path.strip("/"):
            self._add(path, stat.S_IFDIR | 0o755)

    def data(self, path, data, mode=0o644):
        if isinstance(data, str):
            data = data.encode()
        self._add(path, stat.S_IFREG | mode, data)

    def file(self, path, source, mode=None):
        """Copies a host file, following links."""
        with open(source, "rb") as f:
            data = f.read()
            if mode is None:
                mode = 0o755 if os.fstat(f.fileno()).st_mode & 0o111 else 0o644
        self.data(path, data, mode)

    def link(self, path, target):
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def node(self, path, kind, major, minor, mode=0o600):
        self._add(path, kind | mode, rdev=(major, minor))

    def program(self, path, source):
        """Copies a host program together with the shared libraries it loads."""
        self.file(path, source, 0o755)
        listing = subprocess.run(["ldd", source], capture_output=True, text=True, check=False)
        for line in listing.stdout.splitlines():
            words = line.split()
            if "not found" in line:
                raise ToolError(f"{source} needs a library that is not here: {line.strip()}")
            libs = [w for w in words if w.startswith("/")]
            if libs:
                # Where the program looks for it: the loader by its name, the rest by soname.
                where = libs[0] if words[0].startswith("/") else "/lib/" + words[0]
                self.file(where, libs[0], 0o755)

    def bytes(self):
        return b"".join(self._parts) + _entry("TRAILER!!!", 0, 0, b"", (0, 0))

    def write(self, path):
        """Replaces path at once, so that a reader never sees half of it."""
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "wb") as f:
            f.write(self.bytes())
        os.rename(temporary, path)


def _pad4(data):
    return data + b"\0" * (-len(data) % 4)


def _entry(path, inode, mode, data, rdev):
    name = path.encode() + b"\0"
    fields = (inode, mode, 0, 0, 2 if stat.S_ISDIR(mode) else 1, 0, len(data), 0, 0,
              rdev[0], rdev[1], len(name), 0)
    head = b"070701" + b"".join(b"%08X" % f for f in fields)
    return _pad4(head + name) + _pad4(data)
