# SPDX-License-Identifier: Apache-2.0
"""A stock Linux guest and its SCSI disk, in a device process and in the CPU process."""
import os
import re
import time

import images
import pytest

pytestmark = pytest.mark.linux(timeout=180)

# Where the controller lives: a device process, or (for comparison) the CPU process.
PLACES = pytest.mark.parametrize("process", ["disk0", ""], ids=["remote", "local"])


def machine_with_disks(new_machine, process, *disks):
    vm = new_machine()
    vm.device_process(process).lsi(process=process)
    for number, (path, fmt) in enumerate(disks):
        vm.scsi_disk(vm.drive(path, fmt), scsi_id=number)
    return vm


@PLACES
def test_guest_makes_a_file_system_and_powers_off(new_machine, tmp_path, process):
    image = images.create(tmp_path / "disk.qcow2", "256M")
    vm = machine_with_disks(new_machine, process, (image, "qcow2"))
    vm.linux("demo").start().finish()
    assert vm.mark("disk") == f"{256 * 2048} sectors"
    assert re.search(r"type 0 .* /dev/sda", vm.console.text)
    assert vm.mark("file").startswith("ok ")
    images.check(image)


@PLACES
@pytest.mark.parametrize("fmt", ["qcow2", "raw"])
def test_random_data_survives_on_both_sides(new_machine, tmp_path, process, fmt):
    mib = 64
    system = images.create(tmp_path / "system", "192M", fmt)
    plain = images.create(tmp_path / "plain", f"{mib}M", fmt)
    vm = machine_with_disks(new_machine, process, (system, fmt), (plain, fmt))
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


@PLACES
def test_guest_reads_what_qemu_io_wrote(new_machine, tmp_path, process):
    image = images.create(tmp_path / "disk.qcow2", "32M")
    # Whole clusters, parts of clusters, a hole, zero clusters, the very end.
    for command in ("write -P 0xa5 0 1M", "write -P 0x5a 1000k 3k", "write -P 0x11 5M 70000",
                    "write -z 6M 256k", "write -P 0xff 33553920 512"):
        images.run("qemu-io", "-f", "qcow2", "-c", command, image)
    wanted = images.sha256(images.to_raw(image, tmp_path / "out"))
    vm = machine_with_disks(new_machine, process, (image, "qcow2"))
    vm.linux("readdisk").start().finish()
    assert vm.mark("size-sda") == str(32 << 20)
    assert vm.mark("sum-sda") == wanted
    images.check(image)


def test_guest_survives_the_death_of_its_disk_process(new_machine, tmp_path):
    image = images.create(tmp_path / "disk.qcow2", "64M")
    vm = machine_with_disks(new_machine, "disk0", (image, "qcow2"))
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


@PLACES
def test_disks_and_a_cdrom_answer_sg3_utils_and_survive_resets(new_machine, tmp_path, process):
    paths = {"plain": tmp_path / "plain", "disc": tmp_path / "disc"}
    for path in paths.values():
        with open(path, "wb") as f:
            f.write(os.urandom(4 << 20))
    vm = machine_with_disks(new_machine, process)
    disk = images.create(tmp_path / "disk.qcow2", "32M")
    vm.scsi_disk(vm.drive(disk), scsi_id=0, serial="BH-0042")
    vm.scsi_disk(vm.drive(paths["plain"], "raw", read_only=True), scsi_id=2)
    vm.scsi_disk(vm.drive(paths["disc"], "raw", read_only=True), kind="scsi-cd", scsi_id=4)
    vm.linux("scsi").start().finish(170)

    places = [text.split()[0] for text in vm.marks()["device"]]
    assert places == ["[0:0:0:0]", "[0:0:2:0]", "[0:0:4:0]"]
    assert (vm.mark("type-sda"), vm.mark("type-sdb")) == ("disk", "disk")
    assert vm.mark("type-sr0").startswith("cd/dvd")
    assert vm.mark("serial") == "BH-0042"
    assert {"0x0", "0x80", "0x83"} <= set(vm.mark("pages").split())
    assert vm.mark("capacity").split() == [hex(32 * 2048), "0x200"]
    assert int(vm.mark("depth")) > 1
    assert vm.mark("sum-sdb") == images.sha256(paths["plain"])
    assert vm.mark("sum-sr0") == images.sha256(paths["disc"])
    assert (vm.mark("read-only-sda"), vm.mark("read-only-sdb")) == ("0", "1")
    assert "invalid command operation code" in vm.mark("unknown").lower()
    for kind in ("device", "bus", "host"):
        assert vm.mark(f"reset-{kind}") == "survived"
    assert "error" not in vm.marks()
    images.check(disk)
