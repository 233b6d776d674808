# SPDX-License-Identifier: Apache-2.0
"""The lab: an emulated machine with real KVM, on which a command runs as if on this one.

QEMU's TCG emulates a CPU with nested virtualisation; a stock Debian kernel runs on it and sees the
file system of this machine, read-only below a tmpfs. Nothing the command does changes this machine
except in the shares it is given.
"""
import dataclasses
import os
import re
import selectors
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from . import cache_dir, cpio, host, kernel

# Exit status that no test of ours uses: the lab, not the command, failed. timeout(1) owns 124.
STATUS_DIED = 125
STATUS_TIMEOUT = 124

MODULES = ("virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay", "kvm_amd", "tun",
           "loop", "vhost_net")
PORTS = ("out", "err", "report")
BOOT_LIMIT_S = 120      # from start to "started"; 4 s when the machine is idle
BEAT_LIMIT_S = 90       # the machine says something every 5 s


@dataclasses.dataclass
class Options:
    kernel: str = kernel.DEFAULT
    cpus: int = 2
    memory_mib: int = 2048
    timeout_s: float = 600
    out: tuple = ()             # host folders the command may write to
    append: str = ""            # more for the kernel command line
    qemu_args: tuple = ()
    console: bool = False       # show the kernel's console


class Died(Exception):
    def __init__(self, why, started):
        super().__init__(why)
        self.started = started


def _initrd(k):
    """The constant part of the initramfs, made once for each kernel and version of the tools."""
    init = os.path.join(os.path.dirname(__file__), "lab-init")
    path = os.path.join(cache_dir(), f"lab-{k.release}.cpio")
    newest = max(os.path.getmtime(p) for p in (init, __file__, cpio.__file__, k.bzimage))
    with kernel.cache_lock():
        if not os.path.exists(path) or os.path.getmtime(path) <= newest:
            archive = cpio.Archive()
            archive.file("bin/busybox", host.program("busybox"))
            archive.link("bin/sh", "busybox")
            archive.file("init", init, 0o755)
            for name in k.load_order(MODULES):
                archive.data(f"modules/{name}.ko", k.module_data(name))
            for folder in ("proc", "sys", "dev", "job"):
                archive.directory(folder)
            archive.node("dev/console", 0o020000, 5, 1)
            archive.write(path)
    return path


def _job(k, command, env, options):
    """The variable part: what to run, with which environment, where."""
    lines = ["cd " + shlex.quote(os.getcwd()) + " || exit 126"]
    for name, value in sorted(env.items()):
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and name not in ("PWD", "OLDPWD", "_"):
            lines.append(f"export {name}={shlex.quote(value)}")
    lines.append(f"export BULKHEAD_LAB={k.release}")
    lines.append("exec " + " ".join(shlex.quote(word) for word in command))
    shares = "\n".join(f"out{i} {path}" for i, path in enumerate(options.out))
    config = (f"modules='{' '.join(k.load_order(MODULES))}'\n"
              f"module_dir={shlex.quote(k.modules)}\n"
              f"shares={shlex.quote(shares)}\n")
    archive = cpio.Archive()
    archive.data("job/config", config)
    archive.data("job/run", "\n".join(lines) + "\n", 0o755)
    return archive.bytes()


def _qemu_command(k, options, initrd, console_log, ports):
    # Above 6.1, the multi-threaded emulator of older QEMUs has crashed the machine at times.
    thread = "multi" if k.release.startswith("6.1.") else "single"
    command = [
        host.program(os.environ.get("LAB_QEMU", "qemu-system-x86_64")),
        "-accel", f"tcg,thread={thread}", "-cpu", "max", "-smp", str(options.cpus),
        "-m", str(options.memory_mib), "-nodefaults", "-net", "none", "-display", "none",
        "-no-reboot", "-serial", f"file:{console_log}",
        "-kernel", k.vmlinux(), "-initrd", initrd,
        "-append", f"console=ttyS0 panic=-1 quiet mitigations=off {options.append}".strip(),
        "-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
        "-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
        "-device", "virtio-serial-pci,id=ser0"]
    for i, path in enumerate(options.out):
        command += ["-fsdev", f"local,id=out{i},path={path.replace(',', ',,')},"
                              "security_model=none,multidevs=remap",
                    "-device", f"virtio-9p-pci,fsdev=out{i},mount_tag=out{i}"]
    for name, port in zip(PORTS, ports):
        command += ["-chardev", f"socket,id={name},fd={port.fileno()}",
                    "-device", f"virtserialport,bus=ser0.0,name=lab.{name},chardev={name}"]
    return command + list(options.qemu_args)


