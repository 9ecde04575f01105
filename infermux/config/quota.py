"""How much of the processors' time this process may have, where a container or a service is not given all of it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Final

GROUPS: Final = Path("/proc/self/cgroup")
MOUNT: Final = Path("/sys/fs/cgroup")


def quota(groups: Path = GROUPS, mount: Path = MOUNT) -> float | None:
    """Processors' worth of time, the least that any of our control groups has; None where none of them is bounded.

    Of cgroup v2, see `cpu.max` in Documentation/admin-guide/cgroup-v2.rst of Linux ("$MAX $PERIOD" in microseconds, or
    "max") and /proc/PID/cgroup in cgroups(7) ("0::/path"). Of a container's own namespace our group is the root.
    """
    try:
        lines = groups.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    ours = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    if ours is None:
        return None
    parts = PurePosixPath(ours).parts[1:]
    if ".." in parts:  # it is outside of what is mounted here
        parts = ()
    bounds = [_bound(mount.joinpath(*parts[:depth], "cpu.max")) for depth in range(len(parts) + 1)]
    return min((bound for bound in bounds if bound is not None), default=None)


def _bound(file: Path) -> float | None:
    try:
        most, period = file.read_text(encoding="ascii").split()
        return None if most == "max" else int(most) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # the root of all has none, nor has a group without the controller
        return None
