"""Chunked bodies: put together from any pieces, ended exactly where they end, refused where parsers disagree."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import InvalidRequest, PayloadTooLarge
from infermux.http.chunked import ChunkedDecoder
from tests._properties import examples


def encode(chunks: list[bytes], trailers: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    rest=st.binary(max_size=20),
    cuts=st.lists(st.integers(0, 300), max_size=8),
)
@settings(max_examples=examples(100), deadline=None)
def test_any_cutting_gives_the_same_body_and_rest(chunks: list[bytes], rest: bytes, cuts: list[int]) -> None:
    wire = encode(chunks)
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    decoder = ChunkedDecoder(limit=1000)
    pieces = [wire[start:end] for start, end in pairwise(edges)]
    done = [decoder.feed(piece) for piece in pieces[:-1]]
    assert pieces[-1] == b"" or not any(done)
    assert decoder.feed(pieces[-1] + rest)
    assert decoder.body() == b"".join(chunks)
    assert decoder.rest == rest


def test_extensions_and_trailers_are_read_over() -> None:
    decoder = ChunkedDecoder(limit=10)
    assert decoder.feed(b'3;a="b"\r\nabc\r\n0 ; x\r\nX-Sum: 1\r\nX-B:\r\n\r\nnext')
    assert (decoder.body(), decoder.rest) == (b"abc", b"next")


def test_without_keeping_only_the_end_is_found() -> None:
    decoder = ChunkedDecoder(limit=10, keep=False)
    assert decoder.feed(b"3\r\nabc\r\n0\r\n\r\nrest")
    assert (decoder.body(), decoder.rest, decoder.received) == (b"", b"rest", 3)


BAD = {
    "no size": b"\r\n",
    "not hexadecimal": b"g\r\n",
    "signed": b"+3\r\nabc\r\n",
    "with prefix": b"0x3\r\nabc\r\n",
    "blank before": b" 3\r\nabc\r\n",
    "blank after": b"3 \r\nabc\r\n",
    "endless size": b"f" * 16 + b"\r\n",
    "bare LF after the size": b"3\nabc\r\n",
    "bare CR in an extension": b"3;a\rb\r\nabc\r\n",
    "control byte in an extension": b"3;\0\r\nabc\r\n",
    "chunk longer than said": b"3\r\nabcd\r\n",
    "bare LF after the data": b"3\r\nabc\n\n0\r\n\r\n",
    "trailer without colon": b"0\r\nabc\r\n\r\n",
    "folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "bare LF at the end": b"0\r\n\n",
    "endless line": b"1;" + b"a" * 5000,
    "endless trailers": b"0\r\n" + b"A: b\r\n" * 3000,
}


@pytest.mark.parametrize("wire", BAD.values(), ids=BAD.keys())
def test_ill_formed_chunks_are_refused(wire: bytes) -> None:
    with pytest.raises(InvalidRequest):
        ChunkedDecoder(limit=100).feed(wire)


def test_more_than_the_limit_is_refused_before_it_comes() -> None:
    decoder = ChunkedDecoder(limit=5)
    decoder.feed(b"3\r\nabc\r\n")
    with pytest.raises(PayloadTooLarge):
        decoder.feed(b"3\r\n")


def test_tiny_chunks_take_no_more_memory_than_what_is_in_them() -> None:
    wire = b"2\r\nab\r\n" * 10_000 + b"0\r\n\r\n"
    decoder = ChunkedDecoder(limit=100_000)
    tracemalloc.start()
    try:
        for start in range(0, len(wire), 4096):
            decoder.feed(wire[start : start + 4096])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert decoder.body() == b"ab" * 10_000
    assert kept < 100_000  # an object for each would be half a megabyte
