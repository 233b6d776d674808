# SPDX-License-Identifier: Apache-2.0
"""What this machine can do."""
import os
import shutil
import subprocess

from . import ToolError


def cpu_has_virtualisation():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        for line in f:
            if line.startswith("flags"):
                flags = line.split(":", 1)[1].split()
                return "vmx" in flags or "svm" in flags
    return False


def kvm_kind():
    """'hardware', 'software' or 'none'.

    'software' is a /dev/kvm on a CPU without virtualisation: some hosts offer one that interprets
    guest kernels, good for tiny guests and too slow or too incomplete for Linux.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "none"
    return "hardware" if cpu_has_virtualisation() else "software"


def program(name):
    """The path of a host program, looked for in the system folders too."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if not path:
        raise ToolError(f"the program '{name}' is missing; run tools/install-packages lab")
    return path


def run(*command, **options):
    """Runs a host program that has to succeed; its output is shown only when it does not."""
    done = subprocess.run([program(command[0]), *command[1:]], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode != 0:
        raise ToolError(f"'{' '.join(command)}' failed:\n{done.stdout.strip()}")
    return done.stdout
