# SPDX-License-Identifier: Apache-2.0
"""The lab itself: what tools/lab promises to whoever runs a command in it."""
import os
import subprocess
import time

import pytest
from labkit import kernel

LAB = os.path.join(os.path.dirname(__file__), "..", "..", "tools", "lab")


@pytest.fixture(autouse=True, scope="module")
def downloaded():
    """What happens at first use alone is no part of what is tested."""
    kernel.get()


def lab(*args, **options):
    return subprocess.run([LAB, "--force", *map(str, args)], capture_output=True, text=True,
                          check=False, timeout=200, **options)


def test_output_status_environment_and_folder_come_through(tmp_path):
    done = lab("--", "sh", "-c", "echo out; echo err >&2; pwd; echo \"$GREETING\"; exit 7",
               cwd=tmp_path, env={**os.environ, "GREETING": "it's \"quoted\"\nand long"})
    assert done.returncode == 7
    assert done.stdout == f"out\n{tmp_path}\nit's \"quoted\"\nand long\n"
    assert done.stderr == "err\n"


def test_starting_and_ending_cost_less_than_ten_seconds():
    lab("--", "true")       # what is made once is made
    begin = time.monotonic()
    assert lab("--", "true").returncode == 0
    assert time.monotonic() - begin < 10


def test_it_has_what_a_vmm_needs():
    done = lab("--", "sh", "-ec", "grep -qw svm /proc/cpuinfo; test -w /dev/kvm; "
               "test -w /dev/net/tun; mountpoint -q /dev/shm; echo x >/tmp/x; echo x >/run/x; "
               "unshare -Unm true; echo all there")
    assert (done.returncode, done.stdout) == (0, "all there\n"), done.stderr


def test_changes_are_forgotten_but_in_the_shares(tmp_path):
    share, other = tmp_path / "share", tmp_path / "other"
    other.mkdir()
    (other / "kept").write_text("before")
    done = lab("--out", share, "--", "sh", "-ec",
               f"echo hello >{share}/file; echo changed >{other}/kept; echo new >{other}/new")
    assert done.returncode == 0, done.stderr
    assert (share / "file").read_text() == "hello\n"
    assert (other / "kept").read_text() == "before"
    assert os.listdir(other) == ["kept"]


def test_a_time_limit_is_not_a_failure_of_the_command():
    done = lab("--timeout", 9, "--", "sleep", 100)
    assert done.returncode == 124
    assert "time limit of 9 s" in done.stderr


def test_a_lab_that_dies_is_not_a_failure_of_the_command():
    done = lab("--", "sh", "-c", "echo begun; echo c >/proc/sysrq-trigger; sleep 100")
    assert done.returncode == 125
    assert "the lab died, not the command" in done.stderr
    assert done.stdout.count("begun") == 1      # what had begun is not run twice


def test_a_lab_that_does_not_start_is_tried_twice():
    done = lab("--append", "init=/nothing rdinit=/nothing", "--", "true")
    assert done.returncode == 125
    assert done.stderr.count("the lab died") == 2
