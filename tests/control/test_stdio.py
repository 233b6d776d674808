# SPDX-License-Identifier: Apache-2.0
"""Terminals, pipes and sockets that bulkhead itself is connected to."""
import json
import os
import pty
import signal
import subprocess
import termios
import time

import pytest

from qmp import Qmp


def commands(*names):
    return "".join(json.dumps({"execute": name}) + "\n" for name in names)


def test_qmp_on_standard_input_and_output(new_control):
    one = new_control("-qmp", "stdio")
    done = subprocess.run(one.command, input=commands("qmp_capabilities", "query-status", "quit"),
                          capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0 and done.stderr == ""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert "QMP" in lines[0]
    answers = [line["return"] for line in lines if "return" in line]
    assert answers[0] == {} and answers[1]["running"] and answers[2] == {}
    assert [line["event"] for line in lines if "event" in line] == ["SHUTDOWN"]


def test_the_start_waits_for_a_client_where_that_is_asked_for(new_control):
    one = new_control()
    path = one.folder / "qmp"
    one.command += ["-qmp", f"unix:{path},server"]
    one.start()
    time.sleep(0.5)
    assert path.exists() and not one.asked()
    qmp = Qmp(path, 10)
    assert qmp.execute("query-status")["running"]
    qmp.execute("quit")
    status, lines = one.finish()
    assert status == 0 and len(lines) == 1 and "waiting for a client" in lines[0]


def test_a_signal_ends_the_waiting(new_control):
    one = new_control()
    one.command += ["-qmp", f"unix:{one.folder}/qmp,server"]
    one.start()
    time.sleep(0.3)
    one.process.terminate()
    assert one.finish()[0] == 0
    assert not (one.folder / "qmp").exists()


@pytest.mark.parametrize("end", ["guest", "signal", "mistake"])
def test_the_terminal_is_as_before(new_control, end):
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    args = ["-nographic"] + (["-device", "x"] if end == "mistake" else [])
    one = new_control(*args, wishes={"guest": "after=SHUTDOWN", "signal": "",
                                     "mistake": "refuse=device_add"}[end])
    process = subprocess.Popen(one.command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE)
    one.process = process
    if end == "signal":
        limit = time.monotonic() + 10
        while not one.asked("cont") and time.monotonic() < limit:
            time.sleep(0.02)
        assert not termios.tcgetattr(theirs)[3] & (termios.ICANON | termios.ECHO)
        process.send_signal(signal.SIGTERM)
    status, _ = one.finish()
    assert status == (1 if end == "mistake" else 0)
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_a_pty_is_named(new_control):
    one = new_control("-serial", "pty")
    qmp = one.start_with_monitor()
    (chardev,) = qmp.execute("query-chardev")
    assert chardev["label"] == "serial0" and "/dev/pts/" in chardev["filename"]
    qmp.execute("quit")
    status, lines = one.finish()
    assert status == 0 and len(lines) == 1 and "/dev/pts/" in lines[0]


def test_a_serial_socket_is_removed_at_the_end(new_control, tmp_path):
    path = tmp_path / "serial"
    one = new_control("-serial", f"unix:{path},server=on,wait=off")
    qmp = one.start_with_monitor()
    qmp.execute("query-status")
    assert path.exists()
    qmp.execute("quit")
    assert one.finish()[0] == 0
    assert not path.exists()
