"""Whether a database in a file can have changed since it was read, without asking it: by the times of its files."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import attrs

from .place import Place

SETTLES: Final = 2.0
"""Seconds. File times are coarse: a file that was written to less than that ago may be written to again unseen."""


@attrs.frozen
class Stamp:
    """What the system knows of a file and of the log beside it, to which SQLite writes first (`-wal`)."""

    files: tuple[tuple[int, int, int, int] | None, ...]

    def settled(self, now: float) -> bool:
        """Whether a later change is bound to make another stamp. `now` in seconds since 1970."""
        return all(file is None or file[3] / 1e9 < now - SETTLES for file in self.files)

    @classmethod
    def of(cls, place: Place) -> Stamp | None:
        """As of now; None for what is not in a file, or not there."""
        if place.file is None:
            return None
        main = _of_file(place.file)
        return None if main is None else cls((main, _of_file(place.file.with_name(f"{place.file.name}-wal"))))


def _of_file(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@attrs.define(eq=False)
class Seen:
    """A number that was read of a database, for as long as that cannot have changed."""

    _stamp: Stamp | None = None
    _number: int = 0

    def still(self, stamp: Stamp | None) -> int | None:
        """The number, where the database is still what `stamp` says; None: it has to be read."""
        return self._number if stamp is not None and stamp == self._stamp else None

    def note(self, stamp: Stamp | None, number: int) -> None:
        """`number` was read after `stamp` was taken."""
        self._stamp = stamp if stamp is not None and stamp.settled(time.time()) else None
        self._number = number
