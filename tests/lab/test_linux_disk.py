# SPDX-License-Identifier: Apache-2.0
"""A stock Linux guest and its SCSI disk, in a device process and in the CPU process."""
import re
import time

import disks
import images
import pytest

pytestmark = pytest.mark.linux(timeout=180)


@disks.PLACES
def test_guest_makes_a_file_system_and_powers_off(new_machine, tmp_path, process):
    image = images.create(tmp_path / "disk.qcow2", "256M")
    vm = disks.machine(new_machine, process, (image, "qcow2"))
    vm.linux("demo").start().finish()
    assert vm.mark("disk") == f"{256 * 2048} sectors"
    assert re.search(r"type 0 .* /dev/sda", vm.console.text)
    assert vm.mark("file").startswith("ok ")
    images.check(image)


@pytest.mark.parametrize("process,fmt,mib", [("disk0", "qcow2", 64), ("disk0", "raw", 16),
                                             ("", "qcow2", 16)],
                         ids=["remote-qcow2", "remote-raw", "local-qcow2"])
def test_random_data_survives_on_both_sides(new_machine, tmp_path, process, fmt, mib):
    system = images.create(tmp_path / "system", "192M", fmt)
    plain = images.create(tmp_path / "plain", f"{mib}M", fmt)
    vm = disks.machine(new_machine, process, (system, fmt), (plain, fmt))
    vm.linux("integrity", mib=mib).start().finish(170)
    wanted = vm.mark("sum")
    assert vm.mark("size") == str(mib << 20)
    assert vm.mark("fs") == "same" and vm.mark("raw") == "same" and vm.mark("fsck") == "clean"

    if fmt == "qcow2":
        images.check(system)
        images.check(plain)
    assert images.sha256(images.to_raw(plain, tmp_path / "plain.out", fmt)) == wanted
    images.to_raw(system, tmp_path / "system.out", fmt)
    images.run("/sbin/debugfs", "-R", f"dump /file {tmp_path}/file.out", tmp_path / "system.out")
    assert images.sha256(tmp_path / "file.out") == wanted


@disks.PLACES
def test_guest_reads_what_qemu_io_wrote(new_machine, tmp_path, process):
    image = images.create(tmp_path / "disk.qcow2", "32M")
    # Whole clusters, parts of clusters, a hole, zero clusters, the very end.
    for command in ("write -P 0xa5 0 1M", "write -P 0x5a 1000k 3k", "write -P 0x11 5M 70000",
                    "write -z 6M 256k", "write -P 0xff 33553920 512"):
        images.run("qemu-io", "-f", "qcow2", "-c", command, image)
    wanted = images.sha256(images.to_raw(image, tmp_path / "out"))
    vm = disks.machine(new_machine, process, (image, "qcow2"))
    vm.linux("readdisk").start().finish()
    assert vm.mark("size-sda") == str(32 << 20)
    assert vm.mark("sum-sda") == wanted
    images.check(image)


def test_guest_survives_the_death_of_its_disk_process(new_machine, tmp_path):
    image = images.create(tmp_path / "disk.qcow2", "64M")
    vm = disks.machine(new_machine, "disk0", (image, "qcow2"))
    vm.monitor().linux("lostdisk").start()
    qmp = vm.qmp()
    vm.expect("@@ io running")
    victims = vm.child("disk-proc") or vm.child("bulkhead-dev")
    assert len(victims) == 1
    time.sleep(0.5)
    images.run("kill", "-9", victims[0])

    event = qmp.wait_event("PROCESS_FAILED")
    assert event["data"]["id"] == "disk0"
    assert qmp.execute("query-status")["status"] == "running"
    vm.expect("@@ lost .*[Ii].*error", 100)
    vm.expect("@@ alive", 30)
    assert vm.process.poll() is None or vm.mark("done") == "0"
    vm.finish(30)
    images.check(image, leaks_allowed=True)     # the process was killed while it wrote
