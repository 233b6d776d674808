# SPDX-License-Identifier: Apache-2.0
"""The small guest beside this file, on any /dev/kvm."""
import os
import re
import time

import pytest

pytestmark = pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK),
                                reason="no /dev/kvm")
PASS, FAIL = 1, 3       # isa-debug-exit: (value << 1) | 1


@pytest.fixture
def guest(new_machine):
    """A machine that runs one test of the guest."""
    def make(test, image="guest.elf", debug_exit=True, **settings):
        machine = new_machine(memory="64", **settings)
        machine.add("-kernel", os.path.join(machine.programs.build, "tests", "baremetal", "guest", image),
                    "-append", f"test={test}")
        if debug_exit:
            machine.add("-device", "isa-debug-exit,iobase=0xf4,iosize=4")
        return machine
    return make


@pytest.mark.parametrize("test", ["hello", "pci", "timer", "uart"])
def test_passes(guest, test):
    machine = guest(test, cpus=1).start()
    assert machine.wait(60) == PASS, machine.console.text


@pytest.mark.parametrize("image,how", [("guest.elf", "pvh"), ("guest32.elf", "multiboot")])
def test_boots_by_either_protocol(guest, image, how):
    machine = guest("hello", image).start()
    assert machine.wait(60) == PASS, machine.console.text
    assert f"booted by {how}, command line 'test=hello'" in machine.console.text


@pytest.mark.parametrize("cpus", [1, 2, 8])
def test_every_cpu_starts(guest, cpus):
    machine = guest("smp", cpus=cpus).start()
    assert machine.wait(120) == PASS, machine.console.text
    assert f"cpus listed {cpus}, up {cpus}" in machine.console.text


def test_acpi_powers_off(guest):
    machine = guest("poweroff", debug_exit=False).start()
    assert machine.wait(60) == 0
    assert "power off by ACPI" in machine.console.text


@pytest.mark.parametrize("how", ["cf9", "acpi", "kbd", "triple"])
def test_reset_ends_a_machine_that_may_not_reboot(guest, how):
    machine = guest(f"reset how={how}", debug_exit=False).start()
    assert machine.wait(60) == 0
    assert machine.console.text.count(f"reset by {how}") == 1


@pytest.mark.parametrize("how", ["cf9", "acpi", "kbd", "triple"])
def test_reset_boots_again(guest, how):
    machine = guest(f"reset how={how}", debug_exit=False).monitor().start(no_reboot=False)
    machine.expect(rf"(?s)reset by {how}.*reset by {how}.*reset by {how}", 60)
    machine.qmp().command("quit")
    assert machine.wait(20) == 0


@pytest.mark.parametrize("process", ["", "p0"])
def test_checksum_device_by_dma_and_msix(guest, process):
    machine = guest("csum", cpus=1).device_process(process)
    machine.add("-device", "csum,id=c0" + (f",rid={process}" if process else "")).start()
    assert machine.wait(60) == PASS, machine.console.text
    count = re.search(r"csum interrupts (\d+)", machine.console.text)
    assert int(count[1]) == 101


@pytest.mark.parametrize("process", ["", "p0"])
def test_noise_to_a_device_hurts_the_guest_alone(guest, process):
    machine = guest("hostile", cpus=1).device_process(process).lsi(process=process)
    machine.add("-device", "csum,id=c0" + (f",rid={process}" if process else ""))
    machine.monitor().start()
    machine.expect("noise to", 60)
    assert machine.wait(60) in (PASS, 0), machine.messages.text


def test_stop_freezes_the_guest_and_cont_goes_on(guest):
    machine = guest("spin", debug_exit=False).monitor().start()
    machine.expect("spin 1", 60)
    qmp = machine.qmp()
    qmp.command("stop")
    assert qmp.command("query-status")["status"] == "paused"
    before = machine.console.text
    time.sleep(1)
    assert machine.console.text == before
    qmp.command("cont")
    count = int(re.findall(r"spin (\d+)", before)[-1])
    machine.expect(rf"spin {count + 1}", 60)
    qmp.command("system_reset")
    machine.expect(r"(?s)spin 1.*spin 0\b.*spin 1\b", 60)
    qmp.command("quit")
    assert machine.wait(20) == 0
