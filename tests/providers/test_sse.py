from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import FailureKind
from infermux.providers.sse import Event, EventSplitter, EventTooLarge, SseParser
from tests._properties import examples

LINES = st.sampled_from(
    [b"data: x", b"data:y", b"data", b"data:  z", b": ping", b"event: delta", b"id: 7", b"id: a\0b", b"retry: 10", b"",
     b"", "data: \u00e9\u6f22".encode(), b"foo: bar", b"data:"]
)  # fmt: skip
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    pieces = [line + draw(ENDS) for line in draw(st.lists(LINES, max_size=30))]
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + b"".join(pieces) + draw(st.sampled_from([b"", b"data: cut"]))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(marks)]


PLACES = st.lists(st.integers(0, 400), max_size=60)


def reference(data: bytes) -> list[Event]:
    """The standard's own steps, a line at a time, for a whole stream."""
    text = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[Event] = []
    name, lines = "", list[bytes]()
    for line in text.split(b"\n")[:-1]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if lines:
                events.append(Event(name or "message", b"\n".join(lines)))
            name, lines = "", []
        elif field == b"data":
            lines.append(value)
        elif field == b"event":
            name = value.decode()
    return events


@settings(max_examples=examples(50), deadline=None)
@given(streams(), PLACES)
def test_the_events_are_those_of_the_standard_wherever_the_stream_is_cut(data: bytes, places: list[int]) -> None:
    parser = SseParser()
    events = [event for chunk in cut(data, places) for event in parser.feed(chunk)]
    expected = reference(data)
    if events != expected:  # an end of LF CR waits for one byte more
        assert data.endswith(b"\n\r")
        assert events == expected[:-1]
        assert [*events, *parser.flush()] == expected


@settings(max_examples=examples(50), deadline=None)
@given(streams(), PLACES)
def test_splitting_changes_no_byte_and_cuts_only_between_events(data: bytes, places: list[int]) -> None:
    splitter = EventSplitter()
    out = [splitter.feed(chunk) for chunk in cut(data, places)]
    assert b"".join(out) + splitter.flush() == data
    assert splitter.pending == 0
    # What was cut apart is parsed apart to the same events.
    apart = SseParser()
    together = SseParser()
    assert [event for piece in out for event in apart.feed(piece)] == together.feed(b"".join(out))


@given(st.binary(max_size=60).map(lambda data: data.translate(bytes(b"\n\r\nx"[i % 4] for i in range(256)))), PLACES)
@settings(max_examples=examples(70), deadline=None)
def test_what_is_held_back_holds_no_whole_event(data: bytes, places: list[int]) -> None:
    splitter = EventSplitter()
    fed = b"".join(splitter.feed(chunk) for chunk in cut(data, places))
    rest = splitter.flush()
    assert fed + rest == data
    held = rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert b"\n\n" not in held or rest.endswith(b"\n\r")


def test_a_chunk_that_ends_with_an_event_is_passed_on_as_the_same_object() -> None:
    chunk = b"data: 1\n\ndata: 2\n\n"
    assert EventSplitter().feed(chunk) is chunk


def test_an_incomplete_event_waits_for_its_end() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: 1\n\ndata:") == b"data: 1\n\n"
    assert splitter.pending == 5
    assert splitter.feed(b" 2\n") == b""
    assert splitter.feed(b"\ndata: 3") == b"data: 2\n\n"
    assert splitter.flush() == b"data: 3"


def test_the_line_feed_of_a_crlf_may_come_with_the_next_chunk() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: 1\r\n\r") == b""
    assert splitter.feed(b"\ndata: 2\r\n\r\n") == b"data: 1\r\n\r\ndata: 2\r\n\r\n"
    parser = SseParser()
    assert parser.feed(b"data: 1\r") == []
    assert parser.feed(b"\ndata: 2\r\n\r") == []
    assert parser.feed(b"\n") == [Event("message", b"1\n2")]


def test_a_stream_of_bare_carriage_returns_waits_for_nothing() -> None:
    assert EventSplitter().feed(b"data: 1\r\r") == b"data: 1\r\r"
    assert EventSplitter().feed(b"data: 1\n\rdata: 2") == b"data: 1\n\r"


def test_single_bytes_make_the_same_events() -> None:
    data = "\ufeffevent: a\r\ndata: \u6f22\u5b57\r\n\r\n: c\n\ndata: 2\n\n".encode()
    parser = SseParser()
    events = [event for byte in data for event in parser.feed(bytes([byte]))]
    assert events == [Event("a", "\u6f22\u5b57".encode()), Event("message", b"2")]


def test_the_last_id_is_kept_and_one_with_a_nul_ignored() -> None:
    parser = SseParser()
    assert parser.feed(b"id: 5\ndata: x\n\nid: a\0b\n\n") == [Event("message", b"x")]
    assert parser.last_id == "5"


def test_an_event_without_its_empty_line_is_found_by_flush() -> None:
    parser = SseParser()
    assert parser.feed(b"data: [DONE]\n") == []
    assert parser.flush() == [Event("message", b"[DONE]")]
    assert parser.flush() == []


def test_an_event_over_the_limit_is_malformed_and_forgotten() -> None:
    splitter = EventSplitter(limit=100)
    assert splitter.feed(b"data: " + b"x" * 80) == b""
    with pytest.raises(EventTooLarge) as caught:
        splitter.feed(b"x" * 80)
    assert caught.value.kind is FailureKind.MALFORMED
    assert splitter.pending == 0
    with pytest.raises(EventTooLarge):
        SseParser(limit=10).feed(b"data: 1\n\n" + b"x" * 11)


def test_a_large_event_in_small_pieces_takes_linear_time() -> None:
    splitter = EventSplitter()
    piece = b"x" * 64
    for _ in range(20_000):
        assert splitter.feed(piece) == b""
    assert len(splitter.feed(b"\n\n")) == 20_000 * 64 + 2
