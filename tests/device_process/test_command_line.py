# SPDX-License-Identifier: Apache-2.0
"""Every mistake gives one clear sentence and exit status 1, and leaves nothing behind."""
import os
import socket
import subprocess

import pytest

from device_process import wait_for

DEVICE = "lsi53c895a,id=lsi0"

# arguments ({tmp}: an empty folder, {image}: a raw disk image) → what the sentence must say
MISTAKES = [
    ([], "the socket of the primary channel is missing"),
    (["17"], "cannot use descriptor 17"),
    (["0x3"], "'0x3' is neither a descriptor number nor unix:PATH"),
    (["hello"], "'hello' is neither a descriptor number nor unix:PATH"),
    (["unix:{tmp}/nobody"], "cannot connect to '{tmp}/nobody'"),
    (["unix:{tmp}/no/such/dir,server"], "{tmp}/no/such/dir"),
    (["unix:" + "x" * 120 + ",server"], "longer than"),
    (["unix:{tmp}/a", "unix:{tmp}/b"], "'unix:{tmp}/b' is one argument too many"),
    (["unix:{tmp}/s,server", "-frob"], "unknown option '-frob'"),
    (["unix:{tmp}/s,server", "-device"], "-device needs a value"),
    (["unix:{tmp}/s,server", "-device", "nonsense,id=x"], "-device nonsense: there is no such device"),
    (["unix:{tmp}/s,server", "-device", "id=x"], "'driver' is missing"),
    (["unix:{tmp}/s,server", "-device", DEVICE + ",colour=red"], "colour"),
    (["unix:{tmp}/s,server", "-device", DEVICE, "-device", DEVICE], "'lsi0' is in use"),
    (["unix:{tmp}/s,server", "-device", "lsi53c895a,id=0bad"], "cannot be an id"),
    (["unix:{tmp}/s,server", "-device", '{{"driver":'], "-device"),
    (["unix:{tmp}/s,server", "-device", "nonsense,help"], "there is no such device"),
    (["unix:{tmp}/s,server", "-device", "scsi-hd,drive=d0"], "no SCSI bus"),
    (["unix:{tmp}/s,server", "-device", DEVICE, "-device", "scsi-hd,drive=d0,bus=lsi0.0"], "d0"),
    (["unix:{tmp}/s,server", "-blockdev", "driver=file,node-name=f,filename={tmp}/none"],
     "cannot open disk image '{tmp}/none'"),
    (["unix:{tmp}/s,server", "-blockdev", "driver=nothing,node-name=f"], "nothing"),
    (["unix:{tmp}/s,server", "-blockdev", "driver=file,node-name=f"], "filename"),
    (["unix:{tmp}/s,server", "-blockdev", "driver=file,node-name=f,filename={tmp}"], "{tmp}"),
    (["unix:{tmp}/s,server", "-blockdev", "driver=raw,node-name=r,file=absent"], "absent"),
    (["unix:{tmp}/s,server", "-blockdev", "driver=file,node-name=f,filename={image}",
      "-blockdev", "driver=raw,node-name=f,file=f"], "'f'"),
    (["unix:{tmp}/s,server", "-blockdev", "driver=raw,node-name=a,file=a"], "'a'"),
    (["unix:{tmp}/s,server", "-blockdev",
      "driver=raw,node-name=a,file.driver=raw,file.node-name=b,file.file=a"], "'a'"),
    (["unix:{tmp}/s,server", "-sandbox", "maybe"], "-sandbox maybe"),
    (["unix:{tmp}/s,server", "-sandbox", "on,uid=root"], "uid"),
    (["unix:{tmp}/s,server", "-sandbox", "on", "-sandbox", "off"], "-sandbox is given twice"),
    (["unix:{tmp}/s,server", "-qmp", "tcp:1"], "-qmp tcp:1"),
    (["unix:{tmp}/s,server", "-qmp", "unix:{tmp}/no/dir,server=on,wait=off"], "{tmp}/no/dir"),
    (["unix:{tmp}/s,server", "-name", ""], "-name"),
    (["unix:{tmp}/s,server", "-kind", "graphics"], "-kind graphics"),
    (["-vfio-user", "device=lsi0"], "one of path=PATH and fd=N is wanted"),
    (["-vfio-user", "path={tmp}/v"], "device=ID is missing"),
    (["-vfio-user", "device=lsi0,path={tmp}/v"], "there is no device 'lsi0'"),
    (["-vfio-user", "device=lsi0,fd=99", "-device", DEVICE], "cannot use descriptor 99"),
    (["-vfio-user", "device=lsi0,fd=0", "-device", DEVICE], "descriptor 0 is not a stream socket"),
    (["--socket-path={tmp}/v"], "there is no PCI device to serve"),
    (["--fd=x"], "-fd x"),
]


