# SPDX-License-Identifier: Apache-2.0
"""A device process as a child of the test, and the other end of its primary channel."""
import array
import json
import os
import signal
import socket
import subprocess
import time

TIMEOUT_S = 20


class Refused(Exception):
    """The process answered a command with an error; str() is its sentence."""


class Primary:
    """Control's end of a primary channel: a SOCK_SEQPACKET socket, JSON, descriptors."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(TIMEOUT_S)
        self.next_id = 1
        self.events = []

    def send(self, message, fds=()):
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        socket.send_fds(self.sock, [data], list(fds))

    def receive(self):
        """(message, descriptors); None when the other end has closed."""
        data, ancillary, _flags, _addr = self.sock.recvmsg(1 << 18, 1 << 10)
        fds = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(content[:len(content) - len(content) % fds.itemsize])
        return (json.loads(data), list(fds)) if data else None

    def call(self, name, fds=(), **arguments):
        """The value returned, and the descriptors that came with it."""
        end = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return self.call_once(name, fds, arguments)
            except Refused as refused:
                # The kernel counts what all of a user's processes have on its way: not our doing.
                if "descriptors on their way" not in str(refused) or time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def call_once(self, name, fds, arguments):
        self.next_id += 1
        self.send({"execute": name, "id": self.next_id,
                   "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}, fds)
        while True:
            got = self.receive()
            assert got, f"the process closed the channel instead of answering {name}"
            message, came = got
            if "event" in message:
                self.events.append(message["event"])
                continue
            assert message["id"] == self.next_id
            if "error" in message:
                raise Refused(message["error"]["desc"])
            return message["return"], came

    def ask(self, name, **arguments):
        return self.call(name, **arguments)[0]

    def closed(self):
        """Waits for the other end to close."""
        try:
            while self.receive():
                pass
        except ConnectionResetError:
            pass
        return True


class Process:
    def __init__(self, program, *args, pass_fds=(), user=None):
        self.child = subprocess.Popen([program, *args], pass_fds=pass_fds, user=user, group=user,
                                      extra_groups=[] if user else None,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True)
        self.text = None

    @property
    def pid(self):
        return self.child.pid

    def wait(self):
        """Exit status, negative for a signal; .text is what it said."""
        out, err = self.child.communicate(timeout=TIMEOUT_S)
        self.text = out + err
        return self.child.returncode

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        return self.wait()

    def status(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def wait_for(condition, what):
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.005)
