# SPDX-License-Identifier: Apache-2.0
"""What the kernel says about running processes: what they can reach, and what they cost."""
import dataclasses
import os
import re

UNKNOWN = "?"


def descendants(pid):
    """[(pid, program name)] of all processes below pid, parents first."""
    parents = {}
    names = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            parent = re.search(r"^PPid:\s*([0-9]+)", _read(entry, "status"), re.MULTILINE)
            names[int(entry)] = program_name(entry)
            parents[int(entry)] = int(parent.group(1))
        except (OSError, AttributeError):
            continue
    below = []
    front = [pid]
    while front:
        front = sorted(child for child, parent in parents.items() if parent in front)
        below += [(child, names[child]) for child in front]
    return below


def program_name(pid):
    first = _read(pid, "cmdline").split("\0")[0]
    return os.path.basename(first) or _read(pid, "comm").strip()


@dataclasses.dataclass
class Facts:
    """One process, in the words of the kernel; UNKNOWN where we may not look."""
    pid: int
    role: str
    uid: str = UNKNOWN
    caps: str = UNKNOWN
    no_new_privs: str = UNKNOWN
    seccomp: str = UNKNOWN
    mounts: str = UNKNOWN
    network: str = UNKNOWN
    namespaces: str = UNKNOWN
    fds: str = UNKNOWN
    threads: str = UNKNOWN
    private_kib: int = -1
    rss_kib: int = -1


def look(pid, role=None):
    """Facts about a process, or None when it is gone."""
    try:
        status = dict(line.split(":", 1) for line in _read(pid, "status").splitlines())
    except OSError:
        return None
    status = {key: value.strip() for key, value in status.items()}
    facts = Facts(pid, role or program_name(pid))
    facts.uid = status["Uid"].split()[1]
    facts.caps = _capabilities(int(status["CapEff"], 16))
    facts.no_new_privs = "yes" if status["NoNewPrivs"] == "1" else "no"
    facts.seccomp = {"0": "off", "1": "strict"}.get(
        status["Seccomp"], f"filter ({status.get('Seccomp_filters', '?')})")
    facts.threads = status["Threads"]
    for name, reader in (("mounts", _mounts), ("network", _network), ("namespaces", _namespaces),
                         ("fds", _fds)):
        try:
            setattr(facts, name, reader(pid))
        except OSError:
            pass
    try:
        rollup = _read(pid, "smaps_rollup")
        facts.private_kib = _kib(rollup, "Private_Clean") + _kib(rollup, "Private_Dirty")
        facts.rss_kib = _kib(rollup, "Rss")
    except OSError:
        pass
    return facts


COLUMNS = (("role", "role"), ("pid", "pid"), ("uid", "uid"), ("mounts", "mounts"),
           ("network", "network"), ("capabilities", "caps"), ("no new privs", "no_new_privs"),
           ("seccomp", "seccomp"), ("own namespaces", "namespaces"), ("files", "fds"),
           ("threads", "threads"), ("private", "private_kib"), ("resident", "rss_kib"))


def table(rows):
    """The facts as a table for people."""
    cells = [[title for title, _ in COLUMNS]]
    for facts in rows:
        line = []
        for _, field in COLUMNS:
            value = getattr(facts, field)
            if field.endswith("_kib"):
                value = UNKNOWN if value < 0 else f"{value / 1024:.1f} MiB"
            line.append(str(value))
        cells.append(line)
    widths = [max(len(row[i]) for row in cells) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
             for row in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _read(pid, name):
    with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as f:
        return f.read()


def _capabilities(mask):
    if mask == 0:
        return "none"
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as f:
        last = int(f.read())
    return "all" if mask == (1 << (last + 1)) - 1 else f"{bin(mask).count('1')} ({mask:#x})"


def _mounts(pid):
    """How many mounts, and what the root folder holds: an empty one leads nowhere."""
    count = len(_read(pid, "mountinfo").splitlines())
    entries = len(os.listdir(f"/proc/{pid}/root/"))
    return f"{count}, {'empty root' if entries == 0 else f'root of {entries}'}"


def _network(pid):
    lines = _read(pid, "net/dev").splitlines()[2:]
    names = [line.split(":")[0].strip() for line in lines]
    real = [name for name in names if name != "lo"]
    where = "own" if _own_namespace(pid, "net") else "host's"
    return f"{where}: {', '.join(real) or ('lo only' if names else 'nothing')}"


def _own_namespace(pid, kind):
    return os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")


def _namespaces(pid):
    kinds = ("user", "mnt", "net", "pid", "ipc", "uts", "cgroup")
    return " ".join(kind for kind in kinds if _own_namespace(pid, kind)) or "none"


def _fds(pid):
    return str(len(os.listdir(f"/proc/{pid}/fd")))


def _kib(text, key):
    found = re.search(rf"^{key}:\s*([0-9]+) kB", text, re.MULTILINE)
    return int(found.group(1)) if found else 0
