# SPDX-License-Identifier: Apache-2.0
"""A QMP client: one request at a time, events kept in the order in which they came."""
import json
import socket
import time


class QmpError(Exception):
    """The other side answered with an error; .kind is its class."""

    def __init__(self, error):
        super().__init__(f"{error.get('class')}: {error.get('desc')}")
        self.kind = error.get("class")
        self.desc = error.get("desc", "")


class Qmp:
    def __init__(self, path, timeout_s=30):
        self.events = []
        self._buffer = b""
        self._socket = _connect(path, timeout_s)
        self.greeting = self._message(timeout_s)
        if "QMP" not in self.greeting:
            raise AssertionError(f"no QMP greeting: {self.greeting}")
        self.execute("qmp_capabilities")

    def execute(self, command, timeout_s=30, **arguments):
        """Returns what "return" holds; raises QmpError. '_' in argument names stands for '-'."""
        request = {"execute": command}
        if arguments:
            request["arguments"] = {k.replace("_", "-"): v for k, v in arguments.items()}
        self.send(json.dumps(request).encode() + b"\n")
        return self.reply(timeout_s)

    def send(self, data):
        """Raw bytes, for tests of bad input."""
        self._socket.sendall(data)

    def reply(self, timeout_s=30):
        end = time.monotonic() + timeout_s
        while True:
            message = self._message(end - time.monotonic())
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise QmpError(message["error"])
            else:
                return message["return"]

    def wait_event(self, fits, timeout_s=60):
        """The first event so far or to come whose name is, or for which it holds, fits."""
        test = fits if callable(fits) else lambda event: event["event"] == fits
        end = time.monotonic() + timeout_s
        looked_at = 0
        while True:
            for event in self.events[looked_at:]:
                if test(event):
                    return event
            looked_at = len(self.events)
            message = self._message(end - time.monotonic())
            if "event" in message:
                self.events.append(message)

    def close(self):
        self._socket.close()

    def _message(self, timeout_s):
        end = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("no QMP message in time; events so far: "
                                   + ", ".join(e["event"] for e in self.events))
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65536)
            except socket.timeout:
                continue
            if not data:
                raise EOFError("the monitor closed the connection")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)


def _connect(path, timeout_s):
    end = time.monotonic() + timeout_s
    while True:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            client.connect(str(path))
            return client
        except (FileNotFoundError, ConnectionRefusedError):
            client.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
