"""The quick reader of events gives what the thorough one gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.providers.dialects.sse_events import EventReader
from infermux.providers.sse import Event, SseParser
from tests._properties import examples

PIECES = [
    b"data: {}\n\n", b"event: a\ndata: {}\n\n", b"data: x\n", b"\n", b"\r", b"\n\n", b": ping\n\n", b"event: b\n",
    b"data: ", b"data: y\r\n\r\n", b"\xef\xbb\xbf", b"id: 1\ndata: z\n\n", b"event: \ndata: q\n\n", b"event: c\n\n",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=8))
@settings(max_examples=examples(80), deadline=None)
def test_both_readers_give_the_same_events(chunks: list[bytes]) -> None:
    quick, thorough = EventReader(), SseParser()
    for chunk in chunks:
        assert list(quick.feed(chunk)) == thorough.feed(chunk)
    assert list(quick.flush()) == thorough.flush()


@pytest.mark.parametrize(
    ("data", "event"),
    [(b"data: {}\n\n", Event("message", b"{}")), (b"event: a\ndata: {}\n\n", Event("a", b"{}"))],
)
def test_one_event_a_read_is_taken_apart(data: bytes, event: Event) -> None:
    reader = EventReader()
    assert [*reader.feed(data), *reader.feed(data)] == [event, event]
