# SPDX-License-Identifier: Apache-2.0
"""Guest-visible throughput through an LSI 53C895A: ours in a device process and in the CPU process,
stock QEMU's in its process and as its x-remote pair, in one run on one machine.

Runs where there is hardware KVM, or in the lab (tools/bench sees to that). Prints a JSON line for
each figure.
"""
import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tools"))
from labkit import guest, host, kernel  # noqa: E402

MEMORY_MIB = 512
LIMIT_S = 150


def guest_files(folder):
    """The kernel and an initramfs with the load generator in it."""
    load = os.path.join(folder, "diskload")
    host.run("gcc", "-O2", "-static", "-pthread", "-o", load, os.path.join(TOP, "bench", "diskload.c"))
    initrd = os.path.join(folder, "bench.cpio")
    k = kernel.get()
    guest.build(initrd, k, files=[("bin/diskload", load)])
    return k.bzimage, initrd


class Setup:
    """One way to run the same guest on the same disk."""

    def __init__(self, name, images, build, seconds):
        self.name = name
        self.disk, self.kernel, self.initrd = images
        self.build = build
        self.append = f"console=ttyS0 quiet mitigations=off bulkhead.run=diskbench " \
                      f"bulkhead.seconds={seconds}"

    def bulkhead(self):
        program = find_program(self.build, "bulkhead")
        process = ["-process", "id=disk0"] if self.name == "bulkhead-remote" else []
        place = ",rid=disk0" if process else ""
        return [[program, "-m", str(MEMORY_MIB), "-smp", "1", "-nographic", "-no-reboot",
                 "-kernel", self.kernel, "-initrd", self.initrd, "-append", self.append,
                 "-blockdev", f"driver=file,node-name=file0,filename={self.disk}",
                 "-blockdev", "driver=raw,node-name=drive0,file=file0", *process,
                 "-device", f"lsi53c895a,id=lsi0{place}",
                 "-device", "scsi-hd,drive=drive0,bus=lsi0.0"]], ()

    def _qemu(self):
        return [host.program("qemu-system-x86_64"), "-display", "none", "-monitor", "none"]

    def _front(self):
        return [*self._qemu(), "-accel", "kvm", "-cpu", "host", "-machine", "pc", "-smp", "1",
                "-m", str(MEMORY_MIB), "-serial", "stdio", "-net", "none", "-vga", "none",
                "-no-reboot", "-kernel", self.kernel, "-initrd", self.initrd,
                "-append", self.append]

    def _disk(self):
        return ["-drive", f"if=none,id=d0,file={self.disk},format=raw",
                "-device", "lsi53c895a,id=lsi0",
                "-device", "scsi-hd,drive=d0,bus=lsi0.0,scsi-id=0"]

    def qemu_local(self):
        return [[*self._front(), *self._disk()]], ()

    def qemu_remote(self):
        near, far = socket.socketpair()
        remote = [*self._qemu(), "-machine", "x-remote", "-serial", "none", *self._disk(),
                  "-object", f"x-remote-object,id=robj1,devid=lsi0,fd={far.fileno()}"]
        front = [*self._front(),
                 "-object", f"memory-backend-memfd,id=mem0,size={MEMORY_MIB}M,share=on",
                 "-machine", "memory-backend=mem0",
                 "-device", f"x-pci-proxy-dev,id=lsi0,fd={near.fileno()}"]
        return [front, remote], (near, far)

    def commands(self):
        """[command line, …] with the one that shows the guest's console first, and the sockets
        that each of them inherits, in the same order."""
        if self.name.startswith("bulkhead"):
            return self.bulkhead()
        return self.qemu_local() if self.name == "qemu-local" else self.qemu_remote()

    def run(self):
        """{load name: (requests, bytes, seconds)}"""
        commands, sockets = self.commands()
        started = []
        try:
            for i, command in reversed(list(enumerate(commands))):
                keep = [sockets[i].fileno()] if sockets else []
                started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=keep,
                                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
            for each in sockets:
                each.close()
            out, _ = started[-1].communicate(timeout=LIMIT_S)
        finally:
            for process in started:
                process.kill()
                process.wait()
        loads = {}
        for line in out.decode(errors="replace").splitlines():
            words = line.strip().partition("@@ load ")[2].split()
            if len(words) == 4:
                loads[words[0]] = (int(words[1]), int(words[2]), float(words[3]))
        if not loads or b"@@ done 0" not in out:
            raise RuntimeError(f"{self.name}: the guest did not finish:\n"
                               + out.decode(errors="replace")[-2000:])
        return loads


def run_twice_at_most(setup):
    """Emulated machines die at times; a second run is said so."""
    try:
        return setup.run()
    except RuntimeError as error:
        print(f"bench: {error}\nbench: {setup.name} once more", file=sys.stderr)
        return setup.run()


def find_program(build, name):
    for folder, _, names in os.walk(os.path.join(build, "process")):
        if name in names and os.access(os.path.join(folder, name), os.X_OK):
            return os.path.join(folder, name)
    raise RuntimeError(f"no program '{name}' in '{build}'")


def figures(setup, loads):
    for load, (requests, moved, seconds) in loads.items():
        if "seq" in load:
            yield f"lsi.{setup}.{load}", moved / seconds / 1e6, "MB/s"
        else:
            yield f"lsi.{setup}.{load}", requests / seconds, "IOPS"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--setup", action="append",
                        help="bulkhead-remote, bulkhead-local, qemu-local, qemu-remote")
    args = parser.parse_args()
    setups = args.setup or ["bulkhead-remote", "qemu-remote", "bulkhead-local", "qemu-local"]
    bad = 0
    with tempfile.TemporaryDirectory(prefix="bulkhead-bench-") as folder:
        disk = os.path.join(folder, "disk.raw")
        with open(disk, "wb") as f:
            f.truncate(64 << 20)
        images = (disk, *guest_files(folder))
        for name in setups:
            try:
                loads = run_twice_at_most(Setup(name, images, args.build, args.seconds))
                for figure, value, unit in figures(name, loads):
                    print(json.dumps({"name": figure, "value": round(value, 1), "unit": unit}),
                          flush=True)
            except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                bad += 1
                print(f"bench: {name}: {error}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
