"""Start the scripted provider, and look for what may be left of a process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from infermux.processes import ProviderProcess, Spec

SCRIPT = Path(__file__).with_name("_provider.py")
SOON = 10.0


def spec(*steps: list[Any], name: str = "scripted", arguments: tuple[str, ...] = (), **more: Any) -> Spec:
    """A `Spec` of a process that plays `steps`."""
    command = (sys.executable, "-I", "-S", str(SCRIPT), *arguments, json.dumps(steps))
    return Spec(name=name, command=command, **more)


@asynccontextmanager
async def running(wanted: Spec) -> AsyncGenerator[ProviderProcess]:
    """Run the process of `wanted` for as long as the block."""
    process = ProviderProcess(wanted)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.run)
        yield process
        nursery.cancel_scope.cancel()


async def until(holds: Callable[[], bool], *, within: float = SOON) -> None:
    with trio.move_on_after(within):
        while not holds():  # noqa: ASYNC110 - what is waited for is outside of this process
            await trio.sleep(0.01)
        return
    raise AssertionError("it did not happen in time")


def group_is_gone(pgid: int) -> bool:
    """Whether no process of the group is left, zombies aside: a killed router's are reaped by somebody else."""
    return not any(pgid == of_group and state != "Z" for of_group, state, _ in processes())


def is_gone(pid: int) -> bool:
    return not any(pid == of_pid and state != "Z" for _, state, of_pid in processes())


def processes() -> list[tuple[int, str, int]]:
    """Process group, state and pid of each, from /proc/PID/stat (proc(5))."""
    found: list[tuple[int, str, int]] = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            found.append((int(fields[2]), fields[0], int(entry)))
    return found


def children_of(pid: int) -> list[int]:
    """The pids of what `pid` has started and not reaped."""
    found: list[int] = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry))
    return found
