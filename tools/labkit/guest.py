# SPDX-License-Identifier: Apache-2.0
"""The initial RAM file system of the Linux guests: busybox, drivers, a few programs, the scripts."""
import hashlib
import os

from . import TOP, cache_dir, cpio, host, kernel

SCRIPTS = os.path.join(TOP, "tests", "lab", "guest")
MODULES = ("sym53c8xx", "sd_mod", "sr_mod", "sg", "ext4", "isofs", "crc32c_generic",
           "button", "evdev")
PROGRAMS = ("mke2fs", "e2fsck", "sg_inq", "sg_turs", "sg_reset", "sg_raw", "sg_readcap")
LINKS = {"usr/sbin/mkfs.ext4": "mke2fs",
         "sbin/modprobe": "/bin/busybox"}   # the kernel's own requests go there


def build(path, k=None, modules=(), programs=(), files=()):
    """Writes the archive to path. modules and programs come on top of the usual ones; files are
    (path inside, host path) pairs."""
    k = k or kernel.get()
    archive = cpio.Archive()
    archive.file("bin/busybox", host.program("busybox"))
    archive.link("bin/sh", "busybox")
    archive.file("init", os.path.join(SCRIPTS, "init"), 0o755)
    for name in sorted(os.listdir(SCRIPTS)):
        if name != "init" and not name.endswith((".c", ".md")):
            archive.file("scripts/" + name, os.path.join(SCRIPTS, name))
    _add_modules(archive, k, (*MODULES, *modules))
    for name in (*PROGRAMS, *programs):
        archive.program("usr/sbin/" + os.path.basename(name), host.program(name))
    for name, target in LINKS.items():
        archive.link(name, target)
    for inside, source in files:
        archive.file(inside, source)
    archive.data("etc/mke2fs.conf", "[defaults]\n\tbase_features = sparse_super,large_file,filetype,"
                 "resize_inode,dir_index,ext_attr\n\tblocksize = 4096\n\tinode_size = 256\n"
                 "\tinode_ratio = 16384\n[fs_types]\n\text4 = {\n\t\tfeatures = has_journal,extent,"
                 "huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize\n\t}\n"
                 "\tsmall = {\n\t\tinode_ratio = 16384\n\t}\n"
                 "\tfloppy = {\n\t\tinode_ratio = 16384\n\t}\n")
    for folder in ("proc", "sys", "dev", "tmp", "mnt"):
        archive.directory(folder)
    archive.node("dev/console", 0o020000, 5, 1)
    archive.node("dev/null", 0o020000, 1, 3)
    archive.write(path)


def get(k=None):
    """The usual archive, built at first use and whenever what goes into it has changed."""
    k = k or kernel.get()
    seen = hashlib.sha256()
    sources = [__file__, cpio.__file__, k.bzimage]
    sources += [os.path.join(SCRIPTS, name) for name in sorted(os.listdir(SCRIPTS))]
    for source in sources:
        seen.update(f"{source} {os.stat(source).st_mtime_ns}\n".encode())
    path = os.path.join(cache_dir(), f"guest-{k.release}-{seen.hexdigest()[:12]}.cpio")
    if not os.path.exists(path):
        build(path, k)
    return path


def _add_modules(archive, k, names):
    """Modules in the shape that busybox's modprobe reads."""
    folder = f"lib/modules/{k.release}/"
    lines = []
    for name in k.load_order(names):
        archive.data(folder + name + ".ko", k.module_data(name))
        needs = [n for n in k.load_order([name]) if n != name]
        lines.append(f"{name}.ko: " + " ".join(n + ".ko" for n in reversed(needs)))
    archive.data(folder + "modules.dep", "\n".join(lines) + "\n")
    archive.data(folder + "modules.alias", "alias crypto-crc32c crc32c_generic\n")
    archive.data(folder + "modules.symbols", "")
