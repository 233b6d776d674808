# SPDX-License-Identifier: Apache-2.0
"""bulkhead-cpu by itself: this end of the primary channel is the test's, as control's would be."""
import array
import json
import os
import re
import select
import socket
import subprocess
import time


class CommandFailed(Exception):
    """The answer was an error."""


class CpuProcess:
    """A CPU process with one serial port, whose output is collected."""

    def __init__(self, program, *options, stderr=None):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = ours
        self.events = []
        self.output = ""
        self._answers = {}
        self._next = 0
        self._serial = None
        self.process = subprocess.Popen([program, str(theirs.fileno()), *options],
                                        pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=stderr)
        theirs.close()

    # --- messages ---

    def send(self, name, arguments=None, fds=()):
        """Sends a request; its number."""
        self._next += 1
        text = json.dumps({"execute": name, "arguments": arguments or {}, "id": self._next})
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.channel.sendmsg([text.encode()], control)
        return self._next

    def _turn(self, timeout_s):
        """Takes what comes within the time on the channel or the serial port."""
        waiting = [s for s in (self.channel, self._serial) if s is not None]
        ready, _, _ = select.select(waiting, [], [], max(timeout_s, 0))
        if self._serial in ready:
            data = self._serial.recv(65536)
            self.output += data.decode(errors="replace").replace("\r", "")
            if not data:
                self._serial = None
        if self.channel in ready:
            data = self.channel.recv(256 * 1024)
            if not data:
                raise EOFError("the CPU process closed its channel")
            message = json.loads(data)
            if "event" in message:
                self.events.append(message)
            else:
                self._answers[message["id"]] = message
        return bool(ready)

    def _until(self, done, what, timeout_s):
        end = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > end:
                raise AssertionError(f"no {what} within {timeout_s} s; output so far:\n{self.output}"
                                     f"\nevents: {self.events}")
            self._turn(end - time.monotonic())

    def answer(self, number, timeout_s=20):
        """The answer to an earlier request."""
        self._until(lambda: number in self._answers, "answer", timeout_s)
        message = self._answers.pop(number)
        if "error" in message:
            raise CommandFailed(message["error"]["desc"])
        return message["return"]

    def ask(self, name, arguments=None, fds=(), timeout_s=20):
        return self.answer(self.send(name, arguments, fds), timeout_s)

    def wait_event(self, name, timeout_s=30):
        """The first event of that name; it and what came before it are forgotten."""
        def found():
            return any(e["event"] == name for e in self.events)
        self._until(found, f"event {name}", timeout_s)
        at = next(i for i, e in enumerate(self.events) if e["event"] == name)
        event = self.events[at]
        del self.events[:at + 1]
        return event.get("data", {})

    def wait_output(self, pattern, timeout_s=30):
        self._until(lambda: re.search(pattern, self.output, re.MULTILINE), f"'{pattern}'", timeout_s)
        return re.search(pattern, self.output, re.MULTILINE)

    def listen(self, seconds):
        """Collects for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._turn(end - time.monotonic())

    # --- the machine ---

    def init(self, kernel, append="", memory=64 << 20, cpus=1, change=None):
        """machine-init, with members changed, and isa-debug-exit where the guests expect it."""
        fds = [os.open(kernel, os.O_RDONLY)]
        self._serial, theirs = socket.socketpair()
        fds.append(theirs.fileno())
        arguments = {"name": "test", "memory": memory, "smp": {"cpus": cpus}, "kernel": 0,
                     "kernel-name": os.path.basename(kernel), "append": append,
                     "serial": [{"kind": "stream", "in": 1, "out": 1, "mux": False, "name": "test"}]}
        arguments.update(change or {})
        try:
            self.ask("machine-init", arguments, fds)
        finally:
            os.close(fds[0])
            theirs.close()
        self.ask("device_add", {"driver": "isa-debug-exit", "id": "exit", "iobase": 0xf4,
                                "iosize": 4})

    def finish(self, timeout_s=60):
        """Waits for the guest's own end; the status it gave, or None for power-off."""
        data = self.wait_event("SHUTDOWN", timeout_s)
        self.listen(0.05)
        code = data.get("exit-code")
        return None if code is None else code >> 1

    def quit(self, timeout_s=10):
        self.ask("quit", timeout_s=timeout_s)
        return self.process.wait(timeout_s)

    def kill(self):
        self.channel.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
