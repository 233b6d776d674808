# SPDX-License-Identifier: Apache-2.0
"""Debian kernels, downloaded and unpacked beside the build: nothing is installed on this machine."""
import contextlib
import fcntl
import glob
import lzma
import os
import re
import shutil
import struct
import subprocess
import sys

from . import ToolError, cache_dir, host

FLAVOURS = ("6.1", "6.12")
DEFAULT = "6.1"

# Parts of the package that no machine of ours has hardware for; they are most of its bulk.
UNWANTED = ("*/drivers/gpu/*", "*/drivers/media/*", "*/drivers/net/wireless/*",
            "*/drivers/infiniband/*", "*/drivers/staging/*", "*/kernel/sound/*",
            "*/drivers/iio/*", "*/drivers/usb/*", "*/boot/System.map*", "./usr/share/doc/*")


class Kernel:
    """An unpacked kernel: release, bzImage, and modules with their dependencies."""

    def __init__(self, root):
        self.root = root
        images = glob.glob(os.path.join(root, "boot", "vmlinuz-*"))
        if len(images) != 1:
            raise ToolError(f"'{root}' holds no kernel; remove it and try again")
        self.bzimage = images[0]
        self.release = os.path.basename(images[0])[len("vmlinuz-"):]
        self.modules = os.path.join(root, "lib", "modules", self.release)
        self._deps = {}
        self._path = {}
        with open(os.path.join(self.modules, "modules.dep"), encoding="ascii") as f:
            for line in f:
                path, _, deps = line.partition(":")
                name = _module_name(path)
                self._path[name] = path
                self._deps[name] = [_module_name(d) for d in deps.split()]
        with open(os.path.join(self.modules, "modules.builtin"), encoding="ascii") as f:
            self._builtin = {_module_name(line.strip()) for line in f}

    def load_order(self, names):
        """The modules to load for these, dependencies first; what is built in is left out."""
        order = []

        def visit(name):
            name = name.replace("-", "_")
            if name in self._builtin or name in order:
                return
            if name not in self._path:
                raise ToolError(f"kernel {self.release} has no module '{name}'")
            # modules.dep lists all of a module's dependencies, the deepest last.
            for dep in reversed(self._deps[name]):
                if dep not in order:
                    order.append(dep)
            order.append(name)

        for name in names:
            visit(name)
        return order

    def module_data(self, name):
        """The module's bytes, decompressed: a small init has no xz."""
        path = os.path.join(self.modules, self._path[name])
        with open(path, "rb") as f:
            data = f.read()
        return lzma.decompress(data) if path.endswith(".xz") else data

    def vmlinux(self):
        """The ELF image from inside the bzImage. Starting it (by PVH) saves the guest its own
        decompression, a second or more on an emulated CPU."""
        path = os.path.join(self.root, "vmlinux")
        if not os.path.exists(path):
            with open(self.bzimage, "rb") as f:
                image = f.read()
            # Linux x86 boot protocol: setup_sects, payload_offset, payload_length.
            setup = ((image[0x1f1] or 4) + 1) * 512
            offset, length = struct.unpack_from("<II", image, 0x248)
            payload = image[setup + offset:setup + offset + length]
            data = _decompress(payload)
            with open(path + ".new", "wb") as f:
                f.write(data)
            os.rename(path + ".new", path)
        return path


def _decompress(payload):
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        # The build appends the unpacked size, four bytes that are not zstd's.
        return subprocess.run([host.program("zstd"), "-dc"], input=payload[:-4],
                              stdout=subprocess.PIPE, check=True).stdout
    raise ToolError("the kernel is packed in a way that is not known here")


def _module_name(path):
    return os.path.basename(path).split(".ko")[0].replace("-", "_")


@contextlib.contextmanager
def cache_lock():
    """One at a time: several tests may want the same kernel at once."""
    with open(os.path.join(cache_dir(), "lock"), "w", encoding="ascii") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def _package(flavour):
    """The name of the newest package of a flavour that apt knows."""
    if flavour == "6.1":
        for line in host.run("apt-cache", "depends", "linux-image-amd64").splitlines():
            found = re.match(r"\s+Depends: (linux-image-6\.1\.\S+-amd64)$", line)
            if found:
                return found.group(1)
    names = host.run("apt-cache", "pkgnames", f"linux-image-{flavour}.").split()
    fits = [n for n in names
            if re.fullmatch(rf"linux-image-{re.escape(flavour)}\.[0-9.+a-z~-]*?amd64(-unsigned)?", n)
            and "cloud" not in n and "-rt-" not in n]
    if not fits:
        raise ToolError(f"apt knows no kernel {flavour} (apt-get update, and a Debian 12 mirror?)")

    def age(name):
        return [int(x) for x in re.findall(r"[0-9]+", name)], not name.endswith("-unsigned")
    return max(fits, key=age)


def _download(flavour, root):
    work = root + ".new"
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    if not glob.glob("/var/lib/apt/lists/*_Packages*") and os.geteuid() == 0:
        host.run("apt-get", "update")
    package = _package(flavour)
    print(f"lab: downloading {package} (about 70 MB, once)", file=sys.stderr, flush=True)
    host.run("apt-get", "download", package, cwd=work)
    deb = glob.glob(os.path.join(work, "*.deb"))[0]
    excludes = " ".join(f"--exclude='{u}'" for u in UNWANTED)
    host.run("sh", "-c", f"dpkg-deb --fsys-tarfile '{deb}' | tar -x {excludes}", cwd=work)
    os.unlink(deb)
    release = os.listdir(os.path.join(work, "lib", "modules"))[0]
    host.run("depmod", "-b", work, release)
    shutil.rmtree(root, ignore_errors=True)
    os.rename(work, root)


def get(flavour=DEFAULT):
    """The kernel of a flavour ('6.1', '6.12'), downloaded at first use."""
    if flavour not in FLAVOURS:
        raise ToolError(f"no kernel '{flavour}' here; there are {' and '.join(FLAVOURS)}")
    root = os.path.join(cache_dir(), "linux-" + flavour)
    with cache_lock():
        if not os.path.exists(os.path.join(root, "lib")):
            _download(flavour, root)
        kernel = Kernel(root)
        kernel.vmlinux()
    return kernel
