"""What is to run, and what of that can be found out without running it: the program, the environment, the folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import attrs

PASSED_ON = ("PATH", "HOME", "LANG")


class NotLaunched(Exception):
    """A process could not be started, or not be made ready. The message is the reason, for people."""


@attrs.frozen(kw_only=True)
class Spec:
    """A process that prints the path of its Unix socket. Times are seconds.

    `command`: the program and its arguments; a bare name is looked up on PATH, `~` stands for the home. `env`: what it
    gets besides PATH, HOME and LANG; its values are taken for secrets, as are `secrets`, which it gets to know in other
    ways. `cwd`: None, the router's own.
    `start_timeout`: to the path on stdout. `stop_grace`: between SIGTERM and SIGKILL.

    After an exit it is started again in `backoff_base`, then twice that and so on up to `backoff_max`; `most_exits`
    within `period` are a crash loop: it has failed then and is tried once every `retry_failed`.
    """

    name: str
    command: tuple[str, ...] = attrs.field(validator=attrs.validators.min_len(1))
    env: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)
    cwd: Path | None = None
    start_timeout: float = 30.0
    stop_grace: float = 5.0
    backoff_base: float = 0.25
    backoff_max: float = 30.0
    most_exits: int = 5
    period: float = 60.0
    retry_failed: float = 300.0


def environment(spec: Spec, ours: Mapping[str, str] | None = None) -> dict[str, str]:
    """All that the process gets to see of an environment: PATH, HOME and LANG of `ours`, and what is declared."""
    given = os.environ if ours is None else ours
    return {name: given[name] for name in PASSED_ON if name in given} | dict(spec.env)


def folder(spec: Spec) -> Path | None:
    """The folder it starts in. Raises NotLaunched where that is none."""
    if spec.cwd is None:
        return None
    wanted = spec.cwd.expanduser()
    if not wanted.is_dir():
        raise NotLaunched(f"its cwd {str(wanted)!r} is not a folder")
    return wanted


def program(spec: Spec, environ: Mapping[str, str]) -> str:
    """The path of its program, looked up as the process itself would. Raises NotLaunched, saying where was looked."""
    name = os.path.expanduser(spec.command[0])
    if os.sep in name:
        path = os.path.join(folder(spec) or "", name)
        if not os.path.exists(path):
            raise NotLaunched(f"its command {name!r} does not exist")
        if os.path.isdir(path) or not os.access(path, os.X_OK):
            raise NotLaunched(f"its command {name!r} is not a program that may be run")
        return os.path.abspath(path)
    search = environ.get("PATH", os.defpath)
    found = shutil.which(name, path=search)
    if found is None:
        raise NotLaunched(f"its command {name!r} is not found on its PATH ({search})")
    return os.path.abspath(found)
