# SPDX-License-Identifier: Apache-2.0
"""Every mistake on the command line: one sentence, exit status 1, nothing left behind."""
import os
import re
import socket

import pytest

MISTAKES = {
    "unknown option": (["-bogus"], "unknown option '-bogus'"),
    "an image without option": (["disk.img"], "'disk.img' is no option"),
    "no value": (["-m"], "-m needs a value"),
    "bad size": (["-m", "lots"], "-m lots: 'lots' is not a size"),
    "bad cpus": (["-smp", "0"], "'cpus' must be from 1 to 240"),
    "bad topology": (["-smp", "7,cores=2"], "7 CPUs cannot be"),
    "another accelerator": (["-accel", "tcg"], "only kvm"),
    "another machine": (["-machine", "isapc"], "there is no machine 'isapc'"),
    "no driver": (["-device", "id=a"], "'driver' is missing"),
    "an id twice": (["-device", "a,id=x", "-device", "b,id=x"], "the id 'x' is used twice"),
    "a bad id": (["-device", "a,id=/"], "'/' is not an id"),
    "an unknown process": (["-device", "a,rid=x"], "there is no -process 'x'"),
    "a process twice": (["-process", "x", "-process", "x"], "the id 'x' is used twice"),
    "an unknown node": (["-device", "scsi-hd,drive=x"], "there is no block node 'x'"),
    "bad JSON": (["-blockdev", "{"], "bad JSON"),
    "no format": (["-drive", "file=x"], "'format' is missing"),
    "two for stdio": (["-serial", "stdio", "-qmp", "stdio"], "stdio can be used only once"),
    "a bad monitor": (["-qmp", "tcp:x"], "-qmp tcp:x: "),
    "no initrd": (["-initrd", "/nix"], "-initrd: cannot open '/nix': No such file"),
    "a folder as initrd": (["-initrd", "/tmp"], "-initrd: '/tmp' is not a plain file"),
    "no image": (["-drive", "file=/nix,format=raw,if=none,id=d"], "/nix"),
    "no mem-path": (["-mem-path", "/nix/x"], "-mem-path: cannot open '/nix/x'"),
    "no program": (["-process", "x,binary=/nix"], "-process x,binary=/nix: "),
    "nobody to connect to": (["-device", "pci-proxy-dev,id=x,socket=unix:/nix"], "/nix"),
    "no descriptor": (["-device", "pci-proxy-dev,id=x,socket=99"], "99"),
    "a monitor's folder": (["-qmp", "unix:/nix/qmp,server=on,wait=off"],
                           "-qmp: cannot listen on '/nix/qmp'"),
    "a serial port's folder": (["-serial", "unix:/nix/s,server=on,wait=off"], "/nix/s"),
    "a pid file's folder": (["-pidfile", "/nix/pid"], "-pidfile: cannot open '/nix/pid'"),
    "bad sandbox": (["-sandbox", "perhaps"], "-sandbox perhaps: "),
}


def check_refusal(one, part):
    status, lines = one.run()
    assert status == 1
    assert len(lines) == 1, lines
    assert lines[0].startswith("bulkhead: error: ")
    assert part in lines[0]
    assert one.stdout == ""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_costs_one_sentence_and_status_1(new_control, mistake):
    args, part = MISTAKES[mistake]
    fake = "-sandbox" not in args
    check_refusal(new_control(*args, fake=fake), part)


def test_there_must_be_a_kernel(new_control):
    check_refusal(new_control(kernel=False, fake=False), "-kernel is missing")


def test_a_taken_image_is_refused_and_nothing_stays_behind(new_control, tmp_path):
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    drive = f"file={image},format=raw,if=none,id=d"
    first = new_control("-drive", drive)
    qmp = first.start_with_monitor()
    qmp.execute("query-status")
    socket_path = tmp_path / "second-qmp"
    pidfile = tmp_path / "pid"
    check_refusal(new_control("-drive", drive, "-qmp", f"unix:{socket_path},server=on,wait=off",
                              "-pidfile", pidfile), str(image))
    assert not socket_path.exists() and not pidfile.exists()
    qmp.execute("quit")
    assert first.finish()[0] == 0


def test_a_monitors_socket_that_is_in_use_is_left_alone(new_control, tmp_path):
    path = tmp_path / "qmp"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        check_refusal(new_control("-qmp", f"unix:{path},server=on,wait=off"), "already in use")
        assert path.exists()


@pytest.mark.parametrize("option", ["-h", "-help", "--help"])
def test_help_shows_the_options_and_an_example(new_control, option):
    one = new_control(option, kernel=False, fake=False)
    status, lines = one.run()
    assert (status, lines) == (0, [])
    for word in ("-kernel", "-process", "-device", "-blockdev", "-qmp", "-sandbox", "rid=disk0"):
        assert word in one.stdout


def test_version(new_control):
    one = new_control("-version", kernel=False, fake=False)
    assert one.run() == (0, [])
    assert re.fullmatch(r"bulkhead version \d+\.\d+\.\d+\n", one.stdout)


def test_standard_descriptors_may_be_closed(programs):
    command = f"{programs.path('bulkhead')} -m lots 0<&- 1<&-"
    assert os.waitstatus_to_exitcode(os.system(command + " 2<&-")) == 1
