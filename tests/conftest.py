# SPDX-License-Identifier: Apache-2.0
"""Whole-machine tests. A test marked "linux" boots a Linux guest and needs hardware KVM: where
this machine has none, the marked tests of a module run together in the lab (tools/lab), and their
outcomes are reported here as if they had run here.

    pytest tests --build build/normal              everything
    pytest tests --vmm qemu tests/lab              the tests themselves, against stock QEMU
"""
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

TESTS = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(TESTS)
sys.path[:0] = [os.path.join(TESTS, "lib"), os.path.join(TOP, "tools")]

from labkit import host, lab  # noqa: E402
import machine  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--build", default=os.path.join(TOP, "build", "normal"),
                     help="the build folder with the programs")
    parser.addoption("--vmm", default="bulkhead", choices=("bulkhead", "qemu"),
                     help="qemu: stock QEMU in our place, to test the tests")
    parser.addoption("--no-lab", action="store_true", help="run everything on this machine")
    parser.addoption("--outcomes", help="append each outcome to this file, as a JSON line")


def pytest_configure(config):
    config.addinivalue_line("markers", "linux(timeout=240): boots Linux guests: needs hardware "
                                       "KVM, or the lab; timeout in seconds")
    config.lab_outcomes = {}
    config.labs = None


@pytest.fixture
def programs(request):
    """Where the programs under test are."""
    return machine.Programs(request.config.getoption("--build"))


@pytest.fixture(autouse=True)
def memory_for_the_next(request):
    """In the lab files are memory: a test's images go when it ends."""
    lab_files = "BULKHEAD_LAB" in os.environ and "tmp_path" in request.fixturenames
    path = request.getfixturevalue("tmp_path") if lab_files else None
    yield
    if path:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def new_machine(request, programs, tmp_path):
    """new_machine(**options) gives a machine.Machine; all are stopped when the test ends, and what
    they said is part of a failure's report."""
    made = []

    def make(**options):
        one = machine.Machine(programs, tmp_path / f"vm{len(made)}",
                              vmm=request.config.getoption("--vmm"), **options)
        made.append(one)
        return one

    yield make
    for one in made:
        one.kill()
        for title, text in one.transcript():
            request.node.add_report_section("call", title, text)


# --- running marked tests in the lab ---------------------------------------------------------

def _needs_lab(item):
    return (item.get_closest_marker("linux") and not item.config.getoption("--no-lab")
            and host.kvm_kind() != "hardware")


def _timeout(item):
    return item.get_closest_marker("linux").kwargs.get("timeout", 240) * machine.PATIENCE


def _read_outcomes(path):
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as f:
        return {o["nodeid"]: o for o in map(json.loads, f)}


# The lab's emulated CPU sometimes loses a guest's state in nested virtualisation, under heavy I/O:
# stock QEMU's guests die of it too (see tools/README.md). Such a death is tried once more, in a new
# lab, and said; a second one is a failure.
LAB_SUSPECT = "met a triple fault"


def _suspects(config, items):
    return [i for i in items if i.nodeid in config.lab_outcomes
            and config.lab_outcomes[i.nodeid]["outcome"] == "failed"
            and LAB_SUSPECT in config.lab_outcomes[i.nodeid]["text"]]


def _run_in_lab(config, items):
    """Runs the items in one lab, or in a second one what a lab that died had not ended yet."""
    pending = list(items)
    for attempt in range(2):
        with tempfile.TemporaryDirectory(prefix="bulkhead-tests-") as out:
            outcomes = os.path.join(out, "outcomes")
            limit = 60 + sum(_timeout(item) for item in pending)
            command = [os.path.join(TOP, "tools", "lab"), "--timeout", str(limit), "--out", out,
                       "--", "/usr/bin/python3", "-m", "pytest", "-q", "--no-lab", "--outcomes", outcomes,
                       "--build", os.path.abspath(config.getoption("--build")),
                       "--vmm", config.getoption("--vmm")]
            command += [os.path.join(config.rootpath, item.nodeid) for item in pending]
            done = subprocess.run(command, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True, errors="replace", check=False)
            config.lab_outcomes.update(_read_outcomes(outcomes))
        suspects = _suspects(config, pending) if attempt == 0 else []
        for item in suspects:
            del config.lab_outcomes[item.nodeid]
            print(f"\n{item.nodeid}: the guest met a triple fault in the lab; trying once more",
                  file=sys.stderr)
        pending = [item for item in pending if item.nodeid not in config.lab_outcomes]
        if (done.returncode != lab.STATUS_DIED and not suspects) or not pending:
            break
        print(f"\n{done.stdout}\nrunning the rest again, in a new lab", file=sys.stderr)
    for item in pending:
        config.lab_outcomes[item.nodeid] = {
            "outcome": "failed", "seconds": 0, "sections": [],
            "text": f"the lab gave no outcome (status {done.returncode}):\n{done.stdout}"}


def _labs_at_once():
    """As many as there are CPUs, and as memory for them: a lab takes 2 GiB and what it caches."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(os.cpu_count(), memory // (5 << 29)))


def _start_labs(session):
    """Gives the marked tests of each module to a lab; several run at once. The longest first."""
    modules = {}
    for item in session.items:
        if _needs_lab(item):
            modules.setdefault(item.fspath, []).append(item)
    pool = concurrent.futures.ThreadPoolExecutor(_labs_at_once())
    longest = sorted(modules, key=lambda path: -sum(map(_timeout, modules[path])))
    return {path: pool.submit(_run_in_lab, session.config, modules[path]) for path in longest}


def pytest_runtest_protocol(item, nextitem):
    if not _needs_lab(item):
        return None
    config = item.config
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    if config.labs is None:
        config.labs = _start_labs(item.session)
    config.labs[item.fspath].result()
    seen = config.lab_outcomes[item.nodeid]
    for when in ("setup", "call", "teardown"):
        ours = when == "call"
        text = seen["text"] if ours and seen["outcome"] != "passed" else None
        if ours and seen["outcome"] == "skipped":
            text = (str(item.fspath), 0, seen["text"])
        report = pytest.TestReport(
            nodeid=item.nodeid, location=item.location, keywords={}, longrepr=text, when=when,
            outcome=seen["outcome"] if ours else "passed",
            sections=[tuple(s) for s in seen["sections"]] if ours else [],
            duration=seen["seconds"] if ours else 0)
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Collects the outcome of all three phases, and writes it after the last."""
    report = (yield).get_result()
    path = item.config.getoption("--outcomes")
    if not path:
        return
    seen = item.__dict__.setdefault("bulkhead_outcome", {
        "nodeid": item.nodeid, "outcome": "passed", "text": "", "sections": [], "seconds": 0})
    seen["seconds"] += report.duration
    if report.outcome != "passed" and seen["outcome"] == "passed":
        seen["outcome"] = report.outcome
        seen["text"] = report.longreprtext if report.failed else str(report.longrepr[2])
    if report.when == "teardown":
        seen["sections"] = report.sections if seen["outcome"] == "failed" else []
        with open(path, "a", encoding="utf-8") as f:
            f.write(json.dumps(seen) + "\n")
