"""Lines for people and for machines; those of requests are put aside and written by a thread."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from infermux import log_lines, logs
from infermux.config.settings import LogSettings
from infermux.log_lines import Fields, Lines
from infermux.logs import LineFormatter, log_fields


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


@contextmanager
def logging_to(handler: Lines, settings: LogSettings) -> Generator[Lines]:
    handler.setFormatter(LineFormatter(settings))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield handler
    finally:
        log.removeHandler(handler)
        log.propagate = True
        handler.close()


@pytest.fixture
def lines(stream: io.StringIO) -> Generator[Lines]:
    with logging_to(Lines(stream), LogSettings(timestamps=False)) as handler:
        yield handler


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


def test_a_line_that_is_put_aside_is_written_soon(lines: Lines, stream: io.StringIO) -> None:
    log_fields(log, logging.INFO, Said(a=1))
    until = time.monotonic() + 5
    while not stream.getvalue() and time.monotonic() < until:
        time.sleep(0.01)
    assert "a=1" in stream.getvalue()


def test_lines_keep_their_order(lines: Lines, stream: io.StringIO) -> None:
    log_fields(log, logging.INFO, Said(n=1))
    log_fields(log, logging.WARNING, Said(n=2))
    log.info("the third")
    lines.flush()
    said = stream.getvalue().splitlines()
    assert [line.split("] ")[-1] for line in said[:2]] == ["n=1", "n=2"]
    assert "the third" in said[2]


class Listening(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.heard = list[tuple[str, str]]()

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append((record.levelname, str(record.msg)))


def test_whoever_else_listens_is_told_too(lines: Lines, stream: io.StringIO) -> None:
    other = Listening()
    log.addHandler(other)
    try:
        log_fields(log, logging.INFO, Said(n=1))
    finally:
        log.removeHandler(other)
    lines.flush()
    assert "n=1" in stream.getvalue()
    assert other.heard == [("INFO", "n=1")]


def test_a_filter_and_the_level_of_whoever_writes_hold(lines: Lines, stream: io.StringIO) -> None:
    def refuses(record: logging.LogRecord) -> bool:
        return "n=1" not in str(record.msg)

    log.addFilter(refuses)
    try:
        log_fields(log, logging.INFO, Said(n=1))
        log_fields(log, logging.INFO, Said(n=2))
    finally:
        log.removeFilter(refuses)
    lines.setLevel(logging.WARNING)
    log_fields(log, logging.INFO, Said(n=3))
    lines.flush()
    assert [line.split("] ")[-1] for line in stream.getvalue().splitlines()] == ["n=2"]


def test_what_is_below_the_level_costs_no_line(lines: Lines, stream: io.StringIO) -> None:
    log_fields(log, logging.DEBUG, Said(n=1))
    lines.flush()
    assert not stream.getvalue()


class Slow(io.StringIO):
    """Takes nothing until it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.drained = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        assert self.drained.wait(5)
        return super().write(text)


def test_a_line_after_a_silence_is_written_at_once(
    lines: Lines, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_lines, "WRITE_EVERY", 0.1)
    log_fields(log, logging.INFO, Said(n=1))
    lines.flush()
    time.sleep(2.5 * log_lines.WRITE_EVERY)  # the thread has nothing to do, and looks no more
    log_fields(log, logging.INFO, Said(n=2))
    until = time.monotonic() + 5
    while "n=2" not in stream.getvalue() and time.monotonic() < until:
        time.sleep(0.01)
    assert "n=2" in stream.getvalue()


@pytest.mark.parametrize("format_", ["text", "json"])
def test_what_there_is_no_room_for_is_counted(format_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "MOST_KEPT", 2)
    stream = Slow()
    with logging_to(Lines(stream), LogSettings(format=format_, timestamps=False)) as lines:
        log_fields(log, logging.INFO, Said(n=-1))
        assert stream.reached.wait(5)
        for n in range(5):
            log_fields(log, logging.INFO, Said(n=n))
        stream.drained.set()
        lines.flush()
        lines.flush()
    said = stream.getvalue().splitlines()[1:]
    assert len(said) == 3
    assert "3 lines were not written" in (said[2] if format_ == "text" else json.loads(said[2])["event"])


def test_a_stream_that_is_closed_is_no_error_of_the_request(lines: Lines, stream: io.StringIO) -> None:
    stream.close()
    log_fields(log, logging.WARNING, Said(n=1))
    lines.flush()
    lines.stream = again = io.StringIO()
    log_fields(log, logging.WARNING, Said(n=2))
    lines.flush()
    assert "n=2" in again.getvalue()


def test_a_pipe_that_nobody_reads_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "GIVEN_UP_AFTER", 0.05)
    monkeypatch.setattr(log_lines, "MOST_KEPT", 500)
    reader, writer = os.pipe()
    try:
        with open(writer, "w") as stream, logging_to(Lines(stream), LogSettings()) as lines:
            began = time.monotonic()
            for n in range(1200):  # more than the pipe and all that is kept take
                log.warning("%s", f"{n} {'x' * 200}")
                log_fields(log, logging.INFO, Said(n=n))
            lines.flush()
            assert time.monotonic() - began < 5
            assert lines.lost > 0
            said = os.read(reader, 1 << 20)
            while said.count(b"not written") == 0:
                said += os.read(reader, 1 << 20)
            assert said.startswith(b"20")
            assert b" 0 x" in said
    finally:
        os.close(reader)


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
