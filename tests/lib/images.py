# SPDX-License-Identifier: Apache-2.0
"""Disk images, made and looked at with QEMU's tools: a second opinion on what we wrote."""
import hashlib
import subprocess


def run(*command, statuses=(0,)):
    """A tool that has to end with one of the statuses; returns what it printed."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, timeout=300)
    assert done.returncode in statuses, \
        f"{' '.join(map(str, command))} gave {done.returncode}:\n{done.stdout}"
    return done.stdout


def create(path, size, fmt="qcow2", *options):
    run("qemu-img", "create", "-q", "-f", fmt, *options, path, size)
    return path


def check(path, leaks_allowed=False):
    """qemu-img check finds nothing: no corruption and no leak (its status 3), unless allowed."""
    run("qemu-img", "check", "-f", "qcow2", path, statuses=(0, 3) if leaks_allowed else (0,))


def to_raw(path, raw, fmt="qcow2"):
    run("qemu-img", "convert", "-f", fmt, "-O", "raw", path, raw)
    return raw


def sha256(path, offset=0, length=None):
    seen = hashlib.sha256()
    with open(path, "rb") as f:
        f.seek(offset)
        left = length
        while left is None or left > 0:
            data = f.read(1 << 20 if left is None else min(left, 1 << 20))
            if not data:
                break
            seen.update(data)
            left = None if left is None else left - len(data)
    return seen.hexdigest()
