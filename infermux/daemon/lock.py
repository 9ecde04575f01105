"""One daemon for each home: who holds the lock of `~/.infermux/daemon.lock` is it, and the file says what it is.

The lock (flock) ends with the process, however that ends, so what a killed daemon left in the file misleads nobody.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from infermux.errors import InfermuxError

FOLDER = ".infermux"
WRITTEN_WITHIN = 2.0  # seconds after the lock is taken: what is in the file then is of another daemon
LOOK_EVERY = 0.02
TRIES = 5  # to take the lock: who only looks at it holds it for a moment too


class NotReadable(InfermuxError):
    """A daemon runs, but what it is cannot be found out."""


@attrs.frozen(kw_only=True)
class Home:
    """The folder of one user's daemon."""

    folder: Path

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> Home:
        return cls(folder=Path(environ.get("HOME") or "/", FOLDER))

    @property
    def lock(self) -> Path:
        return self.folder / "daemon.lock"

    @property
    def log(self) -> Path:
        return self.folder / "daemon.log"

    def make(self) -> None:
        """Make the folder, for nobody else to look into. OSError where that cannot be."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@attrs.frozen(kw_only=True)
class Facts:
    """What a daemon says of itself. `since` and `until` are seconds since 1970; `fd`: its descriptor of the lock.

    `arguments` are those of `serve` that it was started with, in `cwd`. `management` is None until it listens.
    `until`: the end of its grace while it is draining.
    """

    pid: int
    fd: int
    since: float
    version: str
    cwd: str
    arguments: tuple[str, ...] = ()
    state: str = "starting"
    config: str | None = None
    url: str | None = None
    management: str | None = None
    cert_file: str | None = None
    in_flight: int = 0
    until: float | None = None

    @classmethod
    def parsed(cls, text: bytes) -> Facts:
        """Raises ValueError or TypeError where no daemon of ours has written that. A newer one may say more."""
        found: Any = json.loads(text)
        known = {field.name for field in attrs.fields(cls)}
        given = {name: value for name, value in found.items() if name in known}
        given["arguments"] = tuple(given.get("arguments", ()))
        return cls(**given)


@attrs.define(eq=False)
class Lock:
    """The lock, held by this process until it ends."""

    fd: int

    @classmethod
    def take(cls, home: Home) -> Lock | None:
        """Take it; None where another process has it. OSError where there can be no such file."""
        import fcntl  # here and below, since what is run in the foreground works without it too

        home.make()
        fd = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for _ in range(TRIES):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(LOOK_EVERY)
            else:
                os.truncate(fd, 0)
                return cls(fd)
        os.close(fd)
        return None

    def tell(self, facts: Facts) -> None:
        """Put `facts` into the file."""
        text = json.dumps(attrs.asdict(facts)).encode()
        # Written before the rest is cut off: a reader may find the new with the old one's end, which is no JSON.
        os.pwrite(self.fd, text, 0)
        os.truncate(self.fd, len(text))

    def release(self) -> None:
        os.close(self.fd)


def holder(home: Home) -> Facts | None:
    """The daemon of `home`; None where none runs. Raises NotReadable where one does and does not say what it is."""
    deadline = time.monotonic() + WRITTEN_WITHIN
    while True:
        facts = _look(home)
        if facts is None or isinstance(facts, Facts):
            return facts
        if time.monotonic() > deadline:
            raise NotReadable(f"{home.lock} is held by a process that does not say what it is: {facts}")
        time.sleep(LOOK_EVERY)


def _look(home: Home) -> Facts | str | None:
    """The facts, None where the lock is free, or why what is in the file is not the holder's."""
    try:
        fd = os.open(home.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    import fcntl

    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            return None
        text = os.pread(fd, 65536, 0)
    finally:
        os.close(fd)
    try:
        facts = Facts.parsed(text)
    except (ValueError, TypeError, AttributeError):
        return "nothing is written in it"
    return facts if _holds(facts, home) else f"process {facts.pid}, which is written in it, does not have it open"


def _holds(facts: Facts, home: Home) -> bool:
    """Whether the process that wrote `facts` has the lock open: it may be what a killed one left, read in the moment
    before its successor writes. Where there is no /proc it is taken for true."""
    if not os.path.isdir("/proc/self/fd"):
        return True
    try:
        return os.path.samefile(f"/proc/{facts.pid}/fd/{facts.fd}", home.lock)
    except OSError:
        return False
