# SPDX-License-Identifier: Apache-2.0
"""The real processes together, with a small guest on any /dev/kvm, as the monitor shows them."""
import os
import socket
import subprocess
import time

import pytest

from qmp import QmpError

pytestmark = pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="no /dev/kvm")


def guest_options(programs, name):
    return ["-kernel", os.path.join(programs.build, "tests", "guests", f"{name}.elf"), "-m", "64"]


def test_the_monitor_shows_the_machine(new_control, programs, tmp_path):
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    one = new_control(*guest_options(programs, "ticks"), "-smp", "2", "-S", "-process", "disk0",
                      "-device", "lsi53c895a,id=lsi0,rid=disk0", "-drive",
                      f"file={image},format=raw,if=scsi", kernel=False, fake=False)
    qmp = one.start_with_monitor()
    assert qmp.execute("query-status")["status"] == "prelaunch"
    qmp.execute("cont")
    assert qmp.execute("query-status")["running"]
    assert qmp.execute("query-kvm") == {"enabled": True, "present": True}

    processes = {p["id"]: p for p in qmp.execute("query-processes")}
    tasks = {int(t) for t in os.listdir(f"/proc/{processes['cpu']['pid']}/task")}
    cpus = qmp.execute("query-cpus-fast")
    assert [c["cpu-index"] for c in cpus] == [0, 1]
    assert {c["thread-id"] for c in cpus} <= tasks and len({c["thread-id"] for c in cpus}) == 2

    (bus,) = qmp.execute("query-pci")
    lsi = [d for d in bus["devices"] if d["qdev_id"] == "lsi0"][0]
    assert lsi["id"] == {"vendor": 0x1000, "device": 0x12}
    assert [r["size"] for r in lsi["regions"]] == [256, 1024, 8192]
    types = {t["name"] for t in qmp.execute("qom-list-types")}
    assert {"lsi53c895a", "scsi-hd", "pci-proxy-dev", "isa-debug-exit"} <= types
    assert qmp.execute("device-list-properties", typename="scsi-hd")
    with pytest.raises(QmpError):
        qmp.execute("device-list-properties", typename="nix")
    for name in ("control", "cpu", "disk0"):
        steps = {s["step"]: s["state"] for s in processes[name]["sandbox"]["steps"]}
        assert steps["seccomp"] == steps["no-new-privs"] == "done", (name, steps)
    qmp.execute("stop")
    assert qmp.execute("query-status")["status"] == "paused"
    qmp.execute("cont")
    qmp.execute("system_reset")
    assert qmp.wait_event("RESET")["data"] == {"guest": False, "reason": "host-qmp-system-reset"}
    qmp.execute("quit")
    assert one.finish() == (0, [])


def test_a_wrong_kernel_is_refused_with_one_sentence(new_control):
    one = new_control("-m", "64", fake=False)
    status, lines = one.run()
    assert status == 1 and len(lines) == 1 and str(one.folder / "kernel") in lines[0], lines


@pytest.mark.parametrize("how", ["unix", "inherited"])
def test_a_device_of_a_process_started_by_hand(new_control, programs, tmp_path, how):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path = tmp_path / "primary"
    there = f"unix:{path},server" if how == "unix" else str(theirs.fileno())
    with subprocess.Popen([programs.path("bulkhead-dev"), there, "-device", "csum,id=c0"],
                          pass_fds=[theirs.fileno()]) as server:
        theirs.close()
        try:
            end = time.monotonic() + 10
            while how == "unix" and not path.exists() and time.monotonic() < end:
                time.sleep(0.01)
            here = f"unix:{path}" if how == "unix" else str(ours.fileno())
            one = new_control(*guest_options(programs, "csum"), "-nographic", "-device",
                              "isa-debug-exit,iobase=0xf4,iosize=4", "-device",
                              f"pci-proxy-dev,id=c0,socket={here}", kernel=False, fake=False)
            done = subprocess.run(one.command, stdin=subprocess.DEVNULL, capture_output=True,
                                  text=True, check=False, pass_fds=[ours.fileno()], timeout=60)
            assert done.returncode == 1 and "PASS" in done.stdout, done     # (0 << 1) | 1
            assert done.stderr == ""
            ours.close()
            if how == "inherited":
                assert server.wait(10) == 0
        finally:
            server.kill()
