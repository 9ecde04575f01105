"""The mock upstream answers every request once, at its pace, and counts what came to it."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageFunctionToolCall
from pydantic import TypeAdapter

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


def _say(mock: Upstream, path: str, **body: Any) -> bytes:
    """The body of the answer to a request."""
    with closing(http.client.HTTPConnection("127.0.0.1", mock.port, timeout=5)) as connection:
        connection.request("POST", path, json.dumps(body))
        return connection.getresponse().read()


def _events(stream: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in stream.splitlines() if line.startswith(b"data: {")]


def _path(arguments: str) -> str:
    found = json.loads(arguments)
    assert found.keys() == {"path"}
    return str(found["path"])


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_a_call_that_is_insisted_on_is_made_in_chat(mock: Upstream) -> None:
    path, asked = "/v1/chat/completions", {"tool_choice": "required"}
    whole = ChatCompletion.model_validate_json(_say(mock, path, **asked))
    calls = whole.choices[0].message.tool_calls or []
    assert isinstance(calls[0], ChatCompletionMessageFunctionToolCall)
    assert (calls[0].function.name, whole.choices[0].finish_reason) == ("look_up_0", "tool_calls")
    assert _path(calls[0].function.arguments).startswith("The quick")
    chunks = [ChatCompletionChunk.model_validate(event) for event in _events(_say(mock, path, stream=True, **asked))]
    parts = [call.function for chunk in chunks for call in chunk.choices[0].delta.tool_calls or [] if call.function]
    assert [part.name for part in parts if part.name] == ["look_up_0"]
    assert _path("".join(part.arguments or "" for part in parts)) == " quick brown fox, jumps"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    for choice in ("auto", "none"):
        assert b"tool_calls" not in _say(mock, path, tool_choice=choice)


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_a_call_that_is_insisted_on_is_made_in_messages(mock: Upstream) -> None:
    asked = {"tool_choice": {"type": "any"}}
    whole = Message.model_validate_json(_say(mock, "/v1/messages", **asked))
    assert (whole.content[0].type, whole.stop_reason) == ("tool_use", "tool_use")
    shape: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
    stream = _events(_say(mock, "/v1/messages", stream=True, **asked))
    events = [shape.validate_python(event) for event in stream if event["type"] != "ping"]
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    text = "".join(delta.partial_json for delta in deltas if delta.type == "input_json_delta")
    assert _path(text) == " quick brown fox, jumps"
