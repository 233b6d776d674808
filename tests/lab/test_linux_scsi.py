# SPDX-License-Identifier: Apache-2.0
"""SCSI devices as a Linux guest and its tools see them."""
import os

import disks
import images
import pytest

pytestmark = pytest.mark.linux(timeout=180)


@disks.PLACES
def test_disks_and_a_cdrom_answer_sg3_utils_and_survive_resets(new_machine, tmp_path, process):
    paths = {"plain": tmp_path / "plain", "disc": tmp_path / "disc"}
    for path in paths.values():
        with open(path, "wb") as f:
            f.write(os.urandom(4 << 20))
    vm = disks.machine(new_machine, process)
    disk = images.create(tmp_path / "disk.qcow2", "32M")
    vm.scsi_disk(vm.drive(disk), scsi_id=0, serial="BH-0042")
    vm.scsi_disk(vm.drive(paths["plain"], "raw", read_only=True), scsi_id=2)
    vm.scsi_disk(vm.drive(paths["disc"], "raw", read_only=True), kind="scsi-cd", scsi_id=4)
    vm.linux("scsi").start().finish(170)

    places = [text.split()[0] for text in vm.marks()["device"]]
    assert places == ["[0:0:0:0]", "[0:0:2:0]", "[0:0:4:0]"]
    assert (vm.mark("type-a"), vm.mark("type-b")) == ("disk", "disk")
    assert vm.mark("type-cd").startswith("cd/dvd")
    assert vm.mark("serial") == "BH-0042"
    assert {"0x0", "0x80", "0x83"} <= set(vm.mark("pages").split())
    assert vm.mark("capacity").split() == [hex(32 * 2048), "0x200"]
    assert int(vm.mark("depth")) > 1
    assert vm.mark("sum-b") == images.sha256(paths["plain"])
    assert vm.mark("sum-cd") == images.sha256(paths["disc"])
    assert (vm.mark("read-only-a"), vm.mark("read-only-b")) == ("0", "1")
    assert "invalid command operation code" in vm.mark("unknown").lower()
    for kind in ("device", "bus", "host"):
        assert vm.mark(f"reset-{kind}") == "same"
    assert "error" not in vm.marks()
    images.check(disk)
