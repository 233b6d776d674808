# SPDX-License-Identifier: Apache-2.0
"""Running bulkhead with a stand-in for the CPU process, and looking at what it leaves behind."""
import json
import os
import subprocess
import time

from labkit import procs
from qmp import Qmp

FAKE_CPU = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_cpu.py")


class Control:
    """One run of bulkhead. wishes: what fake_cpu.py shall do."""

    def __init__(self, programs, folder, *args, wishes="", fake=True, kernel=True):
        self.folder = folder
        self.log = folder / "fake-cpu.log"
        command = [programs.path("bulkhead")]
        if kernel:
            (folder / "kernel").write_bytes(b"no kernel")
            command += ["-kernel", str(folder / "kernel")]
        if fake:
            command += ["-cpu-binary", FAKE_CPU, "-sandbox", "off",
                        "-append", f"log={self.log} {wishes}"]
        self.command = command + [str(a) for a in args]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        cwd=self.folder)
        return self

    def start_with_monitor(self):
        path = self.folder / "qmp"
        self.command += ["-qmp", f"unix:{path},server=on,wait=off"]
        self.start()
        return Qmp(path, 10)

    def finish(self, timeout_s=20):
        """(exit status, lines on standard error); fails if it leaves a process behind."""
        below = set()
        end = time.monotonic() + timeout_s
        while self.process.poll() is None:
            below.update(procs.descendants(self.process.pid))
            if time.monotonic() > end:
                self.stop()
                raise AssertionError(f"still running after {timeout_s} s")
            time.sleep(0.005)
        out, err = self.process.communicate()
        self.stdout = out
        left = [f"{name} ({pid})" for pid, name in below if alive(pid)]
        assert not left, f"left behind: {left}"
        return self.process.returncode, err.splitlines()

    def run(self, timeout_s=20):
        return self.start().finish(timeout_s)

    def stop(self):
        if self.process and self.process.poll() is None:
            below = [pid for pid, _ in procs.descendants(self.process.pid)]
            self.process.kill()
            self.process.wait()
            for pid in below:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass

    def asked(self, command=None):
        """What the stand-in was asked, in order."""
        if not self.log.exists():
            return []
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if command in (None, line["command"])]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