class _Session:
    """One run of the machine: forwards its output, follows its reports."""

    def __init__(self, process, ports, options):
        self.process = process
        self.options = options
        self.started = False
        self.status = None
        self.broken = None
        self._reports = b""
        self._selector = selectors.DefaultSelector()
        sinks = (sys.stdout.fileno(), sys.stderr.fileno(), None)
        for port, sink in zip(ports, sinks):
            self._selector.register(port, selectors.EVENT_READ, sink)

    def follow(self):
        """Returns the command's exit status, STATUS_TIMEOUT, or raises Died."""
        begin = last_sign = time.monotonic()
        while self._selector.get_map():
            for key, _ in self._selector.select(timeout=1):
                data = key.fileobj.recv(65536)
                last_sign = time.monotonic()
                if not data:
                    self._selector.unregister(key.fileobj)
                elif key.data is None:
                    self._report(data)
                else:
                    _write_all(key.data, data)
            now = time.monotonic()
            if self.broken:
                raise Died(self.broken, False)
            if self.status is not None and self.process.poll() is not None:
                break
            if self.status is None and now - begin > self.options.timeout_s:
                return STATUS_TIMEOUT
            if not self.started and now - begin > BOOT_LIMIT_S:
                raise Died(f"it did not start within {BOOT_LIMIT_S} s", False)
            if now - last_sign > BEAT_LIMIT_S:
                raise Died(f"no sign of life for {BEAT_LIMIT_S} s", self.started)
        if self.status is None:
            raise Died("it ended before the command did", self.started)
        return self.status

    def _report(self, data):
        *lines, self._reports = (self._reports + data).split(b"\n")
        for line in lines:
            word, _, rest = line.decode(errors="replace").partition(" ")
            if word == "started":
                self.started = True
            elif word == "status":
                self.status = int(rest)
            elif word == "broken":
                self.broken = rest


def _write_all(fd, data):
    while data:
        data = data[os.write(fd, data):]


def _attempt(k, command, env, options):
    work = tempfile.mkdtemp(prefix="bulkhead-lab-")
    console_log = os.path.join(work, "console")
    initrd = os.path.join(work, "initrd")
    pairs = [socket.socketpair() for _ in PORTS]
    process = None
    try:
        with open(initrd, "wb") as f:
            with open(_initrd(k), "rb") as base:
                shutil.copyfileobj(base, f)
            f.write(_job(k, command, env, options))
        theirs = [pair[1] for pair in pairs]
        process = subprocess.Popen(
            _qemu_command(k, options, initrd, console_log, theirs),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=None if options.console else subprocess.PIPE,
            pass_fds=[port.fileno() for port in theirs])
        for port in theirs:
            port.close()
        try:
            return _Session(process, [pair[0] for pair in pairs], options).follow()
        except Died as died:
            process.kill()
            said = process.stderr.read().decode(errors="replace") if process.stderr else ""
            with open(console_log, encoding="ascii", errors="replace") as f:
                tail = f.read().splitlines()[-20:]
            detail = "\n".join([*said.splitlines()[-5:], *tail])
            raise Died(f"{died}\n{detail}".rstrip(), died.started) from None
    finally:
        if process:
            process.kill()
            process.wait()
        if options.console and os.path.exists(console_log):
            with open(console_log, encoding="ascii", errors="replace") as f:
                sys.stderr.write(f.read())
        for pair in pairs:
            for end in pair:
                end.close()
        shutil.rmtree(work, ignore_errors=True)


def run(command, options=None, env=None):
    """Runs command in the lab; its output goes to ours. Returns its exit status, or
    STATUS_TIMEOUT, or STATUS_DIED when the lab itself failed; the latter two say so on stderr.
    A lab that failed before the command began is started once more."""
    options = options or Options()
    env = dict(os.environ) if env is None else env
    k = kernel.get(options.kernel)
    sys.stdout.flush()
    sys.stderr.flush()
    for last in (False, True):
        try:
            status = _attempt(k, command, env, options)
        except Died as died:
            print(f"lab: the lab died, not the command: {died}", file=sys.stderr)
            if died.started or last:
                return STATUS_DIED
            print("lab: the command had not begun; trying once more", file=sys.stderr)
            continue
        if status == STATUS_TIMEOUT:
            print(f"lab: stopped after its time limit of {options.timeout_s:g} s", file=sys.stderr)
        return status
    return STATUS_DIED
