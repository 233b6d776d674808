# SPDX-License-Identifier: Apache-2.0
"""Device processes under control: what goes where, and what follows from their end. The CPU process
is a stand-in, the device processes are real."""
import os
import signal
import subprocess
import time

import control
import pytest

from qmp import QmpError

LSI = ["-process", "id=disk0", "-device", "lsi53c895a,id=lsi0,rid=disk0,addr=4"]


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(bytes(1 << 20))
    return path


def disk(image):
    return ["-drive", f"file={image},format=raw,if=none,id=hd0", "-device",
            "scsi-hd,id=sd0,drive=hd0,bus=lsi0.0"]


def test_devices_with_rid_live_there_and_a_proxy_in_the_cpu_process(new_control, image):
    one = new_control(*LSI, *disk(image))
    qmp = one.start_with_monitor()
    processes = {p["id"]: p for p in qmp.execute("query-processes")}
    assert [d["id"] for d in processes["disk0"]["devices"]] == ["lsi0", "sd0"]
    assert processes["cpu"]["devices"] == []
    assert one.asked("device_add") == [
        {"command": "device_add", "fds": 1, "args": {
            "driver": "pci-proxy-dev", "id": "lsi0", "addr": "4", "channel-fd": 0}}]
    assert not one.asked("blockdev-add")
    (block,) = qmp.execute("query-block")
    assert block["qdev"] == "sd0" and block["inserted"]["node-name"] == "hd0"
    nodes = {n["node-name"] for n in qmp.execute("query-named-block-nodes")}
    assert "hd0" in nodes
    names = {i["name"]: i["type"] for i in qmp.execute("qom-list", path="/machine/peripheral")}
    assert names == {"lsi0": "child<lsi53c895a>", "sd0": "child<scsi-hd>"}
    assert qmp.execute("qom-get", path="/machine/peripheral/sd0", property="drive") == "hd0"
    with pytest.raises(QmpError):
        qmp.execute("qom-get", path="/machine/peripheral/sd0", property="bogus")
    qmp.execute("stop")
    qmp.execute("cont")
    qmp.execute("quit")
    assert one.finish() == (0, [])


def test_without_rid_the_cpu_process_gets_device_and_image(new_control, image):
    one = new_control("-device", "lsi53c895a,id=lsi0", *disk(image))
    qmp = one.start_with_monitor()
    qmp.execute("query-status")
    (add,) = one.asked("blockdev-add")
    assert add["fds"] == 1 and add["args"]["node-name"] == "hd0"
    assert [a["args"]["driver"] for a in one.asked("device_add")] == ["lsi53c895a", "scsi-hd"]
    qmp.execute("quit")
    status, lines = one.finish()
    assert status == 0
    assert len(lines) == 1 and "the CPU process holds this image" in lines[0]


def test_a_killed_device_process_is_reported_and_the_machine_goes_on(new_control, image):
    one = new_control(*LSI, *disk(image))
    qmp = one.start_with_monitor()
    pid = {p["id"]: p for p in qmp.execute("query-processes")}["disk0"]["pid"]
    os.kill(pid, signal.SIGKILL)
    event = qmp.wait_event("PROCESS_FAILED")
    assert event["data"] == {"id": "disk0", "role": "device", "pid": pid, "signal": 9,
                             "reason": "killed by signal 9 (Killed)"}
    assert qmp.execute("query-status")["running"]
    processes = {p["id"]: p for p in qmp.execute("query-processes")}
    assert processes["disk0"]["state"] == "failed" and processes["cpu"]["state"] == "running"
    assert qmp.execute("query-block") == []
    with pytest.raises(QmpError):
        qmp.execute("qom-get", path="/machine/peripheral/sd0", property="drive")
    qmp.execute("stop")
    qmp.execute("cont")
    qmp.execute("quit")
    status, lines = one.finish()
    assert status == 0
    assert lines == [f"bulkhead: error: process 'disk0' (pid {pid}) failed: "
                     "killed by signal 9 (Killed)"]


@pytest.mark.parametrize("args, text", [
    (["-device", "bogus,id=b,rid=disk0"], "-device bogus,id=b,rid=disk0: "),
    (["-device", "lsi53c895a,id=l,rid=disk0,bogus=1"], "bogus"),
    (["-device", "lsi53c895a,id=l,rid=disk0", "-device", "scsi-hd,bus=l.0"], "drive"),
    (["-device", "lsi53c895a,id=l,rid=disk0", "-device", "scsi-hd,bus=l.9,drive=hd0"], "l.9"),
    (["-device", "scsi-hd,rid=disk0,drive=hd0"], "-device scsi-hd,rid=disk0,drive=hd0: "),
])
def test_what_a_device_process_refuses_ends_the_start_with_one_sentence(new_control, image, args,
                                                                        text):
    status, lines = new_control("-process", "disk0", "-drive",
                                f"file={image},format=raw,if=none,id=hd0", *args).run()
    assert status == 1
    assert len(lines) == 1 and text in lines[0], lines


