"""The bench measures right: its tools speak HTTP as they should, and figures that do not count are not shown."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import msgspec
import pytest

from bench import accounting
from bench.load import Latencies, Load, LoadResult, run_load
from bench.machine import placement
from bench.process import DidNotStart, free_port, running
from bench.report import Spread, failure, markdown, rows
from bench.rounds import Measurement, Outcome
from bench.scenarios import SCENARIOS
from bench.tools import ROOT
from bench.upstream import Pace, Upstream, upstream

CPUS = placement().others
TOKENS = 5


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[Upstream]:
    with upstream(Pace(tokens=TOKENS, interval_ms=2), cpus=CPUS, scratch=tmp_path) as running_mock:
        yield running_mock


def _run(load: Load, port: int, scratch: Path) -> LoadResult:
    return run_load(load, port, cpus=CPUS, scratch=scratch)[0]


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_every_whole_answer_is_counted_once_and_came_from_the_upstream(mock: Upstream, tmp_path: Path) -> None:
    result = _run(Load(connections=4, seconds=0.3), mock.port, tmp_path)
    assert result.good == result.requests == result.latency_us.count > 50
    assert (result.failed, result.events) == (0, 0)
    assert 0 < result.latency_us.p50 <= result.latency_us.p99 <= result.latency_us.max
    stats = mock.stats()
    assert (stats.requests, stats.peak, stats.open, stats.aborted) == (result.requests, stats.peak, 0, 0)
    assert stats.peak <= 4


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_every_stream_has_all_its_events_at_their_pace(mock: Upstream, tmp_path: Path) -> None:
    result = _run(Load(stream=True, connections=8, seconds=0.2, stagger=0.01, min_events=TOKENS), mock.port, tmp_path)
    assert result.good == result.requests == mock.stats().streams
    assert result.events == result.requests * (TOKENS + 3)  # the role, the finish reason and [DONE] beside the tokens
    assert result.first_token_us.count == result.requests
    assert result.latency_us.p50 >= 1000 * 2 * TOKENS


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_an_open_loop_sends_at_its_rate_whatever_the_server_does(mock: Upstream, tmp_path: Path) -> None:
    result = _run(Load(connections=8, rate=400, seconds=0.25), mock.port, tmp_path)
    assert result.requests == result.good == 100


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_latency_of_an_open_loop_counts_from_when_the_request_was_due(tmp_path: Path) -> None:
    with upstream(Pace(tokens=9, interval_ms=4), cpus=CPUS, scratch=tmp_path) as mock:
        # Ten are due within 0.1 s, each takes 0.04 s, and there is one connection: the last ends at 0.4 s.
        result = _run(Load(stream=True, connections=1, rate=100, seconds=0.1), mock.port, tmp_path)
    assert result.good == 10
    assert result.latency_us.max > 250_000


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_a_stream_with_too_few_events_is_incomplete(mock: Upstream, tmp_path: Path) -> None:
    result = _run(Load(stream=True, connections=1, requests=2, min_events=1000), mock.port, tmp_path)
    assert (result.good, result.errors["incomplete"]) == (0, 2)


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_a_server_that_is_not_there_is_a_connect_error(tmp_path: Path) -> None:
    result = _run(Load(connections=1, requests=3), free_port(), tmp_path)
    assert (result.requests, result.good, result.errors["connect"]) == (3, 0, 3)


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_the_mock_counts_streams_that_were_left(mock: Upstream) -> None:
    body = b'{"stream": true}'
    with socket.create_connection(("127.0.0.1", mock.port), timeout=5) as caller:
        caller.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        assert caller.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
    deadline = time.monotonic() + 5
    while not mock.stats().aborted and time.monotonic() < deadline:
        time.sleep(0.001)
    assert mock.stats().aborted == 1


@pytest.mark.slow
def test_cpu_time_and_memory_of_a_whole_tree_are_accounted(tmp_path: Path) -> None:
    work = "import time\nwhile time.process_time() < 0.1: pass\nprint('worked', flush=True)\ntime.sleep(60)"
    tree = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {work!r}])"
    with running("tree", [sys.executable, "-c", tree], cpus=CPUS, scratch=tmp_path) as child:
        deadline = time.monotonic() + 10
        while "worked" not in child.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert accounting.cpu_ns(child.session) > 90_000_000
        assert len(accounting.members(child.session)) == 2
        assert accounting.memory(child.session).peak >= accounting.memory(child.session).resident > 4000
    assert accounting.members(child.session) == []


@pytest.mark.slow
def test_a_front_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with running("short", [sys.executable, "-c", "print('no such key')"], cpus=CPUS, scratch=tmp_path) as child:
        child.popen.wait(10)
        with pytest.raises(DidNotStart, match="no such key"):
            child.check_alive()


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_the_runner_writes_what_it_measured(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    options = ["--quick", "--rounds", "1", "--scenario", "whole-16", "--fronts", "direct", "--peers", "none"]
    command = [sys.executable, "-m", "bench.run", *options, "--json", str(file)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(file.read_text())["scenarios"][0]
    assert [(row["front"], row["success"], row["failure"]) for row in found["rows"]] == [("direct", 1.0, None)]
    assert "| direct |" in file.with_suffix(".md").read_text()


# What the figures say.


def _measurement(
    front: str, *, cpu_us: float | None, good: int = 1000, failed: int = 0, reached: int | None = None
) -> Measurement:
    load = LoadResult(
        requests=good + failed,
        good=good,
        failed=failed,
        seconds=1.0,
        events=0,
        chunks=0,
        reads=good,
        bytes=0,
        reconnects=0,
        stale=0,
        peak=16,
        bad_status=503 if failed else 0,
        errors={"status": failed, "timeout": 0},
        latency_us=Latencies(count=good, p50=500.0, p99=900.0),
        first_token_us=Latencies(),
    )
    return Measurement(
        front=front,
        load=load,
        cpu_ns=None if cpu_us is None else int(cpu_us * 1000 * good),
        resident=2048,
        peak=4096,
        reached=good if reached is None else reached,
        load_busy=0.5,
        mock_busy=0.2,
    )


def _outcome(*measurements: Measurement, missing: dict[str, str] | None = None) -> Outcome:
    return Outcome(scenario=SCENARIOS["whole-16"], measurements=measurements, missing=missing or {})


def test_ratios_compare_rounds_with_nginx_in_the_same_round() -> None:
    slow_machine = [_measurement("nginx", cpu_us=40), _measurement("infermux", cpu_us=160)]
    fast_machine = [_measurement("nginx", cpu_us=20), _measurement("infermux", cpu_us=80)]
    found = {row.front: row for row in rows(_outcome(*slow_machine, *fast_machine))}
    assert found["infermux"].ratio == Spread(median=4.0, low=4.0, high=4.0)
    assert found["infermux"].cpu_us == Spread(median=120.0, low=80.0, high=160.0)
    assert found["nginx"].ratio == Spread(median=1.0, low=1.0, high=1.0)


def test_a_front_below_99_9_percent_shows_fail_and_no_figures() -> None:
    outcome = _outcome(_measurement("nginx", cpu_us=20), _measurement("infermux", cpu_us=80, good=998, failed=2))
    row = rows(outcome)[1]
    assert row.failure == "2 of 1000 requests failed (status 2; status 503)"
    assert (row.cpu_us, row.ratio, row.per_second) == (None, None, None)
    text = markdown(outcome)
    assert "| infermux | FAIL " in text
    assert "80.0" not in text


def test_one_failure_in_a_thousand_is_still_a_result() -> None:
    assert failure([_measurement("infermux", cpu_us=80, good=999, failed=1)]) is None


def test_answers_that_did_not_come_from_the_upstream_do_not_count() -> None:
    assert failure([_measurement("cache", cpu_us=1, reached=10)]) == "only 10 of 1000 answers came from the upstream"


def test_a_failed_nginx_gives_no_ratios() -> None:
    outcome = _outcome(_measurement("nginx", cpu_us=20, good=1, failed=9), _measurement("infermux", cpu_us=80))
    assert rows(outcome)[1].ratio is None


def test_latency_is_shown_as_added_to_the_direct_one() -> None:
    direct, through = _measurement("direct", cpu_us=None), _measurement("infermux", cpu_us=80)
    slower = attrs.evolve(through, load=_slower(through.load, microseconds=250))
    row = rows(_outcome(direct, slower))[1]
    assert row.added_p50 == pytest.approx(0.25)  # pyright: ignore[reportUnknownMemberType]


def _slower(load: LoadResult, *, microseconds: float) -> LoadResult:
    latency = msgspec.structs.replace(load.latency_us, p50=load.latency_us.p50 + microseconds)
    return msgspec.structs.replace(load, latency_us=latency)


def test_a_missing_front_is_named_with_the_reason() -> None:
    assert "- litellm: missing, not installed" in markdown(_outcome(missing={"litellm": "not installed"}))
