"""The machine the figures come from: which CPUs do what, and what to write beside the figures."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Generator
from importlib import metadata
from pathlib import Path

import attrs


@attrs.frozen(kw_only=True)
class Placement:
    """The gateway has a CPU of its own; mock, load generator and runner share another. With one CPU all share it."""

    gateway: frozenset[int]
    others: frozenset[int]


def placement() -> Placement:
    """The first usable CPU for the gateway, the second for the rest."""
    usable = sorted(usable_cpus())
    return Placement(gateway=frozenset(usable[:1]), others=frozenset(usable[1:2] or usable[:1]))


def usable_cpus() -> frozenset[int]:
    """Those this process may run on; empty where the system does not tell."""
    return frozenset(os.sched_getaffinity(0)) if sys.platform.startswith("linux") else frozenset()


@contextlib.contextmanager
def pinned(cpus: frozenset[int]) -> Generator[None]:
    """Processes started inside inherit these CPUs from their first instruction on; with none they are left alone."""
    if not cpus or not sys.platform.startswith("linux"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe() -> dict[str, str]:
    """CPU, kernel, Python and the versions that matter."""
    return {
        "cpu": cpu_model(),
        "cpus": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        **{name: _version(name) for name in ("infermux", "trio", "httptools", "hypercorn", "quart-trio")},
        "load_average": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }


def cpu_model() -> str:
    """As the system names it, or the architecture where it does not."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
