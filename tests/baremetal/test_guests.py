# SPDX-License-Identifier: Apache-2.0
"""The programs of ../guests in whole machines, on any /dev/kvm."""
import os
import re
import signal
import time

import pytest

pytestmark = pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK),
                                reason="no /dev/kvm")
PASS, FAIL = 1, 3       # isa-debug-exit: (value << 1) | 1
RESETS = ["cf9", "acpi", "keyboard", "triple"]


@pytest.fixture
def guest(new_machine):
    """A machine that runs one of the guests."""
    def make(name, options="", debug_exit=True, memory="64", **settings):
        machine = new_machine(memory=memory, **settings)
        image = name if "." in name else name + ".elf"
        machine.add("-kernel", os.path.join(machine.programs.build, "tests", "guests", image),
                    "-append", options)
        if debug_exit:
            machine.add("-device", "isa-debug-exit,iobase=0xf4,iosize=4")
        return machine
    return make


def passes(machine, timeout_s=60):
    assert machine.start().wait(timeout_s) == PASS, machine.console.text
    return machine.console.text


@pytest.mark.parametrize("name", ["pci_scan", "timer", "uart"])
def test_passes(guest, name):
    passes(guest(name, cpus=1))


@pytest.mark.parametrize("image,how", [("hello.elf", "pvh"), ("hello.mb", "multiboot")])
def test_boots_by_either_protocol(guest, image, how):
    text = passes(guest(image, "a b=c"))
    assert f"protocol {how}\n" in text
    assert re.search("command line '.*a b=c'", text)


def test_the_exit_status_is_the_guests(guest):
    assert guest("hello", "status=3").start().wait(60) == 7


@pytest.mark.parametrize("cpus", [1, 2, 8])
def test_every_cpu_starts(guest, cpus):
    text = passes(guest("smp", cpus=cpus), 120)
    assert f"cpus {cpus}\n" in text
    assert sorted(map(int, re.findall(r"apic (\d+)", text))) == list(range(cpus))


def test_cpu_numbers_follow_the_topology_with_its_gaps(guest):
    text = passes(guest("smp", cpus="6,sockets=2,cores=3"), 120)
    assert sorted(map(int, re.findall(r"apic (\d+)", text))) == [0, 1, 2, 4, 5, 6]


@pytest.mark.parametrize("memory", ["16", "3G", "6G"])
def test_memory_below_and_above_the_hole(guest, memory):
    text = passes(guest("memory", memory=memory, cpus=1))
    ram = int(re.search(r"ram (\d+) KiB", text)[1])
    want = int(memory.rstrip("G")) << (20 if memory.endswith("G") else 10)
    assert want - 1024 < ram <= want
    assert ("memory 0x100000000 " in text) == (memory != "16" and want > 0xb0000000 >> 10)


def test_acpi_powers_off(guest):
    machine = guest("power", "how=poweroff", debug_exit=False).start()
    assert machine.wait(60) == 0
    assert machine.console.text == "life 1\n"


@pytest.mark.parametrize("how", RESETS)
def test_reset_ends_a_machine_that_may_not_reboot(guest, how):
    machine = guest("power", f"how={how}", debug_exit=False).start()
    assert machine.wait(60) == 0
    assert machine.console.text == "life 1\n"


@pytest.mark.parametrize("how", RESETS)
def test_reset_boots_again(guest, how):
    machine = guest("power", f"how={how}", cpus=2).start(no_reboot=False)
    assert machine.wait(60) == PASS, machine.console.text
    assert machine.console.text == "life 1\nlife 2\nlife 3\nPASSED\n"


@pytest.mark.parametrize("process", ["", "p0"])
def test_checksum_device_by_dma_and_msix(guest, process):
    machine = guest("csum", "rounds=50", cpus=1).device_process(process)
    machine.add("-device", "csum,id=c0" + (f",rid={process}" if process else ""))
    text = passes(machine)
    assert "rounds 50 interrupts 50\n" in text
    assert "errors are errors\n" in text


def test_the_guest_outlives_its_device(guest):
    machine = guest("csum", "expect=gone", cpus=1).device_process("p0")
    machine.add("-device", "csum,id=c0,rid=p0").monitor().start()
    machine.expect("waiting", 60)
    qmp = machine.qmp()
    for pid in machine.child("bulkhead-dev"):
        os.kill(pid, signal.SIGKILL)
    machine.expect("the device is gone", 30)
    assert qmp.wait_event("PROCESS_FAILED")
    assert machine.wait(60) == PASS, machine.console.text


@pytest.mark.parametrize("process", ["", "p0"])
def test_nonsense_hurts_the_guest_alone(guest, process):
    machine = guest("nonsense", cpus=1).device_process(process).lsi(process=process)
    machine.add("-device", "csum,id=c0" + (f",rid={process}" if process else ""))
    machine.start()
    assert machine.wait(120) == PASS, machine.messages.text


def test_stop_freezes_the_guest_and_cont_goes_on(guest):
    machine = guest("ticks", cpus=1, debug_exit=False).monitor().start()
    machine.expect("tick 3$", 60)
    qmp = machine.qmp()
    qmp.execute("stop")
    assert qmp.execute("query-status")["status"] == "paused"
    time.sleep(0.3)                             # what was printed arrives
    before = machine.console.text
    time.sleep(0.7)
    assert machine.console.text == before
    qmp.execute("cont")
    count = int(re.findall(r"tick (\d+)\n", before)[-1])
    machine.expect(rf"tick {count + 2}$", 60)
    qmp.execute("system_reset")
    machine.expect(r"(?s)tick 3.*tick 1\n.*tick 2\n", 60)
    qmp.execute("quit")
    assert machine.wait(20) == 0