def test_a_wrong_image_is_refused_with_one_sentence(new_control, image):
    status, lines = new_control(*LSI, "-drive", f"file={image},format=qcow2,if=none,id=hd0", "-device",
                                "scsi-hd,drive=hd0,bus=lsi0.0").run()
    assert status == 1
    assert len(lines) == 1 and str(image) in lines[0] and "qcow2" in lines[0], lines


def test_a_hand_started_process_serves_its_device(new_control, programs, image, tmp_path):
    path = tmp_path / "primary"
    server = subprocess.Popen(
        [programs.path("disk-proc"), f"unix:{path},server", "-blockdev",
         f"driver=file,node-name=f,filename={image}", "-blockdev", "driver=raw,node-name=hd0,file=f",
         "-device", "lsi53c895a,id=lsi0", "-device", "scsi-hd,drive=hd0,bus=lsi0.0,id=sd0",
         "-sandbox", "off"])
    try:
        end = time.monotonic() + 10
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.01)
        one = new_control("-device", f"pci-proxy-dev,id=lsi0,socket=unix:{path}")
        qmp = one.start_with_monitor()
        (block,) = qmp.execute("query-block")
        assert block["qdev"] == "sd0"
        assert qmp.execute("qom-list", path="/machine/peripheral/lsi0")
        assert {i["name"] for i in qmp.execute("qom-list", path="/machine/peripheral")} >= \
            {"lsi0", "sd0"}
        (add,) = one.asked("device_add")
        assert add["fds"] == 1 and add["args"]["driver"] == "pci-proxy-dev"
        server.kill()
        event = qmp.wait_event("PROCESS_FAILED")
        assert event["data"]["id"] == "lsi0"
        qmp.execute("quit")
        assert one.finish()[0] == 0
    finally:
        server.kill()
        server.wait()


def test_the_id_must_be_that_of_a_device_there(new_control, programs, tmp_path):
    path = tmp_path / "primary"
    server = subprocess.Popen([programs.path("disk-proc"), f"unix:{path},server", "-device",
                               "lsi53c895a,id=lsi0", "-sandbox", "off"])
    try:
        end = time.monotonic() + 10
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.01)
        status, lines = new_control("-device", f"pci-proxy-dev,id=other,socket=unix:{path}").run()
        assert status == 1
        assert len(lines) == 1 and "other" in lines[0]
    finally:
        server.kill()
        server.wait()


def test_the_processes_enter_their_sandboxes(new_control, image):
    one = new_control(*LSI, *disk(image))
    one.command[one.command.index("-sandbox") + 1] = "on,refused=warn"
    qmp = one.start_with_monitor()
    processes = {p["id"]: p for p in qmp.execute("query-processes")}
    for name in ("control", "disk0"):
        steps = {s["step"]: s["state"] for s in processes[name]["sandbox"]["steps"]}
        assert steps["seccomp"] == steps["no-new-privs"] == "done", steps
    with open(f"/proc/{one.process.pid}/status", encoding="ascii") as f:
        status = dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)
    assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
    qmp.execute("quit")
    assert one.finish()[0] == 0


def test_a_hung_device_process_keeps_no_monitor_waiting(new_control, image):
    one = new_control(*LSI, *disk(image))
    qmp = one.start_with_monitor()
    pid = {p["id"]: p for p in qmp.execute("query-processes")}["disk0"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(QmpError, match="process 'disk0' does not answer"):
        qmp.execute("query-block")
    assert qmp.execute("query-status")["running"]
    os.kill(pid, signal.SIGCONT)
    assert len(qmp.execute("query-block")) == 1
    qmp.execute("quit")
    assert one.finish()[0] == 0


def test_control_keeps_no_image_and_no_channel_of_a_device_open(new_control, image):
    one = new_control(*LSI, *disk(image), "-mem-path", "memory")
    qmp = one.start_with_monitor()
    pid = {p["id"]: p for p in qmp.execute("query-processes")}["disk0"]["pid"]
    held = {}
    for process in (one.process.pid, pid):
        held[process] = [os.readlink(f"/proc/{process}/fd/{fd}")
                         for fd in os.listdir(f"/proc/{process}/fd")]
    assert str(image) in held[pid]
    assert not {str(image), str(one.folder / "memory"), str(one.folder / "kernel")} \
        & set(held[one.process.pid])
    # Two primary channels, the monitor's socket and its client; nothing else is a socket.
    assert sum(link.startswith("socket:") for link in held[one.process.pid]) == 4
    with open(f"/proc/{one.process.pid}/maps", encoding="ascii") as f:
        assert "memory" not in f.read()
    qmp.execute("quit")
    assert one.finish()[0] == 0


def test_the_others_end_when_control_is_killed(new_control, image):
    one = new_control(*LSI, *disk(image))
    qmp = one.start_with_monitor()
    pids = [p["pid"] for p in qmp.execute("query-processes") if p["id"] != "control"]
    assert len(pids) == 2
    one.process.kill()
    one.process.wait()
    end = time.monotonic() + 10
    while any(control.alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(control.alive(pid) for pid in pids)
