"""Lines of the log on their way to stderr, which may be a pipe that nobody reads: then a thread waits, nobody else."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, TextIO

import msgspec

WRITE_EVERY = 0.5  # seconds: each time it wakes up costs as much as twenty lines
MOST_KEPT = 10_000  # lines that wait; beyond that they are counted only ...
MORE_KEPT: Final = 1_000  # ... but for some more of warnings and errors
GIVEN_UP_AFTER = 1.0  # seconds that the last lines may take


class Fields(ABC):
    """What may be logged in place of a message: `str()` is its line for people, `fields` are for machines.

    It never changes: it is rendered when it is written.
    """

    __slots__ = ()
    event: str

    @abstractmethod
    def fields(self) -> Mapping[str, Any] | msgspec.Struct:
        """By name, what JSON can say; none is called `event`, `level`, `logger` or `timestamp`."""
        ...


class FieldsFormatter(ABC):
    """A formatter that makes lines of `Fields` without a record of logging's, which is larger than the line."""

    @abstractmethod
    def line(self, said: Fields, *, logger: str, level: int, created: float) -> str:
        """`created` in seconds since 1970."""
        ...


Kept = tuple[Fields, str, int, float]
"""Fields that wait to be rendered: of which logger, level and time."""


class Lines(logging.Handler):
    """Takes lines without ever waiting, and has a thread write them: in order, warnings and errors at once, the others
    soon. `lost` counts those there was no room for since a line last said so.

    What is logged as `Fields` is rendered by the thread too.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream
        self.lost = 0
        self._kept: deque[Kept | str] = deque()
        self._busy = False  # the thread has taken lines that it has not written yet
        self._wake = threading.Event()
        self._asleep = False  # the thread waits for the next line
        self._closed = False
        self._writer: threading.Thread | None = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Put `record` aside. Without the handler's lock: nobody holds it for long."""
        said: Any = record.msg
        if isinstance(said, Fields):
            self.take(said, record.name, record.levelno, record.created)
        elif self._has_room(record.levelno):
            self._keep(self._rendered(record), record.levelno)
        return True

    def take(self, said: Fields, logger: str, level: int, created: float) -> None:
        """Put a line aside that is to be rendered; `created` in seconds since 1970."""
        if self._has_room(level):
            self._keep((said, logger, level, created), level)

    def _has_room(self, level: int) -> bool:
        kept = len(self._kept)
        if kept < MOST_KEPT or (level >= logging.WARNING and kept < MOST_KEPT + MORE_KEPT):
            return True
        self.lost += 1
        return False

    def _keep(self, line: Kept | str, level: int) -> None:
        self._kept.append(line)
        if self._asleep or level >= logging.WARNING:
            self._wake.set()
        if self._writer is None:
            self._start()

    def flush(self) -> None:
        """Return when what was put aside is written, or after a second in which it could not be."""
        until = time.monotonic() + GIVEN_UP_AFTER
        self._wake.set()
        while (self._kept or self._busy) and self._writer is not None and time.monotonic() < until:
            time.sleep(0.001)

    def close(self) -> None:
        """Write what is there, as `flush` does, and end the thread."""
        self.flush()
        self._closed = True
        self._wake.set()
        super().close()

    def _start(self) -> None:
        with self.lock or threading.Lock():
            if self._writer is None:
                # A daemon: one that nobody reads from must not keep the process from ending.
                self._writer = threading.Thread(target=self._run, name="infermux log", daemon=True)
                self._writer.start()

    def _run(self) -> None:
        while not self._closed:
            written = bool(self._kept)
            if written:
                self._busy = True
                self._write_kept()
                self._busy = False
            self._wait(written)

    def _wait(self, written: bool) -> None:
        """Where some have just been written, for as many as come in a while; else for the next one."""
        if written:
            self._wake.wait(WRITE_EVERY)
        else:
            self._asleep = True
            if not self._kept:  # whoever puts one aside from now on sees that it has to wake this thread
                self._wake.wait()
            self._asleep = False
        self._wake.clear()

    def _write_kept(self) -> None:
        lines: list[str] = []
        while self._kept:
            kept = self._kept.popleft()
            lines.append(kept if isinstance(kept, str) else self._line(kept))
        lost, self.lost = self.lost, 0
        if lost:
            said = "%d lines were not written: whoever reads stderr is too slow"
            lines.append(self._rendered(logging.LogRecord(__name__, logging.WARNING, "", 0, said, (lost,), None)))
        with suppress(OSError, ValueError):  # nobody reads stderr any more: there is no place to say so
            self._write("".join(lines))

    def _line(self, kept: Kept) -> str:
        said, logger, level, created = kept
        formatter: Any = self.formatter
        if isinstance(formatter, FieldsFormatter):
            try:
                return f"{formatter.line(said, logger=logger, level=level, created=created)}\n"
            except Exception:
                self.handleError(_record(kept))
                return ""
        return self._rendered(_record(kept))

    def _rendered(self, record: logging.LogRecord) -> str:
        try:
            return f"{self.format(record)}\n"
        except Exception:
            self.handleError(record)
            return ""

    def _write(self, text: str) -> None:
        try:
            descriptor = self.stream.fileno()
        except (AttributeError, OSError):  # what has none is in memory
            self.stream.write(text)
            return
        # Past the stream's own buffer: its lock, held for as long as this takes, would hold the process's end.
        left = memoryview(text.encode("utf-8", "backslashreplace"))
        while left:
            try:
                left = left[os.write(descriptor, left) :]
            except BlockingIOError:  # somebody who has stderr too has made it so
                select.select([], [descriptor], [])


def _record(kept: Kept) -> logging.LogRecord:
    said, logger, level, created = kept
    shown = {"name": logger, "levelno": level, "levelname": logging.getLevelName(level), "created": created}
    return logging.makeLogRecord({**shown, "msg": said})
