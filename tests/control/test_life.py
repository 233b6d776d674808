# SPDX-License-Identifier: Apache-2.0
"""Start, life and end of the processes, with a CPU process that does as it is told."""
import os
import signal
import time

import pytest

from labkit import procs
from qmp import QmpError


def test_the_cpu_process_gets_the_machine_then_devices_then_goes_on(new_control):
    one = new_control("-m", "256", "-smp", "4,threads=2", "-device", "isa-debug-exit,iobase=0xf4",
                      wishes="after=SHUTDOWN")
    assert one.run() == (0, [])
    init, device, cont, *_ = one.asked()
    assert init["command"] == "machine-init"
    assert init["args"]["memory"] == 256 << 20
    assert init["args"]["smp"] == {"cpus": 4, "sockets": 1, "cores": 2, "threads": 2}
    assert init["args"]["kernel"] == 0 and init["fds"] == 1
    assert init["args"]["kernel-name"].endswith("/kernel")
    assert init["args"]["on-reboot"] == "reset"
    assert device == {"command": "device_add", "fds": 0,
                      "args": {"driver": "isa-debug-exit", "iobase": "0xf4"}}
    assert cont["command"] == "cont"


def test_S_leaves_it_stopped_until_cont(new_control):
    one = new_control("-S")
    qmp = one.start_with_monitor()
    assert qmp.execute("query-status")["status"] == "prelaunch"
    assert not one.asked("cont")
    qmp.execute("cont")
    assert qmp.execute("query-status") == {"status": "running", "running": True,
                                           "singlestep": False}
    assert qmp.wait_event("RESUME")
    qmp.execute("stop")
    assert qmp.wait_event("STOP")
    assert qmp.execute("query-status")["status"] == "paused"
    qmp.execute("quit")
    event = qmp.wait_event("SHUTDOWN")
    assert event["data"] == {"guest": False, "reason": "host-qmp-quit"}
    assert one.finish() == (0, [])
    assert not (one.folder / "qmp").exists()


def test_serial_and_initrd_and_memory_travel_as_descriptors(new_control, tmp_path):
    (tmp_path / "initrd").write_bytes(b"x")
    one = new_control("-initrd", tmp_path / "initrd", "-serial", f"file:{tmp_path}/out", "-serial",
                      "none", "-mem-path", tmp_path / "memory", wishes="after=SHUTDOWN")
    assert one.run() == (0, [])
    init = one.asked("machine-init")[0]
    args = init["args"]
    used = [args["kernel"], args["initrd"], args["memory-backend"]["fd"], args["serial"][0]["out"]]
    assert sorted(used) == list(range(4)) and init["fds"] >= 4
    assert args["serial"][1] is None
    assert os.path.getsize(tmp_path / "memory") == args["memory"]


@pytest.mark.parametrize("wish, status, text", [
    ("start=exit1", 1, "fake-cpu: a sentence of its own"),
    ("start=garbage", 1, "the CPU process broke the protocol: a message that is no JSON object"),
    ("refuse=machine-init", 1, "no machine-init today"),
    ("refuse=device_add", 1, "-device x,id=y: no device_add today"),
    ("refuse=cont", 1, "no cont today"),
    ("after=exit3", 1, "failed: ended with status 3"),
    ("after=garbage", 1, "broke the protocol"),
])
def test_a_cpu_process_that_fails_ends_all(new_control, wish, status, text):
    got, lines = new_control("-device", "x,id=y", wishes=wish).run()
    assert got == status
    assert any(text in line for line in lines), lines
    if "refuse" in wish or wish == "start=exit1":
        assert len(lines) == 1


@pytest.mark.parametrize("wish, args, status", [
    ("after=SHUTDOWN", [], 0), ("after=DEBUGEXIT", [], 33), ("after=QUIT", [], 0),
    ("after=PANIC", ["-action", "panic=shutdown"], 0),
])
def test_the_guest_ends_the_machine(new_control, wish, args, status):
    assert new_control(*args, wishes=wish).run()[0] == status


def test_no_shutdown_leaves_the_guest_stopped(new_control):
    one = new_control("-no-shutdown")
    qmp = one.start_with_monitor()
    qmp.execute("system_powerdown")
    assert qmp.wait_event("POWERDOWN")
    assert qmp.wait_event("SHUTDOWN")["data"] == {"guest": True, "reason": "guest-shutdown"}
    assert qmp.execute("query-status") == {"status": "shutdown", "running": False,
                                           "singlestep": False}
    with pytest.raises(QmpError):
        qmp.execute("cont")
    qmp.execute("quit")
    assert one.finish()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_in_order(new_control, number):
    one = new_control()
    qmp = one.start_with_monitor()
    qmp.execute("query-status")
    one.process.send_signal(number)
    assert qmp.wait_event("SHUTDOWN")["data"] == {"guest": False, "reason": "host-signal"}
    status, lines = one.finish()
    assert status == 0
    assert len(lines) == 1 and "ending on signal" in lines[0]
    assert one.asked("quit")