@pytest.mark.parametrize("args,sentence", MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list)
                         else "")
def test_a_mistake_gives_one_sentence(start, tmp_path, image, args, sentence):
    def fill(text):
        return text.format(tmp=tmp_path / "tmp", image=image)

    (tmp_path / "tmp").mkdir()
    process = start(*[fill(a) for a in args])
    assert process.wait() == 1
    lines = process.text.splitlines()
    assert len(lines) == 1, process.text
    assert lines[0].startswith("disk-proc: error: ")
    assert fill(sentence) in lines[0]
    assert os.listdir(tmp_path / "tmp") == []


def test_images_are_locked_against_others(start, tmp_path, image):
    blockdev = f"driver=file,node-name=f,filename={image}"
    first = start(f"unix:{tmp_path}/1,server", "-blockdev", blockdev)
    wait_for(lambda: os.path.exists(tmp_path / "1"), "the first socket")
    second = start(f"unix:{tmp_path}/2,server", "-blockdev", blockdev)
    assert second.wait() == 1
    assert "in use by another process" in second.text
    assert first.stop() == 0
    third = start(f"unix:{tmp_path}/3,server", "-blockdev", blockdev)
    wait_for(lambda: os.path.exists(tmp_path / "3"), "the third socket")
    assert third.stop() == 0


@pytest.mark.parametrize("option", ["-h", "-help", "--help"])
def test_help_names_every_option_the_design_promises(disk_proc, option):
    done = subprocess.run([disk_proc, option], capture_output=True, text=True, check=True)
    for name in ("-blockdev", "-device", "-qmp", "-sandbox", "-name", "-vfio-user"):
        assert f"\n  {name} " in done.stdout
    assert done.stderr == ""


def test_version_and_device_help(disk_proc):
    def said(*args):
        return subprocess.run([disk_proc, *args], capture_output=True, text=True,
                              check=True).stdout

    assert said("--version").startswith("disk-proc (Bulkhead) ")
    assert "lsi53c895a" in said("-device", "help")
    assert "drive=" in said("-device", "scsi-hd,help")


def test_a_socket_file_left_behind_is_replaced(start, tmp_path):
    path = tmp_path / "s"
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stale.bind(str(path))
    stale.close()
    process = start(f"unix:{path},server")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        wait_for(lambda: client.connect_ex(str(path)) == 0, "the socket")
        client.settimeout(20)
        assert b"READY" in client.recv(1000)
    assert process.wait() == 0
    assert not path.exists()


def test_sockets_are_removed_even_after_a_kill(start, tmp_path):
    paths = [tmp_path / name for name in ("primary", "vfio", "qmp")]
    for end in (lambda p: p.child.kill(), lambda p: p.child.terminate()):
        process = start(f"unix:{paths[0]},server", "-device", DEVICE,
                        "-vfio-user", f"device=lsi0,path={paths[1]}",
                        "-qmp", f"unix:{paths[2]},server=on,wait=off")
        wait_for(lambda: all(p.exists() for p in paths), "the sockets")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
            control.settimeout(20)
            control.connect(str(paths[0]))
            assert b"READY" in control.recv(1000)
            end(process)
        process.wait()
        wait_for(lambda: not any(p.exists() for p in paths), "the end of the sockets")
