"""How the server logs: lines for people, or JSON for machines, on stderr.

Whoever reads stderr slowly must not hold the event loop: every line is written by a thread, see `log_lines.Lines`.
"""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
import structlog

from infermux.config.settings import LogSettings

from .log_lines import Fields, FieldsFormatter, Lines

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_LINE_NAMES = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}


def set_up_logging(settings: LogSettings, *, worker: int | None = None) -> None:
    """Send everything logged below `infermux` (and warnings of the libraries) to stderr as `settings` ask.

    `worker`: which of several processes this is, which every line says then.
    """
    handler = Lines(sys.stderr)
    handler.setFormatter(LineFormatter(settings, colors=sys.stderr.isatty(), worker=worker))
    # What no line shows need not be found out (https://docs.python.org/3/howto/logging.html#optimization).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    former, root.handlers[:] = root.handlers[:], [handler]
    for each in former:
        if isinstance(each, Lines):
            each.close()
    root.setLevel(logging.WARNING)
    logging.getLogger("infermux").setLevel(_LEVELS[settings.level])


def _chain(settings: LogSettings, worker: int | None) -> list[Any]:
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
    ]
    if worker is not None:
        shared.append(_Mark(worker))
    if settings.timestamps:
        shared.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    if settings.format == "json":
        shared.append(structlog.processors.format_exc_info)
    return shared


class _Mark:
    """A processor that says which worker a line is from."""

    def __init__(self, worker: int) -> None:
        self._worker = worker

    def __call__(self, _logger: object, _name: str, said: dict[str, Any]) -> dict[str, Any]:
        said["worker"] = self._worker
        return said


class LineFormatter(structlog.stdlib.ProcessorFormatter, FieldsFormatter):
    """structlog's rendering; `Fields` are rendered here, to the same look at a twentieth of the cost."""

    def __init__(self, settings: LogSettings, *, colors: bool = False, worker: int | None = None) -> None:
        self._worker = worker
        self._mark = "" if worker is None else f" worker={worker}"
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
            foreign_pre_chain=_chain(settings, worker),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
        self._colors = colors

    def format(self, record: logging.LogRecord) -> str:
        said: Any = record.msg
        if isinstance(said, Fields):
            return self.line(said, logger=record.name, level=record.levelno, created=record.created)
        return super().format(record)

    def line(self, said: Fields, *, logger: str, level: int, created: float) -> str:
        if self._json:
            line = _json_head(said.event, level, logger)
            if self._timestamps:
                line = f'{line},"timestamp":"{_iso(created)}"'
            if self._worker is not None:
                line = f'{line},"worker":{self._worker}'
            fields = _ENCODER.encode(said.fields()).decode()[1:]
            return line + fields if fields == "}" else f"{line},{fields}"
        if self._colors:
            record = FieldsRecord(logger, level, said)
            record.created = created
            return super().format(record)
        when = f"{_iso(created)} " if self._timestamps else ""
        return f"{when}[{_LINE_NAMES.get(level, 'info'):<9}] {said.event} [{logger}] {said}{self._mark}"


@lru_cache(maxsize=64)
def _json_head(event: str, level: int, logger: str) -> str:
    """How lines of that kind begin, up to what is different in each; without the comma."""
    head = {"event": event, "level": _LINE_NAMES.get(level, "info"), "logger": logger}
    return _ENCODER.encode(head)[:-1].decode()


_ENCODER = msgspec.json.Encoder()


def _iso(seconds: float) -> str:
    """A time as RFC 3339 has it, to the microsecond."""
    whole, micro = divmod(round(seconds * 1e6), 1_000_000)
    return f"{_second(whole)}.{micro:06d}Z"


@lru_cache(maxsize=4)
def _second(whole: int) -> str:
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=64)
def _found_out(name: str, level: int) -> dict[str, Any]:
    """What all records of that logger and level have in common; of where they are from, nothing."""
    nothing = {"args": (), "pathname": "", "filename": "", "module": "", "lineno": 0, "msecs": 0.0}
    unset = dict.fromkeys(vars(logging.LogRecord("", 0, "", 0, "", None, None)))
    return {**unset, **nothing, "name": name, "levelno": level, "levelname": logging.getLevelName(level)}


class FieldsRecord(logging.LogRecord):
    """A record of `Fields`, in which nothing is found out but what their lines show: the rest costs more than they."""

    def __init__(self, name: str, level: int, said: Fields) -> None:
        shown = _found_out(name, level).copy()
        shown["msg"] = said
        shown["created"] = time.time()
        self.__dict__ = shown


def log_fields(log: logging.Logger, level: int, said: Fields) -> None:
    """Log `said`, without looking for the place this is called from: that costs more than all the rest.

    Where all that is logged goes to `Lines`, as in a server, it goes there without a record of logging's.
    """
    if not log.isEnabledFor(level):
        return
    lines = None if log.filters else _only_lines(log)
    if lines is not None and level >= lines.level:
        lines.take(said, log.name, level, time.time())
    else:
        log.handle(FieldsRecord(log.name, level, said))


def _only_lines(log: logging.Logger) -> Lines | None:
    """The one handler there is for what `log` is told, if it is a `Lines`."""
    found: logging.Handler | None = None
    at: logging.Logger | None = log
    while at is not None:
        handlers = at.handlers
        if handlers:
            if found is not None or len(handlers) > 1:
                return None
            found = handlers[0]
        at = at.parent if at.propagate else None
    return found if isinstance(found, Lines) else None
