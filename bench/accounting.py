"""CPU time and memory of a process tree, as the operating system accounts them.

A tree is a session: a child in a session of its own and all that it started. CPU time comes from each process's CPU
clock (clock_getcpuclockid(3)): nanoseconds, all threads, ended ones included. Children that have ended are added from
/proc/PID/stat, in ticks of usually 10 ms.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

_CPUCLOCK_SCHED = 2  # linux/posix-timers.h: the scheduler's own nanosecond accounting
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@attrs.frozen(kw_only=True)
class Memory:
    """KiB over the whole tree; `peak` adds the peaks of the processes, which may lie at different moments."""

    resident: int = 0
    peak: int = 0


def members(session: int) -> list[int]:
    """The process ids of a session, without those that have ended and only wait to be reaped."""
    return [pid for pid, fields in _stats() if int(fields[3]) == session and fields[0] != "Z"]


def cpu_ns(session: int) -> int:
    """CPU nanoseconds that the tree has used since it was started."""
    return sum(_process_ns(pid) + _reaped_children_ns(fields) for pid, fields in _stats() if int(fields[3]) == session)


def memory(session: int) -> Memory:
    """Resident memory of the tree now, and its peak."""
    resident = peak = 0
    for pid in members(session):
        status = _status(pid)
        resident += status.get("VmRSS", 0)
        peak += status.get("VmHWM", 0)
    return Memory(resident=resident, peak=peak)


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Each process with the fields of its stat behind the command name: state, parent, group, session, ..."""
    for entry in Path("/proc").iterdir():
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
