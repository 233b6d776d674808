# SPDX-License-Identifier: Apache-2.0
"""Device processes started by hand."""
import os
import socket
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from device_process import Primary, Process  # noqa: E402


@pytest.fixture
def disk_proc(request):
    return os.path.join(request.config.getoption("--build"), "process", "device", "disk-proc")


@pytest.fixture
def start(disk_proc, request):
    """start(*args) gives a running Process; all are ended with the test."""
    running = []

    def run(*args, **options):
        process = Process(disk_proc, *[str(a) for a in args], **options)
        running.append(process)
        return process

    yield run
    for process in running:
        if process.text is None:
            process.child.kill()
            process.wait()
        if process.text:
            request.node.add_report_section("call", f"process {process.pid}", process.text)


@pytest.fixture
def launched(start):
    """launched(*args) gives (process, primary) on an inherited descriptor."""
    def run(*args, strays=(), **options):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        process = start(theirs.fileno(), *args, pass_fds=[theirs.fileno(), *strays],
                        **options)
        theirs.close()
        primary = Primary(ours)
        message, _fds = primary.receive() or ({}, [])
        if message.get("event") != "READY":
            process.wait()
        assert message.get("event") == "READY", process.text
        return process, primary

    return run


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk.raw"
    with open(path, "wb") as f:
        f.truncate(4 << 20)
    return path
