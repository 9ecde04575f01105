"""The machine the figures come from: which CPUs do what, and what to write beside the figures."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Generator
from importlib import metadata
from pathlib import Path

import attrs

from .tools import ROOT


@attrs.frozen(kw_only=True)
class Placement:
    """The gateway has a CPU of its own; mock, load generator and runner share another. With one CPU all share it."""

    gateway: frozenset[int]
    others: frozenset[int]


def placement() -> Placement:
    """The first usable CPU for the gateway, the second for the rest."""
    usable = sorted(os.sched_getaffinity(0))
    return Placement(gateway=frozenset(usable[:1]), others=frozenset(usable[1:2] or usable[:1]))


@contextlib.contextmanager
def pinned(cpus: frozenset[int]) -> Generator[None]:
    """Processes started inside inherit these CPUs from their first instruction on."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe() -> dict[str, str]:
    """CPU, kernel, Python, the versions that matter and the commit of the working tree."""
    return {
        "cpu": _cpu_model(),
        "cpus": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        **{name: _version(name) for name in ("infermux", "trio", "httptools", "hypercorn", "quart-trio")},
        "commit": _commit(),
        "load_average": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
