"""`infermux explain` and `infermux top`: what they ask a router, and what they print."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest

from infermux.cli import root
from infermux.cli.explain import seconds
from tests._asked import Asked, asked

Run = Callable[..., tuple[int, str, str]]
PROVIDER: dict[str, Any] = {
    "name": "quick",
    "routable": True,
    "reason": None,
    "in_flight": 1,
    "circuit": {"state": "closed", "window": {"requests": 4, "error_rate": 0.25}},
    "ewma": {"response": {"seconds": 0.25, "samples": 3}, "first_token": {"seconds": 0.0, "samples": 0}},
}
REQUEST = {
    "id": "mine",
    "state": "streaming",
    "age": 1.5,
    "requested": "m",
    "model": "m",
    "provider": "quick",
    "caller": "",
}
OVERVIEW: dict[str, Any] = {
    "version": "0.1.0",
    "ready": True,
    "draining": False,
    "in_flight": 1,
    "strategy": "priority",
    "providers": [PROVIDER, {**PROVIDER, "name": "x" * 100, "routable": False, "reason": "circuit_open"}],
    "requests": [REQUEST] * 20,
}
EXPLAINED: dict[str, Any] = {
    "id": "mine",
    "state": "ended",
    "endpoint": "chat",
    "requested": "m",
    "caller": "team-a",
    "ending": "ok",
    "status": 200,
    "code": "",
    "message": "",
    "provider": "quick",
    "model": "m",
    "tried": 1,
    "at": 0.0,
    "prompt_tokens": 12,
    "completion_tokens": 3,
    "cost": 0.00125,
    "latency": 0.25,
    "overhead": 0.0004,
    "scores": {"priority": "its place"},
    "candidates": [
        {"tier": 1, "place": 1, "provider": "quick", "model": "m", "score": 1.0, "known": {"latency": 0.2, "load": 3}}
        | {"verdict": "asked", "reason": "ok", "detail": ""},
        {"tier": 2, "place": None, "provider": "spare", "model": "m", "score": None, "known": {}}
        | {"verdict": "left_out", "reason": "not_allowed", "detail": "by the request"},
    ],
    "attempts": [
        {"provider": "quick", "model": "m", "started": 0.0, "ended": 0.25, "first_token": None, "outcome": "ok"}
    ],
}


class Stub(Asked):
    """Answers any GET below its pages."""

    def do_GET(self) -> None:
        self.note()
        pages = {"/_infermux/overview": OVERVIEW, "/_infermux/explain/a%2Fb%20c": EXPLAINED}
        found = pages.get(self.path)
        body = json.dumps(found or {"error": {"message": "nothing is known of it"}}).encode()
        self.answer(200 if found else 404, body)


@pytest.fixture
def stub() -> Generator[tuple[type[Stub], str]]:
    with asked(Stub) as found:
        yield found


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on 80 columns: exit code, stdout, stderr."""
    monkeypatch.setenv("INFERMUX_MANAGEMENT_TOKEN", "tok-en")
    monkeypatch.setenv("COLUMNS", "80")

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["infermux", *arguments])
        with pytest.raises(SystemExit) as ended:
            root.run()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return command


def test_a_decision_in_words(stub: tuple[type[Stub], str], run: Run) -> None:
    router, url = stub
    code, said, _ = run("explain", "a/b c", "--url", url)
    assert code == 0
    assert said.splitlines() == [
        "mine: chat for m by team-a, 1970-01-01 00:00:00 UTC",
        "answered by quick (m), ok, 200: 250 ms in 1 attempt, 0.4 ms of it our own",
        "12 tokens in, 3 out: $0.00125",
        "",
        "TIER  PLACE  PROVIDER  MODEL  SCORE  AVERAGE  LOAD  WHAT BECAME OF IT",
        "1     1      quick     m      1      200 ms   3     ok",
        "2     -      spare     m      -      -        -     left out: not_allowed (by the request)",
        "score of priority: its place",
        "",
        "ATTEMPT  PROVIDER  MODEL  STARTED  FIRST TOKEN  ENDED   OUTCOME",
        "1        quick     m      0 ms     -            250 ms  ok",
    ]
    assert router.asked == [("/_infermux/explain/a%2Fb%20c", "Bearer tok-en")]


def test_json_is_what_the_router_said(stub: tuple[type[Stub], str], run: Run) -> None:
    assert json.loads(run("explain", "a/b c", "--json", "--url", stub[1])[1]) == EXPLAINED
    assert json.loads(run("top", "--json", "--url", stub[1])[1]) == OVERVIEW


def test_what_nobody_knows_is_a_failure_in_a_sentence(stub: tuple[type[Stub], str], run: Run) -> None:
    code, said, errors = run("explain", "other", "--url", stub[1])
    assert (code, said) == (1, "")
    assert errors == f"infermux: {stub[1]} answered 404: nothing is known of it\n"


def test_one_table_fits_80_columns(stub: tuple[type[Stub], str], run: Run) -> None:
    code, said, _ = run("top", "--once", "--url", stub[1])
    assert code == 0
    assert max(map(len, said.splitlines())) <= 80
    for word in ("ready", "1 of 2 routable", "circuit_open", "25% of 4", "250 ms", "streaming", "and 5 more"):
        assert word in said, said


def test_60_columns_have_fewer_of_them_and_what_is_there_is_whole(
    stub: tuple[type[Stub], str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    said = run("top", "--once", "--url", stub[1])[1]
    assert max(map(len, said.splitlines())) <= 60
    for word in ("circuit_open", "250 ms", "streaming", "FIRST", "AGE"):
        assert word in said, said
    assert "CIRCUIT" not in said


@pytest.mark.parametrize(("value", "said"), [(None, "-"), (0.0004, "0.4 ms"), (0.25, "250 ms"), (1.5, "1.5 s")])
def test_times_for_people(value: float | None, said: str) -> None:
    assert seconds(value) == said


@pytest.mark.slow
def test_on_a_terminal_it_goes_on_until_q(stub: tuple[type[Stub], str]) -> None:
    router, url = stub
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "infermux", "top", "--interval", "0.2", "--url", url]
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environ) as process:
        os.close(slave)
        shown, until = b"", time.monotonic() + 10
        while len(router.asked) < 3 and time.monotonic() < until:
            shown += read(master, 0.1)
        os.write(master, b"q")
        while process.poll() is None and time.monotonic() < until:
            shown += read(master, 0.1)
        assert process.poll() == 0, shown
    os.close(master)
    assert b"routable" in shown
    assert len(router.asked) >= 3


def read(terminal: int, within: float) -> bytes:
    ready, _, _ = select.select([terminal], [], [], within)
    try:
        return os.read(terminal, 65536) if ready else b""
    except OSError:  # Linux says so when the other side is closed
        return b""
