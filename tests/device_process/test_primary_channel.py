# SPDX-License-Identifier: Apache-2.0
"""What control can ask of a device process, and what bad messages do."""
import json
import os
import signal
import socket

import pytest

from device_process import Primary, Refused, wait_for

LSI = {"driver": "lsi53c895a", "id": "lsi0"}


def add_disk(primary, image, name="d0"):
    fd = os.open(image, os.O_RDWR)
    primary.call("blockdev-add", [fd], driver="file", node_name=name, filename=str(image), fd=0)
    os.close(fd)


def refusal(primary, name, fds=(), **arguments):
    with pytest.raises(Refused) as caught:
        primary.call(name, fds, **arguments)
    return str(caught.value)


def test_a_controller_with_a_disk_is_made_from_descriptions(launched, image):
    process, primary = launched()
    add_disk(primary, image)
    primary.ask("device_add", **LSI)
    primary.ask("device_add", driver="scsi-hd", id="sd0", drive="d0", bus="lsi0.0")

    nodes = primary.ask("query-named-block-nodes")
    assert [n["node-name"] for n in nodes] == ["d0"]
    blocks = primary.ask("query-block")
    assert [(b["qdev"], b["inserted"]["node-name"]) for b in blocks] == [("sd0", "d0")]
    names = {o["name"]: o["type"] for o in primary.ask("qom-list", path="/machine/peripheral")}
    assert names["lsi0"] == "child<lsi53c895a>"
    assert primary.ask("qom-get", path="sd0", property="drive") == "d0"
    assert "in use" in refusal(primary, "blockdev-del", node_name="d0")

    primary.ask("device_del", id="lsi0")
    primary.ask("blockdev-del", node_name="d0")
    assert primary.ask("query-named-block-nodes") == []
    assert primary.ask("quit") == {}
    assert process.wait() == 0
    assert process.text == ""


def test_a_channel_is_made_or_taken(launched):
    _process, primary = launched()
    primary.ask("device_add", **LSI)
    answer, fds = primary.call("channel-open", device="lsi0")
    assert answer == {"fd": 0} and len(fds) == 1

    ours, theirs = socket.socketpair()
    assert refusal(primary, "channel-open", [theirs.fileno()], device="lsi0")   # one at a time
    os.close(fds[0])

    def taken():
        try:
            primary.call("channel-open", [theirs.fileno()], device="lsi0")
            return True
        except Refused:
            return False
    wait_for(taken, "the first client's place")
    ours.close()


def test_stop_cont_save_and_load(launched, image):
    def populated():
        process, primary = launched("-S")
        add_disk(primary, image)
        primary.ask("device_add", **LSI)
        primary.ask("device_add", driver="scsi-hd", id="sd0", drive="d0", bus="lsi0.0")
        return process, primary

    process, primary = populated()
    assert primary.ask("query-status")["status"] == "paused"
    primary.ask("cont")
    assert primary.ask("query-status")["status"] == "running"
    assert "stopped" in refusal(primary, "device-save")
    primary.ask("stop")
    assert primary.events[-2:] == ["RESUME", "STOP"]
    answer, fds = primary.call("device-save")
    assert answer == {"fd": 0}
    state = os.pread(fds[0], 1 << 20, 0)
    assert state[:4] == b"BHST"
    primary.sock.close()
    assert process.wait() == 0

    process, primary = populated()
    primary.call("device-load", fds, fd=0)
    _answer, again = primary.call("device-save")
    assert os.pread(again[0], 1 << 20, 0) == state

    short = os.memfd_create("short")
    os.write(short, state[:-3])
    assert "cut short" in refusal(primary, "device-load", [short], fd=0)
    read_end, _write_end = os.pipe()
    assert "no file" in refusal(primary, "device-load", [read_end], fd=0)
    primary.ask("device-reset", id="lsi0")
    primary.ask("device-reset")
    primary.ask("quit")
    assert process.wait() == 0


