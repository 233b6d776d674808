# SPDX-License-Identifier: Apache-2.0
"""A stock Linux guest and the machine: boot protocols, CPUs, memory, power, the monitor."""
import time

import pytest
from labkit import kernel

pytestmark = pytest.mark.linux(timeout=120)


def power_on(new_machine, script="machine", image=None, no_reboot=True, monitor=False, **options):
    vm = new_machine(**options)
    if monitor:
        vm.monitor()
    return vm.linux(script, image=image).start(no_reboot)


def test_a_small_machine_started_by_the_boot_protocol(new_machine):
    vm = power_on(new_machine, image=kernel.get().bzimage)
    vm.finish()
    assert vm.mark("cpus") == "2"
    assert 400 << 10 < int(vm.mark("memory")) <= 512 << 10
    assert {"APIC", "DSDT", "FACP"} <= set(vm.mark("acpi").split())
    assert vm.marks()["ran"] == ["0", "1"]
    assert abs(int(vm.mark("clock")) - time.time()) < 120


def test_several_cpus_and_memory_above_the_pci_hole_started_by_pvh(new_machine):
    cpus = 4        # eight, on an emulated host of two, take minutes; tests/baremetal starts eight
    vm = power_on(new_machine, image=kernel.get().vmlinux(), cpus=cpus, memory="5G")
    vm.finish()
    assert vm.mark("cpus") == str(cpus)
    assert vm.marks()["ran"] == [str(cpu) for cpu in range(cpus)]
    assert int(vm.mark("memory")) > 4500 << 10


def test_a_reboot_ends_the_machine_when_asked_to(new_machine):
    vm = new_machine(cpus=1)
    vm.linux("machine", end="reboot").start()
    vm.finish()


def test_a_reboot_starts_the_guest_again(new_machine):
    vm = new_machine(cpus=1)
    vm.monitor().linux("machine", end="reboot").start(no_reboot=False)
    qmp = vm.qmp()
    vm.expect(r"(?s)@@ boot.*@@ done 0.*@@ boot.*@@ cpus 1", 100)
    assert qmp.wait_event("RESET")
    qmp.execute("quit")
    assert vm.wait(30) == 0


def test_stop_cont_and_the_power_button(new_machine):
    vm = power_on(new_machine, "ticks", monitor=True, cpus=1)
    qmp = vm.qmp()
    vm.expect("@@ tick 3$", 60)
    qmp.execute("stop")
    qmp.wait_event("STOP")
    assert qmp.execute("query-status")["status"] == "paused"
    time.sleep(0.5)
    before = len(vm.marks()["tick"])
    time.sleep(2)
    assert len(vm.marks()["tick"]) == before
    qmp.execute("cont")
    qmp.wait_event("RESUME")
    vm.expect(f"@@ tick {before + 3}$", 30)
    qmp.execute("system_powerdown")
    vm.expect("@@ button pressed", 30)
    event = qmp.wait_event("SHUTDOWN")
    assert event["data"]["guest"] is True
    vm.finish(30)


def test_quit_ends_a_running_guest(new_machine):
    vm = power_on(new_machine, "ticks", monitor=True, cpus=1)
    qmp = vm.qmp()
    vm.expect("@@ tick 1$", 60)
    qmp.execute("quit")
    assert vm.wait(30) == 0
