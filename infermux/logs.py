"""How the server logs: lines for people, or JSON for machines, on stderr.

A line per request would be a write to stderr per request, and whoever reads that slowly would hold the event loop. So
the lines of `Fields` below a warning are only put aside, and a thread renders and writes all there are at once.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

import msgspec
import structlog

from infermux.config.settings import LogSettings

WRITE_EVERY = 0.1  # seconds
MOST_KEPT = 10_000  # lines put aside; beyond that they are counted only

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_LINE_NAMES = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}


class Fields(ABC):
    """What may be logged in place of a message: `str()` is its line for people, `fields` are for machines."""

    __slots__ = ()
    event: str

    @abstractmethod
    def fields(self) -> Mapping[str, Any]: ...


def set_up_logging(settings: LogSettings) -> None:
    """Send everything logged below `infermux` (and warnings of the libraries) to stderr as `settings` ask."""
    handler = Lines(sys.stderr)
    handler.setFormatter(LineFormatter(settings, colors=sys.stderr.isatty()))
    # What no line shows need not be found out (https://docs.python.org/3/howto/logging.html#optimization).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    former, root.handlers[:] = root.handlers[:], [handler]
    for each in former:
        if isinstance(each, Lines):
            each.close()
    root.setLevel(logging.WARNING)
    logging.getLogger("infermux").setLevel(_LEVELS[settings.level])


def _chain(settings: LogSettings) -> list[Any]:
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
    ]
    if settings.timestamps:
        shared.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    if settings.format == "json":
        shared.append(structlog.processors.format_exc_info)
    return shared


class LineFormatter(structlog.stdlib.ProcessorFormatter):
    """structlog's rendering; `Fields` are rendered here, to the same look at a twentieth of the cost."""

    def __init__(self, settings: LogSettings, *, colors: bool = False) -> None:
        self._json = settings.format == "json"
        self._timestamps = settings.timestamps
        renderer: Any
        if self._json:
            renderer = structlog.processors.JSONRenderer()
        else:
            # Plain tracebacks: the pretty ones print local variables, and with them bodies and credentials.
            renderer = structlog.dev.ConsoleRenderer(
                colors=colors, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
            )
        super().__init__(
            foreign_pre_chain=_chain(settings),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
        self._colors = colors

    def format(self, record: logging.LogRecord) -> str:
        said: Any = record.msg
        if isinstance(said, Fields):
            if self._json:
                return self._as_json(record, said)
            if not self._colors:
                level = _LINE_NAMES.get(record.levelno, "info")
                when = f"{_iso(record.created)} " if self._timestamps else ""
                return f"{when}[{level:<9}] {said.event} [{record.name}] {said}"
        return super().format(record)

    def _as_json(self, record: logging.LogRecord, said: Fields) -> str:
        line = {"event": said.event, "level": _LINE_NAMES.get(record.levelno, "info"), "logger": record.name}
        if self._timestamps:
            line["timestamp"] = _iso(record.created)
        line.update(said.fields())
        return _ENCODER.encode(line).decode()


_ENCODER = msgspec.json.Encoder()


def _iso(seconds: float) -> str:
    """A time as RFC 3339 has it, to the microsecond."""
    whole, micro = divmod(round(seconds * 1e6), 1_000_000)
    return f"{_second(whole)}.{micro:06d}Z"


@lru_cache(maxsize=4)
def _second(whole: int) -> str:
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")


_FOUND_OUT = {
    **dict.fromkeys(vars(logging.LogRecord("", 0, "", 0, "", None, None))),
    **{"args": (), "pathname": "", "filename": "", "module": "", "lineno": 0, "msecs": 0.0},
}


class FieldsRecord(logging.LogRecord):
    """A record of `Fields`, in which nothing is found out but what their lines show: the rest costs more than they."""

    def __init__(self, name: str, level: int, said: Fields) -> None:
        word = logging.getLevelName(level)
        self.__dict__.update(_FOUND_OUT, name=name, levelno=level, levelname=word, msg=said, created=time.time())


def log_fields(log: logging.Logger, level: int, said: Fields) -> None:
    """Log `said`, without looking for the place this is called from: that costs more than all the rest."""
    if log.isEnabledFor(level):
        log.handle(FieldsRecord(log.name, level, said))


class Lines(logging.StreamHandler[TextIO]):
    """Writes at once, but for what `Fields` say below a warning: that is written by a thread, soon, or before the next
    other line. `lost` counts lines for which there was no room; a line says so."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.lost = 0
        self._kept: deque[logging.LogRecord] = deque()
        self._stop = threading.Event()
        self._writer: threading.Thread | None = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Without the handler's lock for what is put aside: the thread may hold it for as long as a write takes."""
        if record.levelno >= logging.WARNING or not isinstance(record.msg, Fields):
            return bool(super().handle(record))
        if len(self._kept) >= MOST_KEPT:
            self.lost += 1
            return True
        self._kept.append(record)
        if self._writer is None:
            self._writer = threading.Thread(target=self._write, name="infermux log", daemon=True)
            self._writer.start()
        return True

    def emit(self, record: logging.LogRecord) -> None:
        self._write_kept()
        super().emit(record)

    def flush(self) -> None:
        self.acquire()
        try:
            self._write_kept()
            super().flush()
        finally:
            self.release()

    def close(self) -> None:
        """Write what is there, and end the thread."""
        self._stop.set()
        self.flush()
        super().close()

    def _write(self) -> None:
        while not self._stop.wait(WRITE_EVERY):
            if self._kept:
                self.flush()

    def _write_kept(self) -> None:
        """Under the handler's lock."""
        lines: list[str] = []
        while self._kept:
            record = self._kept.popleft()
            try:
                lines.append(self.format(record) + self.terminator)
            except Exception:
                self.handleError(record)
        lost, self.lost = self.lost, 0
        if lost:
            lines.append(f"{lost} lines of requests were not written: stderr takes them too slowly{self.terminator}")
        with suppress(OSError, ValueError):  # nobody reads stderr any more: there is no place to say so
            self.stream.write("".join(lines))
