# SPDX-License-Identifier: Apache-2.0
"""Machines with SCSI disks behind an LSI 53C895A."""
import pytest

# Where the controller lives: a device process, or (for comparison) the CPU process.
PLACES = pytest.mark.parametrize("process", ["disk0", ""], ids=["remote", "local"])


def machine(new_machine, process, *disks):
    """disks: (image, format) pairs, with the SCSI ids 0, 1 and so on."""
    vm = new_machine()
    vm.device_process(process).lsi(process=process)
    for number, (path, fmt) in enumerate(disks):
        vm.scsi_disk(vm.drive(path, fmt), scsi_id=number)
    return vm
