"""Event stream framing: botocore reads what is written here, any split reads the same, nothing corrupt gets through."""

from __future__ import annotations

import itertools
import struct
import uuid
import zlib
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import FailureKind
from infermux.providers.eventstream import (
    Byte,
    EventStreamCorrupt,
    EventStreamDecoder,
    HeaderValue,
    Long,
    Message,
    Short,
    Timestamp,
    encode,
    event,
)
from tests._properties import examples


def signed(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


VALUES: st.SearchStrategy[HeaderValue] = st.one_of(
    st.booleans(),
    signed(8).map(Byte),
    signed(16).map(Short),
    signed(32),
    signed(64).map(Long),
    st.binary(max_size=40),
    st.text(max_size=20),
    signed(64).map(Timestamp),
    st.uuids(),
)
NAMES = st.text(min_size=1, max_size=20)
MESSAGES = st.builds(Message, headers=st.dictionaries(NAMES, VALUES, max_size=5), payload=st.binary(max_size=100))
STREAMS = st.lists(MESSAGES, min_size=1, max_size=4)


def plain(value: HeaderValue) -> object:
    """A header's value as botocore has it, which does not keep the integers' widths apart."""
    match value:
        case Byte(value=number) | Short(value=number) | Long(value=number) | Timestamp(milliseconds=number):
            return number
        case uuid.UUID():
            return value.bytes
        case _:
            return value


def read(data: bytes, cuts: list[int] | None = None) -> list[Message]:
    decoder = EventStreamDecoder()
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts or [])})
    found = [message for start, end in itertools.pairwise(edges) for message in decoder.feed(data[start:end])]
    assert decoder.pending == 0
    return found


@given(STREAMS)
@settings(max_examples=examples(40), deadline=None)
def test_botocore_reads_what_is_encoded(messages: list[Message]) -> None:
    buffer: Any = EventStreamBuffer()
    buffer.add_data(b"".join(map(encode, messages)))
    theirs = [(found.headers, found.payload) for found in buffer]
    assert theirs == [({name: plain(v) for name, v in m.headers.items()}, m.payload) for m in messages]


@given(STREAMS, st.lists(st.integers(0, 10_000), max_size=8))
@settings(max_examples=examples(40), deadline=None)
def test_any_split_of_the_bytes_gives_the_same_messages(messages: list[Message], cuts: list[int]) -> None:
    assert read(b"".join(map(encode, messages)), cuts) == messages


def test_one_byte_at_a_time_gives_the_same_messages() -> None:
    data = event("messageStart", b'{"role":"assistant"}') + event("messageStop", b'{"stopReason":"end_turn"}')
    assert read(data, list(range(len(data)))) == read(data)


@given(MESSAGES, st.integers(0, 10_000), st.integers(0, 7))
@settings(max_examples=examples(40), deadline=None)
def test_one_wrong_bit_anywhere_is_never_taken_for_a_message(message: Message, at: int, bit: int) -> None:
    data = bytearray(encode(message))
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(EventStreamCorrupt, match="checksum") as caught:
        EventStreamDecoder().feed(bytes(data))
    assert caught.value.kind is FailureKind.MALFORMED


@given(st.binary(max_size=200))
@settings(max_examples=examples(40), deadline=None)
def test_bytes_that_are_no_event_stream_are_refused_or_waited_for(data: bytes) -> None:
    decoder = EventStreamDecoder()
    try:
        assert decoder.feed(data) == []
    except EventStreamCorrupt:
        return
    assert len(data) < 12


def framed(headers: bytes, *, total: int | None = None, length: int | None = None) -> bytes:
    """A message of `headers` with right checksums, whatever lengths it claims."""
    size = 16 + len(headers) if total is None else total
    lengths = struct.pack("!II", size, len(headers) if length is None else length)
    body = lengths + struct.pack("!I", zlib.crc32(lengths)) + headers
    return body + struct.pack("!I", zlib.crc32(body))


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        (b"\x05ab", "a name that is cut"),
        (b"\x01a", "no type"),
        (b"\x01a\x0a", "an unknown type"),
        (b"\x01a\x07\x00\x05ab", "a text that is cut"),
        (b"\x01a\x07\x00\x01\xff", "a text that is no UTF-8"),
        (b"\x01a\x04\x00", "an integer that is cut"),
        (b"\x01a\x09\x00", "a UUID that is cut"),
        (b"\x01a\x00\x01a\x01", "a name that is there twice"),
    ],
)
def test_malformed_headers_are_refused(headers: bytes, what: str) -> None:
    with pytest.raises(EventStreamCorrupt, match="headers"):
        EventStreamDecoder().feed(framed(headers))


@pytest.mark.parametrize(("total", "length"), [(15, 0), (0, 0), (16, 1), (40, 128 * 1024 + 1), (2**20, 2**20)])
def test_impossible_lengths_are_refused(total: int, length: int) -> None:
    with pytest.raises(EventStreamCorrupt, match="lengths"):
        EventStreamDecoder().feed(framed(b"", total=total, length=length))


def test_a_message_over_the_bound_is_refused_before_it_is_kept() -> None:
    decoder = EventStreamDecoder()
    with pytest.raises(EventStreamCorrupt, match="over 16777216"):
        decoder.feed(framed(b"", total=16 * 1024 * 1024 + 1)[:12])
    assert decoder.pending <= 12


def test_a_message_at_the_bound_is_read() -> None:
    decoder = EventStreamDecoder(limit=200)
    (found,) = decoder.feed(encode(Message(payload=b"x" * 184)))
    assert len(found.payload) == 184


def test_what_is_left_at_the_end_shows_that_the_stream_was_cut() -> None:
    decoder = EventStreamDecoder()
    data = event("messageStart", b"{}")
    assert decoder.feed(data + data[:20]) != []
    assert decoder.pending == 20


@pytest.mark.parametrize(
    ("kind", "header", "name"),
    [
        ("event", ":event-type", "metadata"),
        ("exception", ":exception-type", "throttlingException"),
        ("error", ":error-code", "InternalError"),
    ],
)
def test_the_kind_of_a_message_says_where_its_name_is(kind: str, header: str, name: str) -> None:
    (message,) = read(encode(Message(headers={":message-type": kind, header: name})))
    assert (message.type, message.name) == (kind, name)


def test_a_header_that_is_no_text_is_no_name() -> None:
    assert Message(headers={":event-type": 3}).name == ""


@pytest.mark.parametrize("header", [{"n" * 256: ""}, {"n": "v" * 65536}, {"n": 2**31}, {"n": b"v" * 65536}])
def test_what_does_not_fit_cannot_be_encoded(header: dict[str, HeaderValue]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        encode(Message(headers=header))
