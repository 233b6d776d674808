# SPDX-License-Identifier: Apache-2.0
"""A device process that a stranger's vfio-user client finds by its socket (row M2)."""
import os
import socket
import struct

import pytest

from device_process import wait_for

VERSION, DMA_MAP, GET_INFO, REGION_READ, REGION_WRITE, RESET = 1, 2, 4, 9, 10, 13
CONFIG_REGION = 7
DEVICE = ("-device", "lsi53c895a,id=lsi0")


class Client:
    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(20)

    def exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.sock.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def call(self, command, body=b"", fds=()):
        """(errno, reply's body)"""
        header = struct.pack("<HHIII", 1, command, 16 + len(body), 0, 0)
        socket.send_fds(self.sock, [header + body], list(fds))
        _id, _command, size, _flags, error = struct.unpack("<HHIII", self.exactly(16))
        return error, self.exactly(size - 16)

    def greet(self):
        error, reply = self.call(VERSION, struct.pack("<HH", 0, 0) + b'{"capabilities":{}}\0')
        assert error == 0 and reply[:2] == b"\0\0"

    def read(self, region, offset, count):
        error, reply = self.call(REGION_READ, struct.pack("<QII", offset, region, count))
        assert error == 0
        return reply[16:]


def connect(path):
    sock = socket.socket(socket.AF_UNIX)
    wait_for(lambda: sock.connect_ex(str(path)) == 0, "the device's socket")
    return Client(sock)


def ids_of(client):
    client.greet()
    return struct.unpack("<HH", client.read(CONFIG_REGION, 0, 4))


@pytest.mark.parametrize("where", ["--socket-path={path}", "-vfio-user=device=lsi0,path={path}"])
def test_clients_come_one_after_the_other(start, tmp_path, where):
    path = tmp_path / "lsi.sock"
    process = start("--" + where.format(path=path).lstrip("-"), *DEVICE)
    for _ in range(3):
        client = connect(path)
        vendor, _device = ids_of(client)
        assert vendor == 0x1000
        client.sock.close()
    assert process.stop() == 0
    assert process.text == ""


def test_a_connected_or_listening_socket_is_inherited(start):
    ours, theirs = socket.socketpair()
    start(f"--fd={theirs.fileno()}", *DEVICE, pass_fds=[theirs.fileno()])
    assert ids_of(Client(ours))[0] == 0x1000

    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0bulkhead-test-%d" % os.getpid())
    listener.listen()
    start(f"--fd={listener.fileno()}", *DEVICE, pass_fds=[listener.fileno()])
    client = socket.socket(socket.AF_UNIX)
    client.connect(listener.getsockname())
    assert ids_of(Client(client))[0] == 0x1000


def test_guest_memory_can_be_mapped_behind_the_door(start, tmp_path):
    process = start(f"--socket-path={tmp_path}/s", *DEVICE)
    client = connect(tmp_path / "s")
    client.greet()
    memory = os.memfd_create("ram")
    os.ftruncate(memory, 1 << 20)
    for i in range(32):
        error, _ = client.call(DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, i << 20, 1 << 20), [memory])
        assert error == 0
    with open(f"/proc/{process.pid}/maps", encoding="ascii") as f:
        assert f.read().count("memfd:ram") == 32
    client.sock.close()
    wait_for(lambda: "memfd:ram" not in open(f"/proc/{process.pid}/maps", encoding="ascii").read(),
             "the end of the mappings")
    assert process.stop() == 0


def test_a_client_that_breaks_the_protocol_loses_its_channel_alone(start, tmp_path):
    process = start(f"--socket-path={tmp_path}/s", *DEVICE)
    bad = connect(tmp_path / "s")
    bad.sock.sendall(b"\xff" * 64)
    with pytest.raises((EOFError, ConnectionResetError)):
        while True:
            bad.exactly(1)
    assert ids_of(connect(tmp_path / "s"))[0] == 0x1000
    assert process.stop() == 0
    assert "lsi0: the client's channel is over: " in process.text


def test_it_ends_with_nobody_left_to_serve(start):
    """A client handed over as a descriptor was the only one there can be."""
    ours, theirs = socket.socketpair()
    process = start(f"--fd={theirs.fileno()}", *DEVICE, pass_fds=[theirs.fileno()])
    theirs.close()
    assert ids_of(Client(ours))[0] == 0x1000
    ours.close()
    assert process.wait() == 0
