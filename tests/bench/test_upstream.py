"""The mock upstream answers every request once, at its pace, and counts what came to it."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from openai.types import CreateEmbeddingResponse

from infermux.bench.load import Load, LoadResult, local, run_load
from infermux.bench.machine import placement
from infermux.bench.upstream import Faults, Pace, Upstream, upstream

CPUS = placement().others
TOKENS = 5


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[Upstream]:
    with upstream(Pace(tokens=TOKENS, interval_ms=2), cpus=CPUS, scratch=tmp_path) as running_mock:
        yield running_mock


def _run(load: Load, port: int, scratch: Path) -> LoadResult:
    return run_load(load, local(port), cpus=CPUS, scratch=scratch, generator="c").result


def _ask(mock: Upstream, path: str) -> tuple[int, str | None, bytes]:
    """Status, Retry-After and body. Raises RemoteDisconnected where there is no answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", mock.port, timeout=5)) as connection:
        connection.request("POST", path, "{}")
        answer = connection.getresponse()
        return answer.status, answer.headers["retry-after"], answer.read()


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_every_whole_answer_is_counted_once_and_came_from_the_upstream(mock: Upstream, tmp_path: Path) -> None:
    found = _run(Load(connections=4, seconds=0.3), mock.port, tmp_path)
    assert found.good == found.requests == found.latency_us.count > 50
    assert (found.failed, found.events) == (0, 0)
    assert 0 < found.latency_us.p50 <= found.latency_us.p99 <= found.latency_us.max
    stats = mock.stats()
    assert (stats.requests, stats.peak, stats.open, stats.aborted) == (found.requests, stats.peak, 0, 0)
    assert stats.peak <= 4


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_every_stream_has_all_its_events_at_their_pace(mock: Upstream, tmp_path: Path) -> None:
    found = _run(Load(stream=True, connections=8, seconds=0.2, stagger=0.01, min_events=TOKENS), mock.port, tmp_path)
    assert found.good == found.requests == mock.stats().streams
    assert found.events == found.requests * (TOKENS + 3)  # the role, the finish reason and [DONE] beside the tokens
    assert found.first_token_us.count == found.requests
    assert found.latency_us.p50 >= 1000 * 2 * TOKENS  # the first comes at once, the end an interval after the last


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_an_open_loop_sends_at_its_rate_whatever_the_server_does(mock: Upstream, tmp_path: Path) -> None:
    found = _run(Load(connections=8, rate=400, seconds=0.25), mock.port, tmp_path)
    assert found.requests == found.good == 100


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
@pytest.mark.needs("cc")
def test_below_faulty_each_so_many_th_request_fails(tmp_path: Path) -> None:
    faults = Faults(every=3, status=429, retry_after=2)
    with upstream(Pace(), cpus=CPUS, scratch=tmp_path, faults=faults) as mock:
        found = [_ask(mock, "/faulty/v1/chat/completions")[:2] for _ in range(6)]
        assert _ask(mock, "/v1/chat/completions")[0] == 200
        assert (mock.stats().requests, mock.stats().failed) == (5, 2)
    assert found == [(200, None), (200, None), (429, "2")] * 2


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_a_fault_without_a_status_is_no_answer_at_all(tmp_path: Path) -> None:
    faults = Faults(every=1, status=0)
    with (
        upstream(Pace(), cpus=CPUS, scratch=tmp_path, faults=faults) as mock,
        pytest.raises(http.client.RemoteDisconnected),
    ):
        _ask(mock, "/faulty/v1/chat/completions")


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_embeddings_are_what_the_sdk_reads(mock: Upstream) -> None:
    found = CreateEmbeddingResponse.model_validate(msgspec.json.decode(_ask(mock, "/v1/embeddings")[2]))
    assert len(found.data[0].embedding) == 1536
    assert all(-1 < number < 1 for number in found.data[0].embedding)
