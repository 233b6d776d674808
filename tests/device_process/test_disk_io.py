# SPDX-License-Identifier: Apache-2.0
"""A disk read and written from behind the closed door: vfio-user, SCRIPTS, SCSI, image."""
import mmap
import os
import shutil
import struct
import subprocess
import time

import pytest

from test_vfio_user import CONFIG_REGION, DMA_MAP, REGION_WRITE, connect

REGISTERS = 1                       # BAR 1: the controller's registers in memory space
SCID, DSTAT, ISTAT0, DSP, SIST0 = 0x04, 0x0c, 0x14, 0x2c, 0x42
DATA_OUT, DATA_IN, COMMAND, STATUS, MESSAGE_OUT, MESSAGE_IN = 0, 1, 2, 3, 6, 7
RAM_BASE, RAM_BYTES = 0x100000, 1 << 20
SCRIPT, IDENTIFY, CDB, STATUS_AT, MESSAGE_AT, DATA = (RAM_BASE + i * 0x1000 for i in range(6))
DONE = 0xd0e


class Controller:
    """A driver of a few lines: one command at a time, no disconnection."""

    def __init__(self, client):
        self.client = client
        client.greet()
        self.fd = os.memfd_create("ram")
        os.ftruncate(self.fd, RAM_BYTES)
        self.ram = mmap.mmap(self.fd, RAM_BYTES)
        body = struct.pack("<IIQQQ", 32, 3, 0, RAM_BASE, RAM_BYTES)
        assert client.call(DMA_MAP, body, [self.fd])[0] == 0
        self.write(CONFIG_REGION, 4, struct.pack("<H", 7))      # I/O, memory, bus master
        self.write(REGISTERS, SCID, b"\x07")

    def write(self, region, offset, data):
        body = struct.pack("<QII", offset, region, len(data)) + data
        assert self.client.call(REGION_WRITE, body)[0] == 0

    def poke(self, address, data):
        self.ram[address - RAM_BASE:address - RAM_BASE + len(data)] = data

    def peek(self, address, count):
        return self.ram[address - RAM_BASE:address - RAM_BASE + count]

    def command(self, cdb, phase=None, count=0):
        """The status byte."""
        move = 0x08000000
        words = [0x41000000, SCRIPT, move | MESSAGE_OUT << 24 | 1, IDENTIFY,
                 move | COMMAND << 24 | len(cdb), CDB]
        if phase is not None:
            words += [move | phase << 24 | count, DATA]
        words += [move | STATUS << 24 | 1, STATUS_AT, move | MESSAGE_IN << 24 | 1, MESSAGE_AT,
                  0x7c027f00, 0,                    # SCNTL2 & 0x7f: a disconnection is expected
                  0x60000040, 0, 0x48000000, 0, 0x98080000, DONE]
        self.poke(SCRIPT, struct.pack(f"<{len(words)}I", *words))
        self.poke(IDENTIFY, b"\x80")
        self.poke(CDB, cdb)
        self.poke(STATUS_AT, b"\xff")
        self.write(REGISTERS, DSP, struct.pack("<I", SCRIPT))
        end = time.monotonic() + 10
        while not self.client.read(REGISTERS, ISTAT0, 1)[0] & 3:
            assert time.monotonic() < end, "the controller does not finish"
        dstat = self.client.read(REGISTERS, DSTAT, 1)[0]
        sist = self.client.read(REGISTERS, SIST0, 2)
        assert dstat & 0x04, f"no SCRIPTS interrupt, DSTAT {dstat:#x}, SIST {sist.hex()}"
        return self.peek(STATUS_AT, 1)[0]


def blockdevs(kind, path):
    if kind == "qcow2":
        return ["-blockdev", f"driver=qcow2,node-name=d0,file.driver=file,file.filename={path}"]
    return ["-blockdev", f"driver=file,node-name=d0,filename={path},aio={kind}"]


@pytest.fixture(params=["io_uring", "threads", "qcow2"])
def disk(request, tmp_path):
    """(options, function that gives the image's content when nobody holds it)"""
    path, plain = tmp_path / "disk", tmp_path / "plain"
    if request.param == "qcow2":
        if not shutil.which("qemu-img"):
            pytest.skip("needs qemu-img")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "4M"], check=True)
    else:
        path.write_bytes(bytes(4 << 20))

    def content():
        if request.param != "qcow2":
            return path.read_bytes()
        subprocess.run(["qemu-img", "check", "-q", path], check=True)
        subprocess.run(["qemu-img", "convert", "-O", "raw", path, plain], check=True)
        return plain.read_bytes()

    return blockdevs(request.param, path), content


def test_what_is_written_is_in_the_image_and_read_back(start, disk, tmp_path):
    options, content = disk
    process = start(f"--socket-path={tmp_path}/s", *options, "-device", "lsi53c895a,id=lsi0",
                    "-device", "scsi-hd,id=sd0,drive=d0,bus=lsi0.0,scsi-id=0")
    controller = Controller(connect(tmp_path / "s"))
    while controller.command(bytes(6)) == 2:            # TEST UNIT READY, past unit attentions
        controller.command(bytes([3, 0, 0, 0, 18, 0]), DATA_IN, 18)

    pattern = os.urandom(4096)
    controller.poke(DATA, pattern)
    assert controller.command(struct.pack(">BBIBHB", 0x2a, 0, 100, 0, 8, 0), DATA_OUT, 4096) == 0
    assert controller.command(struct.pack(">BBIBHB", 0x35, 0, 0, 0, 0, 0)) == 0     # SYNCHRONIZE

    controller.poke(DATA, bytes(8192))
    assert controller.command(struct.pack(">BBIBHB", 0x28, 0, 96, 0, 16, 0), DATA_IN, 8192) == 0
    assert controller.peek(DATA, 8192) == bytes(2048) + pattern + bytes(2048)

    assert process.stop() == 0
    assert process.text == ""
    data = content()
    assert data[51200:51200 + 4096] == pattern
    assert not any(data[:51200]) and not any(data[55296:]) and len(data) == 4 << 20
