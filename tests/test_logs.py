"""Lines for people and for machines; those of requests are put aside and written by a thread."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Generator, Mapping
from typing import Any

import pytest

from infermux import logs
from infermux.config.settings import LogSettings
from infermux.logs import Fields, LineFormatter, Lines, log_fields


class Said(Fields):
    event = "happened"

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def fields(self) -> Mapping[str, Any]:
        return self._fields

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self._fields.items())


log = logging.getLogger("infermux.test_logs")


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def lines(stream: io.StringIO) -> Generator[Lines]:
    handler = Lines(stream)
    handler.setFormatter(LineFormatter(LogSettings(timestamps=False)))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    yield handler
    log.removeHandler(handler)
    log.propagate = True
    handler.close()


def rendered(settings: LogSettings, said: Fields, level: int = logging.INFO) -> str:
    record = logging.LogRecord("infermux.requests", level, "", 0, said, None, None)
    record.created = 1700000000.25
    return LineFormatter(settings).format(record)


def test_a_line_for_people() -> None:
    assert rendered(LogSettings(), Said(a=1, b="x")) == (
        "2023-11-14T22:13:20.250000Z [info     ] happened [infermux.requests] a=1 b=x"
    )
    assert rendered(LogSettings(timestamps=False), Said(a=1), logging.WARNING) == (
        "[warning  ] happened [infermux.requests] a=1"
    )


def test_a_line_for_machines() -> None:
    line = json.loads(rendered(LogSettings(format="json"), Said(a=1, b="x\n")))
    assert line == {
        "event": "happened",
        "level": "info",
        "logger": "infermux.requests",
        "timestamp": "2023-11-14T22:13:20.250000Z",
        "a": 1,
        "b": "x\n",
    }


@pytest.mark.parametrize("format_", ["text", "json"])
def test_the_other_lines_look_the_same(format_: str) -> None:
    formatter = LineFormatter(LogSettings(format=format_, timestamps=False))
    plain = formatter.format(logging.LogRecord("infermux.requests", logging.INFO, "", 0, "happened", None, None))
    ours = rendered(LogSettings(format=format_, timestamps=False), Said())
    assert json.loads(ours) == json.loads(plain) if format_ == "json" else ours.rstrip() == plain.rstrip()


def test_a_line_that_is_put_aside_is_written_soon(
    lines: Lines, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = threading.Event()
    flush = lines.flush

    def noted() -> None:
        flush()
        written.set()

    monkeypatch.setattr(lines, "flush", noted)
    monkeypatch.setattr(logs, "WRITE_EVERY", 0.001)
    log_fields(log, logging.INFO, Said(a=1))
    assert written.wait(5)
    assert "a=1" in stream.getvalue()


def test_another_line_is_written_at_once_and_after_those_before_it(lines: Lines, stream: io.StringIO) -> None:
    log_fields(log, logging.INFO, Said(n=1))
    log_fields(log, logging.WARNING, Said(n=2))
    log.info("the third")
    said = stream.getvalue().splitlines()
    assert [line.split("] ")[-1] for line in said[:2]] == ["n=1", "n=2"]
    assert "the third" in said[2]


def test_what_is_below_the_level_costs_no_line(lines: Lines, stream: io.StringIO) -> None:
    log_fields(log, logging.DEBUG, Said(n=1))
    lines.flush()
    assert not stream.getvalue()


def test_what_there_is_no_room_for_is_counted(
    lines: Lines, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MOST_KEPT", 2)
    monkeypatch.setattr(logs, "WRITE_EVERY", 60)
    for n in range(5):
        log_fields(log, logging.INFO, Said(n=n))
    lines.flush()
    assert "n=1" in stream.getvalue()
    assert "3 lines of requests were not written" in stream.getvalue()
    lines.flush()
    assert stream.getvalue().count("not written") == 1


def test_a_stream_that_is_closed_is_no_error_of_the_request(lines: Lines, stream: io.StringIO) -> None:
    stream.close()
    log_fields(log, logging.INFO, Said(n=1))
    lines._write_kept()  # pyright: ignore[reportPrivateUsage]
    lines.stream = io.StringIO()


def test_setting_up_again_ends_the_handler_before(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("infermux").level
    switches = logging.logThreads, logging.logProcesses, logging.logMultiprocessing
    first, second = io.StringIO(), io.StringIO()
    try:
        monkeypatch.setattr("sys.stderr", first)
        logs.set_up_logging(LogSettings())
        log_fields(logging.getLogger("infermux.x"), logging.INFO, Said(n=1))
        monkeypatch.setattr("sys.stderr", second)
        logs.set_up_logging(LogSettings(format="json", level="warn"))
        log_fields(logging.getLogger("infermux.x"), logging.INFO, Said(n=2))
        assert "n=1" in first.getvalue()
        assert not second.getvalue()
        root.handlers[0].close()
    finally:
        root.handlers[:], level, ours = before[0], before[1], before[2]
        root.setLevel(level)
        logging.getLogger("infermux").setLevel(ours)
        logging.logThreads, logging.logProcesses, logging.logMultiprocessing = switches
