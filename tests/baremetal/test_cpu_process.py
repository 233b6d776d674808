# SPDX-License-Identifier: Apache-2.0
"""The CPU process alone: what it answers, what it refuses, how it ends."""
import os
import re
import signal
import time

import pytest

from cpuproc import CommandFailed, CpuProcess

pytestmark = pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK),
                                reason="no /dev/kvm")


@pytest.fixture
def image(programs):
    return lambda name: os.path.join(programs.build, "tests", "guests", name)


@pytest.fixture
def new_cpu(programs, tmp_path):
    made = []

    def make(*options):
        with open(tmp_path / f"stderr{len(made)}", "wb") as log:
            made.append(CpuProcess(programs.path("bulkhead-cpu"), "-name", "t", *options, stderr=log))
        return made[-1]

    yield make
    for one in made:
        one.kill()


def descriptors(cpu):
    return len(os.listdir(f"/proc/{cpu.process.pid}/fd"))


def test_a_guest_runs_and_its_end_is_told(new_cpu, image):
    cpu = new_cpu()
    cpu.init(image("hello.elf"), "x=y")
    assert cpu.ask("query-status")["status"] == "prelaunch"
    cpu.ask("cont")
    assert cpu.finish() == 0
    assert "command line 'x=y'" in cpu.output
    assert cpu.ask("query-status") == {"status": "shutdown", "running": False, "singlestep": False}
    with pytest.raises(CommandFailed, match="reset first"):
        cpu.ask("cont")
    cpu.ask("system_reset")
    cpu.ask("cont")
    assert cpu.finish() == 0
    assert cpu.output.count("PASSED") == 2
    assert cpu.quit() == 0


def test_essential_sandbox_steps_are_done(new_cpu):
    cpu = new_cpu()
    steps = {s["step"]: s["state"] for s in cpu.ask("sandbox-info")["steps"]}
    for step in ("mounts", "network", "capabilities", "no-new-privs", "seccomp"):
        assert steps[step] == "done"
    with open(f"/proc/{cpu.process.pid}/status", encoding="ascii") as f:
        status = f.read()
    assert re.search(r"Seccomp:\t2", status) and re.search(r"NoNewPrivs:\t1", status)
    assert re.search(r"CapEff:\t0+$", status, re.MULTILINE)


@pytest.mark.parametrize("change,words", [
    ({"memory": 4096}, "memory|MiB"), ({"memory": "much"}, "memory"), ({"memory": -1}, "memory"),
    ({"smp": {"cpus": 0}}, "cpus"), ({"smp": {"cpus": 100000}}, "cpus"),
    ({"smp": {"cpus": 8, "cores": 2}}, "do not fit"), ({"kernel": 7}, "kernel"),
    ({"kernel": "0"}, "kernel"), ({"initrd": 9}, "initrd"),
    ({"serial": [{"kind": "stream", "in": 20}]}, "."), ({"serial": [None] * 9}, "serial"),
    ({"memory-backend": {"fd": 5}}, "descriptor"),
    ({"memory-backend": {"hugetlb": True, "hugetlbsize": 3 << 20}}, "huge"),
])
def test_bad_machines_are_refused_in_words_and_leave_nothing(new_cpu, image, change, words):
    cpu = new_cpu()
    cpu.wait_event("READY")
    before = descriptors(cpu)
    with pytest.raises(CommandFailed, match=words):
        cpu.init(image("hello.elf"), change=change)
    end = time.monotonic() + 2              # what came with the request is closed after the answer
    while descriptors(cpu) != before:
        assert time.monotonic() < end, descriptors(cpu)
    cpu.init(image("hello.elf"))
    cpu.ask("cont")
    assert cpu.finish() == 0


def test_a_kernel_that_is_none_is_refused(new_cpu):
    cpu = new_cpu()
    with pytest.raises(CommandFailed, match="kernel|image"):
        cpu.init("/etc/passwd")


def test_commands_before_there_is_a_machine_are_refused(new_cpu):
    cpu = new_cpu()
    for name in ("cont", "stop", "system_reset", "system_powerdown", "query-pci"):
        with pytest.raises(CommandFailed, match="no machine"):
            cpu.ask(name)
    with pytest.raises(CommandFailed, match="no command 'fly'"):
        cpu.ask("fly")


def test_stops_and_resets_may_crowd(new_cpu, image):
    cpu = new_cpu()
    cpu.init(image("ticks.elf"), cpus=2)
    cpu.ask("cont")
    cpu.wait_output("tick 1")
    for _ in range(50):
        numbers = [cpu.send(name) for name in ("stop", "cont", "system_reset", "stop", "cont")]
        for number in numbers:
            cpu.answer(number)
    assert cpu.ask("query-status")["status"] == "running"
    cpu.output = ""
    cpu.wait_output("tick 2")
    assert cpu.quit() == 0


def test_pauses_lose_no_kick(new_cpu, image):
    cpu = new_cpu()
    cpu.init(image("ticks.elf"), cpus=4)
    cpu.ask("cont")
    cpu.wait_output("tick 1")
    for _ in range(300):
        cpu.ask("stop")
        cpu.ask("cont")
    before = int(re.findall(r"tick (\d+)\n", cpu.output)[-1])
    cpu.wait_output(f"tick {before + 2}")


def test_it_ends_when_control_goes(new_cpu, image):
    cpu = new_cpu()
    cpu.init(image("ticks.elf"))
    cpu.ask("cont")
    cpu.wait_output("tick 1")
    cpu.channel.close()
    assert cpu.process.wait(10) == 0


def test_it_stays_when_told_to(new_cpu, image):
    cpu = new_cpu("-keep-running")
    cpu.init(image("ticks.elf"))
    cpu.ask("cont")
    cpu.wait_output("tick 1")
    serial, cpu._serial = cpu._serial, None
    cpu.channel.close()
    serial.settimeout(10)
    text = b""
    while b"tick 6" not in text:
        text += serial.recv(4096)
    assert cpu.process.poll() is None
    cpu.process.send_signal(signal.SIGTERM)
    assert cpu.process.wait(10) == 0


@pytest.mark.parametrize("message", [b"", b"x", b"[]", b"{}", b'{"execute": 3}', b"\xff" * 1000])
def test_a_bad_message_ends_the_channel_and_no_more(new_cpu, message):
    cpu = new_cpu()
    cpu.wait_event("READY")
    cpu.channel.send(message)
    cpu.channel.settimeout(5)
    assert cpu.channel.recv(4096) == b""
    assert cpu.process.wait(10) in (0, 1)
