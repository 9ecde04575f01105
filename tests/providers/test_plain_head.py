"""Heads that need no parser. That they are what the parser makes of them is tried with the connection."""

from __future__ import annotations

import pytest

from infermux.providers import plain_head
from infermux.providers.plain_head import KEPT_LINES, LONGEST_KEPT, PlainHead, read_plain


def answered(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK", body: bytes = b"{}") -> bytes:
    return b"\r\n".join([status, *lines, b"", body])


def plain(data: bytes) -> PlainHead:
    head = read_plain(data)
    assert head is not None
    return head


@pytest.mark.parametrize("again", [False, True])
def test_a_head_with_a_length_is_read(again: bool) -> None:
    data = answered(b"Content-Type:application/json", b"Content-Length: 2", b"Set-Cookie: a", b"set-cookie:\tb")
    head = plain(data)
    if again:
        head = plain(data)
    status, fields, first, start, length = head
    assert (status, length, data[start:]) == (200, 2, b"{}")
    cookies = [(b"set-cookie", b"a"), (b"set-cookie", b"b")]
    assert fields == [(b"content-type", b"application/json"), (b"content-length", b"2"), *cookies]
    assert first == {b"content-type": b"application/json", b"content-length": b"2", b"set-cookie": b"a"}


def test_a_chunked_one_has_no_length() -> None:
    status, *_, length = plain(
        answered(b"Transfer-Encoding: Chunked", b"Connection: keep-alive", status=b"HTTP/1.1 503")
    )
    assert (status, length) == (503, None)


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (b"Content-Length: 2", b"Content-Length: 2"),
        (b"Content-Length: 2", b"content-length: 3"),
        (b"Content-Length: 2", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 2", b"Connection: close"),
        (b"Content-Length: 2", b"Connection: keep-alive", b"Connection: close"),
        (b"Content-Length: 2", b"Upgrade: h2c"),
        (b"Transfer-Encoding: chunked", b"Trailer: X"),
        (b"Transfer-Encoding: gzip, chunked",),
        (b"Content-Length: 0x2",),
        (b"Content-Length: 2", b" folded"),
        (b"Content-Length: 2", b"Name : a"),
        (b"Content-Length: 2", b"Name: a\x01"),
        (b"Content-Length: 2", b"Name: a\nb: c"),
    ],
)
def test_what_is_not_plain_is_left_to_the_parser(lines: tuple[bytes, ...]) -> None:
    assert read_plain(answered(*lines)) is None
    assert read_plain(answered(*lines)) is None


def test_a_head_that_is_not_all_here_is_not_read() -> None:
    data = answered(b"Content-Length: 2", body=b"")
    assert all(read_plain(data[:end]) is None for end in range(len(data)))
    assert read_plain(data) is not None


def test_so_many_lines_are_remembered_and_no_long_ones() -> None:
    for number in range(3 * KEPT_LINES):
        _, _, first, _, _ = plain(answered(b"X-Request-Id: %d" % number, b"Content-Length: 2"))
        assert first[b"x-request-id"] == b"%d" % number
    long = answered(b"X-Long: " + b"x" * LONGEST_KEPT, b"Content-Length: 2")
    assert plain(long) == plain(long)
    kept = plain_head._fields  # pyright: ignore[reportPrivateUsage]
    assert len(kept) <= KEPT_LINES
    assert all(len(line) <= LONGEST_KEPT for line in kept)
