"""What is left out of a stream that passes through, and what is not."""

from __future__ import annotations

import logging

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.providers.sieve import Sieve
from tests._properties import examples

GOOD = b'data: {"a": "\xc3\xa9 \\u0000 {", "b": [1, null]}\n\n'


@pytest.mark.parametrize(
    "event",
    [
        GOOD,
        b"data: [DONE]\n\n",
        b": a comment with data: {\n\n",
        b"event: ping\ndata: {}\n\n",
        b"data: plain text\n\n",
        b'data: {"a":\ndata: 1}\n\n',
        b'data: {"a": 1}\r\n\r\n',
        b"id: 5\n\n",
        b'data:{"a": 1}\n\n',
        b'data:\t{"a": "data:"}\n\n',
        b"data:\n\n",
        b"data: caf\xe9\n\n",
        b": caf\xe9\n\n",
        b'event: caf\xe9\ndata: {"a": 1}\n\n',
    ],
)
def test_what_is_sound_or_no_json_by_intention_goes_on(event: bytes) -> None:
    sieve = Sieve()
    assert sieve.sound(event) == event
    assert sieve.sound(GOOD + event + GOOD) == GOOD + event + GOOD
    assert sieve.left_out == 0


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choi\n\n',
        b'event: content_block_delta\ndata: {"type":\n\n',
        b'data: {"a": 1}}\n\n',
        b'data: {"a": "\xff"\n\n',
        b'data: {"a":\r\n\r\n',
        b'data: {"a":\ndata: 1\n\n',
        b'data:{"choi\n\n',
        b'data:  {"choi\n\n',
        b'data:{"choi\r\n\r\n',
        b'data: {"a": "caf\xe9", "b\n\n',
    ],
)
def test_cut_json_is_left_out_and_counted(event: bytes, caplog: pytest.LogCaptureFixture) -> None:
    sieve = Sieve()
    with caplog.at_level(logging.WARNING):
        assert sieve.sound(GOOD + event + GOOD + event) == GOOD + GOOD
    assert sieve.sound(event) == b""
    assert sieve.left_out == 3
    assert len(caplog.records) == 1, "once per stream is enough"


@pytest.mark.parametrize("start", [b"data: ", b"data:", b"event: error\ndata: "])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_bytes_that_are_no_text_are_mended_wherever_they_are_in_an_object(start: bytes, end: bytes) -> None:
    sieve, good = Sieve(), GOOD.replace(b"\n\n", end)
    for odd in (b'{"a": "caf\xe9"}', b'{"a": {"b": ["\xf0\x9f"]}}', b'{"\xff": 1}'):
        event = start + odd + end
        better = start + odd.decode("utf-8", "replace").encode() + end
        assert sieve.sound(good + event + good) == good + better + good
        assert sieve.sound(event) == better
    assert sieve.left_out == 0


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=10), max_size=3), max_size=5))
def test_a_sound_stream_is_not_touched(values: list[dict[str, str]]) -> None:
    whole = b"".join(b"data: %b\n\n" % msgspec.json.encode(value) for value in values)
    assert Sieve().sound(whole) is whole