@pytest.mark.parametrize("name,arguments,sentence", [
    ("nonsense", {}, "there is no command 'nonsense'"),
    ("device_add", {}, "'driver' is missing"),
    ("device_add", {"driver": 7}, "'driver' has the wrong type"),
    ("device_add", {"driver": "scsi-device", "id": "x"}, "scsi-device"),
    ("device_del", {"id": "none"}, "there is no device 'none'"),
    ("device_del", {"id": "x", "force": True}, "there is no argument 'force'"),
    ("channel-open", {"device": "none"}, "there is no device 'none'"),
    ("blockdev-add", {"driver": "file", "node-name": "f", "filename": "/etc/passwd"},
     "this process can open nothing"),
    ("blockdev-add", {"driver": "raw", "node-name": "f",
                      "file": {"driver": "file", "filename": "/etc/passwd"}},
     "this process can open nothing"),
    ("blockdev-add", {"driver": "raw", "node-name": "f", "file.driver": "file",
                      "file.filename": "/etc/passwd"}, "this process can open nothing"),
    ("blockdev-add", {"driver": "file", "node-name": "f", "filename": "x", "fd": 0}, "descriptor"),
    ("blockdev-del", {"node-name": "f"}, "'f'"),
    ("device-load", {}, "descriptor"),
    ("qom-get", {"path": "/", "property": "x"}, "path"),
    ("qom-list", {"path": "/machine/peripheral/none"}, "there is no object 'none'"),
    ("device-list-properties", {"typename": "none"}, "there is no device 'none'"),
], ids=lambda v: v if isinstance(v, str) else "")
def test_a_bad_request_is_refused_and_the_channel_lives(launched, name, arguments, sentence):
    process, primary = launched()
    assert sentence in refusal(primary, name, **arguments)
    assert primary.ask("query-status")["running"] is True
    assert process.child.poll() is None


@pytest.mark.parametrize("message", [
    b"hello", b"[]", b"{}", b'{"execute": "stop"}', b'{"execute": "stop", "id": 1, "arguments": []}',
    b'{"return": {}, "id": 77}', b"\x00\xff" * 100,
], ids=range(7))
def test_a_bad_message_ends_channel_and_process_with_a_reason(launched, message):
    process, primary = launched()
    primary.send(message)
    assert primary.closed()
    assert process.wait() == 1
    assert "the primary channel is over" in process.text
    assert len(process.text.splitlines()) == 1


def test_it_ends_when_control_goes_and_by_signals(launched):
    process, primary = launched()
    primary.sock.close()
    assert process.wait() == 0
    for signo in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        process, primary = launched()
        process.child.send_signal(signo)
        assert process.wait() == 0
        assert primary.closed()


def test_told_to_stay_it_takes_the_next_control(start, tmp_path):
    process = start(f"unix:{tmp_path}/s,server", "-keep-running", "-device", "lsi53c895a,id=lsi0")

    def connected():
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        wait_for(lambda: sock.connect_ex(f"{tmp_path}/s") == 0, "the socket")
        primary = Primary(sock)
        assert primary.receive()[0]["event"] == "READY"
        return primary

    for _ in range(3):
        primary = connected()
        assert primary.ask("qom-list", path="")[0]["name"] == "lsi0"
        primary.sock.close()
    primary = connected()
    primary.send(b"nonsense")
    assert primary.closed()
    assert connected().ask("query-status")["running"] is True
    assert process.stop() == 0


def test_many_devices_come_and_go(launched):
    process, primary = launched()

    def descriptors():
        return len(os.listdir(f"/proc/{process.pid}/fd"))

    before = descriptors()
    for i in range(200):
        primary.ask("device_add", **LSI)
        _answer, fds = primary.call("channel-open", device="lsi0")
        primary.ask("device_del", id="lsi0")
        os.close(fds[0])
    assert descriptors() == before


def test_the_monitor_of_its_own(launched, tmp_path):
    path = f"{tmp_path}/qmp"
    process, primary = launched("-qmp", f"unix:{path},server=on,wait=off")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(path)
        stream = sock.makefile("rw", encoding="utf-8")

        def answer(request):
            stream.write(json.dumps(request))
            stream.flush()
            while True:
                message = json.loads(stream.readline())
                if "event" not in message:
                    return message

        assert "QMP" in json.loads(stream.readline())
        assert answer({"execute": "qmp_capabilities"}) == {"return": {}}
        assert answer({"execute": "device_add", "arguments": LSI}) == {"return": {}}
        assert answer({"execute": "query-status"})["return"]["status"] == "running"
        assert "error" in answer({"execute": "channel-open", "arguments": {"device": "lsi0"}})
        assert primary.ask("qom-list", path="")[0]["name"] == "lsi0"
        steps = answer({"execute": "sandbox-info"})["return"]["steps"]
        assert {"seccomp", "mounts"} <= {s["step"] for s in steps if s["done"]}
    primary.ask("quit")
    assert process.wait() == 0
