"""Chunked bodies of answers: the same however they are cut, ended where they end, refused where llhttp refuses them."""

from __future__ import annotations

from itertools import pairwise

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infermux.providers.chunks import Chunks, NotChunked
from tests._properties import examples


def encoded(chunks: list[bytes], trailers: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"


def fed(*parts: bytes) -> list[bytes]:
    decoder, pieces = Chunks(), list[bytes]()
    for part in parts:
        decoder.feed(part, pieces)
    return pieces


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place for place in places if place < len(data))})
    return [data[start:end] for start, end in pairwise(edges)]


@settings(max_examples=examples(150), deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=20), max_size=6),
    st.sampled_from([b"", b"X-Trailer: t\r\n", b"a:\r\nb: c\r\n"]),
    st.lists(st.integers(0, 200), max_size=10),
)
def test_any_cutting_gives_the_same_body_and_end(chunks: list[bytes], trailers: bytes, places: list[int]) -> None:
    decoder, pieces = Chunks(), list[bytes]()
    parts = cut(encoded(chunks, trailers), places)
    for part in parts[:-1]:
        assert decoder.feed(part, pieces) == 0
        assert not decoder.ended
    assert decoder.feed(parts[-1] + b"more", pieces) == 4
    assert decoder.ended
    assert b"".join(pieces) == b"".join(chunks)


def test_a_chunk_that_comes_whole_is_one_piece() -> None:
    pieces: list[bytes] = []
    assert Chunks().feed(b'3;of=no;interest="at all"\r\nabc\r\n2\r\nde\r\n', pieces) == 0
    assert pieces == [b"abc", b"de"]


def test_one_whole_chunk_is_known_at_a_look_and_nothing_else_is() -> None:
    decoder = Chunks()
    for data in (b"3\r\nabc\r\n", b"3\r\nabc\r\n", b"1\r\n\n\r\n", b"10\r\n" + b"x" * 16 + b"\r\n"):
        assert decoder.whole(data) == data.partition(b"\r\n")[2][:-2]
    for data in (
        b"",
        b"3",
        b"3\r\nab",
        b"3\r\nabc\r\n1\r\na\r\n",
        b"0\r\n\r\n",
        b"3;a=b\r\nabc\r\n",
        b"+3\r\nabc\r\n",
        b"03\r\nabc\r\n",
    ):
        assert decoder.whole(data) is None
    for data in (b"\r\n\r\n", b" 3\r\nabc\r\n", b"3\r\nabcd\n", b"000000003\r\nabc\r\n", b"3\nabc\r\n"):
        assert decoder.whole(data) is None


@pytest.mark.parametrize("before", [b"3\r\nab", b"3", b"3\r\nabc\r", b"0\r\n", b"0\r\n\r\n"])
def test_in_the_middle_of_something_nothing_is_a_whole_chunk(before: bytes) -> None:
    decoder = Chunks()
    decoder.feed(before, [])
    assert decoder.whole(b"3\r\nabc\r\n") is None


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=20), max_size=6), st.lists(st.integers(0, 200), max_size=10))
def test_looking_for_whole_chunks_first_changes_nothing(chunks: list[bytes], places: list[int]) -> None:
    decoder, pieces = Chunks(), list[bytes]()
    for part in cut(encoded(chunks), places):
        piece = decoder.whole(part)
        if piece is None:
            decoder.feed(part, pieces)
        else:
            pieces.append(piece)
    assert b"".join(pieces) == b"".join(chunks)
    assert decoder.ended


def test_what_has_come_of_a_chunk_is_there_at_once() -> None:
    assert fed(b"5\r", b"\nab", b"cde", b"\r", b"\n1\r\nf") == [b"ab", b"cde", b"f"]


BROKEN = [
    b"x\r\n",
    b"-1\r\n",
    b"+1\r\na\r\n",
    b"0x1\r\na\r\n",
    b"1_0\r\n",
    b" 1\r\na\r\n",
    b"\r\n",
    b"1\na\n",
    b"1\r\nab\r\n",
    b"1\r\na\n",
    b"1\r\na\r\r",
    b"2\r\nabc",
    b"1\r\na0\r\n\r\n",
    b"1;\x00\r\n",
    b"1;\r\n",
    b"1 ;a\r\n",
    b"1;a b\r\n",
    b'1;a="b\r\n',
    b"1" * 17 + b"\r\n",
    b"0\r\nno trailer\r\n\r\n",
    b"0\r\n: empty\r\n\r\n",
    b"0\r\na: \x00\r\n\r\n",
]


@pytest.mark.parametrize("body", BROKEN)
@pytest.mark.parametrize("step", [1, 100])
def test_what_is_no_chunk_is_refused(body: bytes, step: int) -> None:
    with pytest.raises(NotChunked):
        fed(*(body[at : at + step] for at in range(0, len(body), step)))


@pytest.mark.parametrize("start", [b"1;e=", b"1\r\na\r\n5;e=", b"0\r\nX-Trailer: "])
def test_a_line_without_an_end_is_refused(start: bytes) -> None:
    fed(start, b"a" * 1000)
    with pytest.raises(NotChunked):
        fed(start, *[b"a" * 1000] * 100)


ODD = [b"1", b"a", b"0", b"\r\n", b"\n", b"\r", b";", b"x", b":", b" ", b"=", b'"']


class Heard:
    """What httptools makes of an answer."""

    def __init__(self) -> None:
        self.body, self.whole = b"", False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.whole = True


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.sampled_from(ODD), max_size=12))
@example([b"1", b"\r\n", b"a", b"\r\n", b"0", b"\r\n", b"\r\n"])
@example([b"1", b";", b"\r\n"])
def test_what_is_taken_for_a_whole_body_is_one_for_llhttp_too(parts: list[bytes]) -> None:
    data, pieces = b"".join(parts), list[bytes]()
    decoder = Chunks()
    try:
        excess = decoder.feed(data, pieces)
    except NotChunked:
        return
    heard = Heard()
    parser = httptools.HttpResponseParser(heard)
    parser.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        parser.feed_data(data[: len(data) - excess])
    except httptools.HttpParserError:
        with pytest.raises(NotChunked):  # the rest of the line was waited for
            decoder.feed(b"\r\n", pieces)
        return
    assert (heard.body, heard.whole) == (b"".join(pieces), decoder.ended)
