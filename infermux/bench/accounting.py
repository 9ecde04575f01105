"""CPU time and memory of a process tree, as the operating system accounts them.

A tree is a session (its id), a child in a session of its own and all that it started; or a family (process ids),
those processes and their descendants. Linux only: elsewhere there is no /proc to read.

CPU time comes from each process's CPU clock (clock_getcpuclockid(3)): nanoseconds, all threads, ended ones included.
Children that have ended are added from /proc/PID/stat, in ticks of usually 10 ms.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import attrs

_CPUCLOCK_SCHED = 2  # linux/posix-timers.h: the scheduler's own nanosecond accounting
_PROC = Path("/proc")
_LISTEN = "0A"  # include/net/tcp_states.h
_DEEPEST = 100
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@attrs.frozen(kw_only=True)
class Memory:
    """KiB over the whole tree; `peak` adds the peaks of the processes, which may lie at different moments."""

    resident: int = 0
    peak: int = 0


AVAILABLE = _PROC.is_dir()

Tree: TypeAlias = int | frozenset[int]


def members(tree: Tree) -> list[int]:
    """The process ids of a tree, without those that have ended and only wait to be reaped."""
    return [pid for pid, fields in _of(tree) if fields[0] != "Z"]


def cpu_ns(tree: Tree) -> int:
    """CPU nanoseconds that the tree has used since it was started."""
    return sum(_process_ns(pid) + _reaped_children_ns(fields) for pid, fields in _of(tree))


def memory(tree: Tree) -> Memory:
    """Resident memory of the tree now, and its peak."""
    resident = peak = 0
    for pid in members(tree):
        status = _status(pid)
        resident += status.get("VmRSS", 0)
        peak += status.get("VmHWM", 0)
    return Memory(resident=resident, peak=peak)


def _of(tree: Tree) -> Iterator[tuple[int, list[str]]]:
    found = dict(_stats())
    for pid, fields in found.items():
        if int(fields[3]) == tree if isinstance(tree, int) else _descends(pid, tree, found):
            yield pid, fields


def _descends(pid: int, roots: frozenset[int], found: Mapping[int, list[str]]) -> bool:
    for _ in range(_DEEPEST):  # a process may end, and its number be given again, while the table is read
        if pid in roots:
            return True
        if pid not in found:
            return False
        pid = int(found[pid][1])
    return False


def listeners(port: int) -> frozenset[int]:
    """The processes of this user on this machine that listen on a TCP port; empty where they cannot be seen."""
    inodes = set(_listening(port))
    if not inodes:
        return frozenset()
    return frozenset(pid for pid, _ in _stats() if _holds(pid, inodes))


def _listening(port: int) -> Iterator[str]:
    """The inodes of sockets that listen on it, as links to them are written: proc(5), /proc/net/tcp."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield f"socket:[{fields[9]}]"


def _holds(pid: int, inodes: set[str]) -> bool:
    try:
        return any(os.readlink(entry) in inodes for entry in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # somebody else's, or it has ended, or one of its files was closed meanwhile
        return False


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Each process with the fields of its stat behind the command name: state, parent, group, session, ..."""
    if not AVAILABLE:
        return
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:  # it has ended meanwhile
                continue
            yield int(entry.name), text.rpartition(")")[2].split()


def _process_ns(pid: int) -> int:
    try:
        return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return 0


def _reaped_children_ns(fields: list[str]) -> int:
    return (int(fields[13]) + int(fields[14])) * _TICK_NS


def _status(pid: int) -> dict[str, int]:
    """The KiB values of /proc/PID/status."""
    try:
        lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":")[::2] for line in lines if line.endswith(" kB"))
    return {name: int(value.split()[0]) for name, value in pairs}
