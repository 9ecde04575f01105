"""What the generator in Python takes for a right answer, however it is cut into pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.bench.answer import Answer, Events, Wrong
from infermux.bench.callers import RESPONSES

BODY = b'data: {"a": 1}\r\n\r\nevent: x\ndata:{"b": "\xc3\xa9"}\n\ndata: [DONE]\n\n'
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
WHOLE = b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"a": 1}\n'
CUTS = st.lists(st.integers(1, len(STREAM) - 1), max_size=8)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


@settings(max_examples=40)
@given(CUTS)
def test_events_are_counted_however_they_arrive(cuts: list[int]) -> None:
    answer = Answer(b"[DONE]")
    assert all(answer.take(piece) for piece in pieces(STREAM, cuts) if piece)
    assert (answer.complete, answer.keep_alive, answer.status) == (True, True, 200)
    assert (answer.events.count, answer.events.done, answer.bytes) == (3, True, len(BODY))
    assert answer.right(stream=True, least=3) is None
    assert answer.right(stream=True, least=4) is Wrong.INCOMPLETE


@pytest.mark.parametrize(
    ("data", "stream", "wrong"),
    [
        (WHOLE, False, None),
        (WHOLE, True, Wrong.INCOMPLETE),
        (STREAM.replace(b"[DONE]", b"[GONE]"), True, Wrong.INCOMPLETE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{'a': 1 ", False, Wrong.INCOMPLETE),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}", False, Wrong.STATUS),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False, Wrong.INCOMPLETE),
    ],
)
def test_an_answer_is_right_or_it_is_said_why_not(data: bytes, stream: bool, wrong: Wrong | None) -> None:
    answer = Answer(b"[DONE]")
    assert answer.take(data)
    assert answer.complete
    assert answer.right(stream=stream, least=1) is wrong


@pytest.mark.parametrize(
    ("data", "done"),
    [
        (b'{"type": "response.completed", "a": 1}', True),
        (b'{"type":"response.incomplete"}', True),
        (b'{"type": "response.failed"}', False),
    ],
)
def test_json_with_spaces_and_each_of_several_ends_end_a_stream(data: bytes, done: bool) -> None:
    for step in (1, 1000):
        events = Events(RESPONSES.last.encode())
        line = b"data: %b\n\n" % data
        for at in range(0, len(line), step):
            events.take(line[at : at + step])
        assert (events.count, events.done) == (1, done)


@pytest.mark.parametrize("data", [b"no HTTP\r\n\r\n", WHOLE + WHOLE, STREAM + b"HTTP/1.1 200 OK\r\n"])
def test_what_is_not_one_answer_is_a_breach_of_framing(data: bytes) -> None:
    assert not Answer(b"[DONE]").take(data)


def test_the_end_of_the_connection_ends_only_what_has_no_other_end() -> None:
    for head, ends in ((b"", True), (b"Content-Length: 90\r\n", False), (b"Transfer-Encoding: chunked\r\n", False)):
        answer = Answer(b"")
        assert answer.take(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        assert answer.closed() is ends
    assert not Answer(b"").closed()


@settings(max_examples=40)
@given(CUTS)
def test_the_last_byte_is_not_white_space(cuts: list[int]) -> None:
    events = Events(b"[DONE]")
    for piece in pieces(b'{"a": 1} \r\n\n', [cut % 12 for cut in cuts]):
        events.take(piece)
    assert events.last_byte == b"}"
