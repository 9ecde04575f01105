"""The daemon's log: all that it writes to stdout and stderr, its last words included, in files of bounded size."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import attrs

MOST_BYTES = 10 * 1024 * 1024
KEPT = 5  # files beside the current one: daemon.log.1 is the newest


@attrs.define(eq=False)
class RollingLog:
    """`path` is what stdout and stderr of this process go to, from `open` on.

    Descriptors are redirected rather than records written: what Python itself prints as it ends, and what C code
    prints, belongs there as well.
    """

    path: Path
    most_bytes: int = MOST_BYTES
    kept: int = KEPT

    def open(self) -> int:
        """Redirect stdout and stderr; returns how much was in the file already."""
        sys.stdout.flush()
        sys.stderr.flush()
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.dup2(fd, 1)
            os.dup2(fd, 2)
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def roll(self) -> bool:
        """Begin a new file if this one is large, or was removed; whether it did. To be called now and then."""
        written = os.fstat(2)
        if written.st_nlink and written.st_size < self.most_bytes:
            return False
        if written.st_nlink:
            for number in range(self.kept - 1, 0, -1):
                _rename(self._older(number), self._older(number + 1))
            _rename(self.path, self._older(1))
        self.open()
        return True

    def _older(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def _rename(old: Path, new: Path) -> None:
    try:
        os.replace(old, new)
    except FileNotFoundError:
        pass
