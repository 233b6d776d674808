# SPDX-License-Identifier: Apache-2.0
"""What a running device process can reach, as the kernel tells it."""
import os

import pytest

from device_process import Refused

NOBODY = 65534
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="looks at another process as root")


def check_closed(process):
    status = process.status()
    for field in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[field], 16) == 0, field
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert status["Threads"] == "1"
    base = f"/proc/{process.pid}"
    for space in ("mnt", "net", "ipc", "uts"):
        assert os.readlink(f"{base}/ns/{space}") != os.readlink(f"/proc/self/ns/{space}"), space
    with open(f"{base}/mountinfo", encoding="ascii") as f:
        mounts = f.read().splitlines()
    assert len(mounts) == 1 and " / / ro" in mounts[0], mounts
    assert os.listdir(f"{base}/root/") == []
    with open(f"{base}/net/dev", encoding="ascii") as f:
        assert [line.split(":")[0].strip() for line in f.read().splitlines()[2:]] == ["lo"]
    with open(f"{base}/limits", encoding="ascii") as f:
        limits = f.read()
    assert "Max core file size        0                    0 " in limits


@ROOT_ONLY
def test_nothing_is_left_to_it(launched, image):
    process, primary = launched("-blockdev", f"driver=file,node-name=d0,filename={image}")
    check_closed(process)
    report = primary.ask("sandbox-info")
    assert report["policy"] == "device+block"
    states = {s["step"]: s["state"] for s in report["steps"]}
    assert states["mounts"] == states["network"] == states["seccomp"] == "done"


@ROOT_ONLY
def test_the_same_for_an_ordinary_user(launched, tmp_path, disk_proc):
    if not os.access("/", os.X_OK) or os.stat(os.path.dirname(disk_proc)).st_mode & 1 == 0:
        pytest.skip("the build folder is not for others")
    process, _primary = launched(user=NOBODY)
    check_closed(process)
    assert process.status()["Uid"].split()[0] == str(NOBODY)


@ROOT_ONLY
def test_a_user_id_of_its_own(launched):
    process, _primary = launched("-sandbox", "on,uid=4242,gid=4343")
    check_closed(process)
    assert set(process.status()["Uid"].split()) == {"4242"}
    assert set(process.status()["Gid"].split()) == {"4343"}
    assert process.status()["Groups"].split() == []


def test_stray_descriptors_are_closed(launched):
    strays = [os.open("/etc/passwd", os.O_RDONLY) for _ in range(5)]
    process, _primary = launched(strays=strays)
    names = [os.readlink(f"/proc/{process.pid}/fd/{fd}")
             for fd in os.listdir(f"/proc/{process.pid}/fd")]
    for fd in strays:
        os.close(fd)
    assert names and not [n for n in names if n.startswith("/etc")], names


def test_the_kind_decides_what_it_may_hold(launched, image):
    _process, primary = launched("-kind", "none")
    assert primary.ask("sandbox-info")["policy"] == "device"
    fd = os.open(image, os.O_RDWR)
    with pytest.raises(Refused, match="other back-ends"):
        primary.call("blockdev-add", [fd], driver="file", node_name="f", filename="x", fd=0)
    os.close(fd)
    _process, primary = launched("-kind", "net+chardev")
    assert primary.ask("sandbox-info")["policy"] == "device+net+chardev"


def test_switched_off_it_says_so(launched):
    process, primary = launched("-sandbox", "off")
    assert process.status()["Seccomp"] == "0"
    assert {s["state"] for s in primary.ask("sandbox-info")["steps"]} == {"off"}


def test_parts_can_be_switched_off(launched):
    process, primary = launched("-sandbox", "on,seccomp=off,landlock=off")
    assert process.status()["Seccomp"] == "0"
    states = {s["step"]: s["state"] for s in primary.ask("sandbox-info")["steps"]}
    assert states["seccomp"] == states["landlock"] == "off"
    assert states["mounts"] == "done"