def test_a_second_signal_does_not_wait(new_control):
    one = new_control(wishes="quit=hang")
    one.start_with_monitor().execute("query-status")
    one.process.terminate()
    one.process.terminate()             # at once: the same wish, said twice
    time.sleep(1.3)
    assert one.process.poll() is None
    begin = time.monotonic()
    one.process.terminate()
    one.finish()
    assert time.monotonic() - begin < 5


def test_a_signal_while_starting_ends_it(new_control):
    one = new_control(wishes="start=hang").start()
    time.sleep(0.5)
    one.process.terminate()
    time.sleep(1.2)
    one.process.terminate()
    status, _ = one.finish()
    assert status == 0


def test_reset_is_passed_on_and_reported(new_control):
    one = new_control()
    qmp = one.start_with_monitor()
    qmp.execute("system_reset")
    assert qmp.wait_event("RESET")["data"]["reason"] == "host-qmp-system-reset"
    qmp.execute("quit")
    assert one.finish()[0] == 0


def test_queries(new_control):
    one = new_control("-name", "guest=alpha", "-uuid", "12345678-1234-1234-1234-123456789abc")
    qmp = one.start_with_monitor()
    assert qmp.greeting["QMP"]["version"]["package"] == "bulkhead"
    assert qmp.execute("query-name") == {"name": "alpha"}
    assert qmp.execute("query-uuid") == {"UUID": "12345678-1234-1234-1234-123456789abc"}
    assert qmp.execute("query-block") == []
    (cpu,) = qmp.execute("query-cpus-fast")
    assert cpu == {"cpu-index": 0, "thread-id": procs.descendants(one.process.pid)[0][0]}
    names = {c["name"] for c in qmp.execute("query-commands")}
    assert {"quit", "stop", "cont", "query-processes", "query-qmp-schema"} <= names
    processes = {p["id"]: p for p in qmp.execute("query-processes")}
    assert processes["control"]["pid"] == one.process.pid
    assert processes["cpu"]["role"] == "cpu" and processes["cpu"]["state"] == "running"
    assert processes["cpu"]["sandbox"]["policy"] == "cpu"
    assert processes["control"]["sandbox"]["steps"]
    with pytest.raises(QmpError) as nothing:
        qmp.execute("device_frobnicate")
    assert nothing.value.args
    qmp.execute("quit")
    assert one.finish()[0] == 0


def test_pid_file_holds_the_pid_while_it_runs(new_control):
    one = new_control("-pidfile", "pid")
    qmp = one.start_with_monitor()
    qmp.execute("query-status")
    assert int((one.folder / "pid").read_text()) == one.process.pid
    qmp.execute("quit")
    one.finish()
    assert not (one.folder / "pid").exists()


def test_a_clients_commands_wait_while_the_machine_is_set_up(new_control):
    one = new_control(wishes="start=slow")
    assert one.start_with_monitor().execute("query-status")["status"] == "running"
    one.process.terminate()
    assert one.finish()[0] == 0


def test_a_killed_cpu_process_ends_all(new_control):
    one = new_control()
    qmp = one.start_with_monitor()
    pid = [p["pid"] for p in qmp.execute("query-processes") if p["id"] == "cpu"][0]
    os.kill(pid, signal.SIGKILL)
    assert qmp.wait_event("PROCESS_FAILED")["data"] == {
        "id": "cpu", "role": "cpu", "pid": pid, "signal": 9, "reason": "killed by signal 9 (Killed)"}
    status, lines = one.finish()
    assert status == 1
    assert lines == [f"bulkhead: error: the CPU process (pid {pid}) failed: "
                     "killed by signal 9 (Killed)"]


def test_a_cpu_process_killed_while_starting_is_reported(new_control):
    one = new_control(wishes="start=hang").start()
    time.sleep(0.5)
    ((pid, _),) = procs.descendants(one.process.pid)
    os.kill(pid, signal.SIGKILL)
    status, lines = one.finish()
    assert status == 1
    assert lines == ["bulkhead: error: the CPU process failed: killed by signal 9 (Killed)"]
