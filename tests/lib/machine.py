# SPDX-License-Identifier: Apache-2.0
"""Virtual machines for tests: a command line, the console, the monitor, and an end for everything."""
import os
import re
import subprocess
import threading
import time

from labkit import guest, kernel, procs
from qmp import Qmp

# Every time limit is multiplied by this, for machines that are slow or busy.
PATIENCE = float(os.environ.get("BULKHEAD_PATIENCE", "1"))


class Programs:
    """The programs in a build folder."""

    def __init__(self, build):
        self.build = os.path.abspath(build)

    def path(self, name):
        for folder, _, names in os.walk(os.path.join(self.build, "process")):
            if name in names and os.access(os.path.join(folder, name), os.X_OK):
                return os.path.join(folder, name)
        raise AssertionError(f"no program '{name}' in '{self.build}'; was it built?")


class Stream:
    """Collects what a process writes; tests wait for text in it."""

    def __init__(self, pipe):
        self._data = b""
        self._more = threading.Condition()
        self._open = True
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._thread.start()

    def _read(self, pipe):
        while data := os.read(pipe.fileno(), 65536):
            with self._more:
                self._data += data
                self._more.notify_all()
        with self._more:
            self._open = False
            self._more.notify_all()

    @property
    def text(self):
        return self._data.decode(errors="replace").replace("\r", "")

    def wait(self, pattern, timeout_s):
        """The match of the first line in which pattern is found."""
        timeout_s *= PATIENCE
        end = time.monotonic() + timeout_s
        with self._more:
            while True:
                found = re.search(pattern, self.text, re.MULTILINE)
                if found:
                    return found
                if not self._open:
                    raise AssertionError(f"'{pattern}' did not appear before the end of output")
                if not self._more.wait(max(end - time.monotonic(), 0)) \
                        and time.monotonic() > end:
                    raise AssertionError(f"'{pattern}' did not appear in {timeout_s} s")

    def drain(self):
        self._thread.join(5)


class Machine:
    """One machine under test. Options are collected first; start() runs it.

    vmm "qemu" runs stock QEMU with the same machine, processes left out."""

    def __init__(self, programs, folder, vmm="bulkhead", memory="512", cpus=2):
        self.programs = programs
        self.vmm = vmm
        self.folder = folder
        self.args = ["-m", str(memory), "-smp", str(cpus)]
        self.process = None
        self.console = None
        self.messages = None
        self._qmp_path = None
        self._node = 0
        os.makedirs(folder)

    # --- what it is made of ---

    def add(self, *args):
        self.args += [str(arg) for arg in args]
        return self

    def linux(self, script, append="", image=None, **variables):
        """Boots the Linux guest (tests/lab/guest) and has it run script. image: another form of
        the kernel than bzImage."""
        k = kernel.get()
        words = ["console=ttyS0", "quiet", "mitigations=off", append, f"bulkhead.run={script}"]
        words += [f"bulkhead.{name}={value}" for name, value in variables.items()]
        return self.add("-kernel", image or k.bzimage, "-initrd", guest.get(k),
                        "-append", " ".join(filter(None, words)))

    def device_process(self, name):
        """A device process; "" stands for none, so that a test can take both from one list."""
        if self.vmm == "bulkhead" and name:
            self.add("-process", f"id={name}")
        return self

    def drive(self, path, fmt="qcow2", read_only=False):
        """Gives the drive's name."""
        node, self._node = f"drive{self._node}", self._node + 1
        only = ",read-only=on" if read_only else ""
        self.add("-blockdev", f"driver=file,node-name={node}-file,filename={path}{only}",
                 "-blockdev", f"driver={fmt},node-name={node},file={node}-file{only}")
        return node

    def lsi(self, name="lsi0", process=""):
        place = f",rid={process}" if process and self.vmm == "bulkhead" else ""
        return self.add("-device", f"lsi53c895a,id={name}{place}")

    def scsi_disk(self, drive, bus="lsi0.0", kind="scsi-hd", **properties):
        more = "".join(f",{k.replace('_', '-')}={v}" for k, v in properties.items())
        return self.add("-device", f"{kind},drive={drive},bus={bus}{more}")

    def monitor(self):
        self._qmp_path = os.path.join(self.folder, "qmp")
        return self.add("-qmp", f"unix:{self._qmp_path},server=on,wait=off")

    # --- its life ---

    def start(self, no_reboot=True):
        command = [*self._program(), *self.args, "-nographic"]
        command += ["-no-reboot"] if no_reboot else []
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, cwd=self.folder,
                                        start_new_session=True)
        self.console = Stream(self.process.stdout)
        self.messages = Stream(self.process.stderr)
        return self

    def _program(self):
        if self.vmm == "qemu":
            return ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "max", "-nodefaults", "-serial",
                    "mon:stdio"]
        return [self.programs.path("bulkhead")]

    def qmp(self):
        return Qmp(self._qmp_path)

    def expect(self, pattern, timeout_s=120):
        return self.console.wait(pattern, timeout_s)

    def wait(self, timeout_s=120):
        """Its exit status, once it has ended by itself."""
        try:
            status = self.process.wait(timeout_s * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the machine still runs after {timeout_s * PATIENCE} s") from None
        self.console.drain()
        self.messages.drain()
        return status

    def finish(self, timeout_s=120):
        """The guest's script came to its end without an error and powered off."""
        status = self.wait(timeout_s)
        done = self.marks().get("done")
        assert (status, done) == (0, ["0"]), \
            f"exit status {status}, the guest's script {done}: {self.messages.text[-2000:]}"

    def marks(self):
        """{word: [text, …]} of the guest's lines "@@ word text"."""
        seen = {}
        for line in self.console.text.splitlines():
            found = re.match(r".*@@ (\S+) ?(.*)$", line)
            if found:
                seen.setdefault(found.group(1), []).append(found.group(2).strip())
        return seen

    def mark(self, word):
        """The text of the guest's only line with this word."""
        texts = self.marks().get(word, [])
        assert len(texts) == 1, f"the guest said '@@ {word}' {len(texts)} times"
        return texts[0]

    def child(self, role):
        """The pids of this machine's processes whose program has that name, by /proc."""
        return [pid for pid, name in procs.descendants(self.process.pid) if name == role]

    def kill(self):
        if self.process and self.process.poll() is None:
            children = [pid for pid, _ in procs.descendants(self.process.pid)]
            self.process.kill()
            self.process.wait()
            for pid in children:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass

    def transcript(self):
        if self.process:
            self.console.drain()
            self.messages.drain()
            yield "console", self.console.text[-6000:]
            yield "messages", self.messages.text[-4000:]
            yield "command line", " ".join(self.args)
