"""Which heads are taken: the smuggling cases one by one, and agreement with two other parsers on what is accepted."""

from __future__ import annotations

import h11
import httptools  # pyright: ignore[reportMissingTypeStubs]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import HeadTooLarge, InfermuxError, InvalidRequest
from infermux.http.framing import HTTP2_PREFACE, MAX_HEAD_BYTES, Again, check_head, check_partial
from tests._properties import examples

OPENAI_SDK_HEAD = b"""POST /v1/chat/completions HTTP/1.1
Host: 127.0.0.1:8080
Accept-Encoding: gzip, deflate, br, zstd
Connection: keep-alive
Accept: application/json
Content-Type: application/json
User-Agent: OpenAI/Python 2.7.1
X-Stainless-Lang: python
Authorization: Bearer sk-0123456789
x-stainless-read-timeout: 600
Content-Length: 1507

""".replace(b"\n", b"\r\n")


def head(*lines: bytes, first: bytes = b"POST / HTTP/1.1", host: bytes = b"Host: x\r\n") -> bytes:
    return first + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def test_an_sdk_s_head_is_read() -> None:
    parsed = check_head(OPENAI_SDK_HEAD)
    assert (parsed.method, parsed.target, parsed.minor) == (b"POST", b"/v1/chat/completions", 1)
    assert (parsed.length, parsed.chunked, parsed.keep_alive) == (1507, False, True)
    assert parsed.headers[0] == (b"host", b"127.0.0.1:8080")
    assert (b"authorization", b"Bearer sk-0123456789") in parsed.headers
    assert len(parsed.headers) == 10


GOOD = {
    "chunks": head(b"Transfer-Encoding: chunked"),
    "chunks in capitals": head(b"Transfer-Encoding: CHUNKED"),
    "no length": head(),
    "length zero": head(b"Content-Length: 0"),
    "blanks around a value": head(b"Content-Length: \t 5 \t"),
    "no blank after the colon": head(b"Content-Length:5"),
    "empty value": head(b"X-A:", b"X-B: "),
    "the same name twice": head(b"X-A: 1", b"X-A: 2"),
    "text above ASCII": head("X-A: ü".encode()),
    "a tab inside a value": head(b"X-A: a\tb"),
    "IPv6 host": head(host=b"Host: [::1]:8080\r\n"),
    "HTTP/1.0 without a host": head(first=b"GET / HTTP/1.0", host=b""),
    "options of the server": head(first=b"OPTIONS * HTTP/1.1"),
    "a query": head(first=b"GET /a?b=%20&c HTTP/1.1"),
    "a method of its own": head(first=b"M-SEARCH / HTTP/1.1"),
}


@pytest.mark.parametrize("raw", GOOD.values(), ids=GOOD.keys())
def test_a_sound_head_is_taken(raw: bytes) -> None:
    check_head(raw)


BAD = {
    "length and chunks": head(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "chunks and length": head(b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    "the same length twice": head(b"Content-Length: 5", b"Content-Length: 5"),
    "different lengths": head(b"Content-Length: 5", b"content-length: 6"),
    "list of lengths": head(b"Content-Length: 5, 5"),
    "signed length": head(b"Content-Length: +5"),
    "negative length": head(b"Content-Length: -5"),
    "hexadecimal length": head(b"Content-Length: 0x5"),
    "length with underscore": head(b"Content-Length: 1_0"),
    "length of other digits": head(b"Content-Length: \xd9\xa5"),
    "empty length": head(b"Content-Length:"),
    "endless length": head(b"Content-Length: " + b"9" * 19),
    "length with blank inside": head(b"Content-Length: 1 0"),
    "other coding": head(b"Transfer-Encoding: gzip"),
    "list of codings": head(b"Transfer-Encoding: gzip, chunked"),
    "chunks twice": head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "chunks in a list": head(b"Transfer-Encoding: chunked, identity"),
    "vertical tab before chunks": head(b"Transfer-Encoding: \x0bchunked"),
    "chunks in HTTP/1.0": head(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"),
    "blank before the colon": head(b"Content-Length : 5"),
    "tab before the colon": head(b"Content-Length\t: 5"),
    "folded line": head(b"X-A: 1", b" continued"),
    "folded with tab": head(b"X-A: 1", b"\tcontinued"),
    "folded first line": head(b" X-A: 1", host=b""),
    "line without colon": head(b"X-A"),
    "empty name": head(b": 1"),
    "blank in a name": head(b"X A: 1"),
    "NUL in a name": head(b"X\0A: 1"),
    "NUL in a value": head(b"X-A: 1\x002"),
    "control byte in a value": head(b"X-A: \x1b[1m"),
    "DEL in a value": head(b"X-A: \x7f"),
    "bare CR in a value": head(b"X-A: 1\r2"),
    "bare CR before a line": head(b"\rX-A: 1"),
    "CR CR LF": head(b"X-A: 1\r"),
    "bare LF between lines": head(b"X-A: 1\nX-B: 2"),
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: x\r\n\r\n",
    "no host": head(host=b""),
    "two hosts": head(b"Host: x"),
    "two hosts in HTTP/1.0": head(b"Host: y", first=b"GET / HTTP/1.0"),
    "empty host": head(host=b"Host: \r\n"),
    "host with a path": head(host=b"Host: x/y\r\n"),
    "host with a user": head(host=b"Host: a@x\r\n"),
    "list of hosts": head(host=b"Host: x, y\r\n"),
    "HTTP/2 in words": head(first=b"GET / HTTP/2.0"),
    "HTTP/1.2": head(first=b"GET / HTTP/1.2"),
    "HTTP/1.10": head(first=b"GET / HTTP/1.10"),
    "HTTP/0.9": head(first=b"GET /"),
    "http in small letters": head(first=b"GET / http/1.1"),
    "method in small letters": head(first=b"get / HTTP/1.1"),
    "empty method": head(first=b" / HTTP/1.1"),
    "endless method": head(first=b"G" * 21 + b" / HTTP/1.1"),
    "two blanks": head(first=b"GET  / HTTP/1.1"),
    "tab instead of blank": head(first=b"GET\t/ HTTP/1.1"),
    "blank in the target": head(first=b"GET /a b HTTP/1.1"),
    "blank at the end": head(first=b"GET / HTTP/1.1 "),
    "blank at the start": head(first=b" GET / HTTP/1.1"),
    "whole URL as target": head(first=b"GET http://evil/ HTTP/1.1"),
    "authority as target": head(first=b"CONNECT evil:443 HTTP/1.1"),
    "target without slash": head(first=b"GET x HTTP/1.1"),
    "fragment in the target": head(first=b"GET /#a HTTP/1.1"),
    "bytes above ASCII in the target": head(first="GET /ü HTTP/1.1".encode()),
    "NUL in the target": head(first=b"GET /\0 HTTP/1.1"),
    "star for a post": head(first=b"POST * HTTP/1.1"),
    "the preface of HTTP/2": HTTP2_PREFACE,
    "nothing": b"\r\n\r\n",
    "no empty line": b"GET / HTTP/1.1\r\nHost: x\r\n",
    "more after the empty line": head() + b"GET /",
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_what_two_parsers_might_read_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_head(raw)
    assert caught.value.status == 400
    assert caught.value.message.endswith(".")


def test_a_giant_head_is_431() -> None:
    with pytest.raises(HeadTooLarge):
        check_head(head(b"X-A: " + b"a" * MAX_HEAD_BYTES))


def test_an_expectation_other_than_to_go_on_is_417() -> None:
    with pytest.raises(InfermuxError) as caught:
        check_head(head(b"Expect: a miracle"))
    assert caught.value.status == 417


@pytest.mark.parametrize(
    ("first", "lines", "keeps"),
    [
        (b"GET / HTTP/1.1", [], True),
        (b"GET / HTTP/1.1", [b"Connection: close"], False),
        (b"GET / HTTP/1.1", [b"Connection: keep-alive, Close"], False),
        (b"GET / HTTP/1.1", [b"Connection: keep-alive", b"Connection: close"], False),
        (b"GET / HTTP/1.0", [], False),
        (b"GET / HTTP/1.0", [b"Connection: Keep-Alive"], True),
        (b"GET / HTTP/1.0", [b"Connection: keep-alive, close"], False),
    ],
)
def test_version_and_connection_say_whether_it_stays_open(first: bytes, lines: list[bytes], keeps: bool) -> None:
    assert check_head(head(*lines, first=first)).keep_alive is keeps


def test_an_upgrade_counts_only_when_connection_names_it() -> None:
    assert check_head(head(b"Upgrade: WebSocket", b"Connection: keep-alive, Upgrade")).upgrade == b"websocket"
    assert check_head(head(b"Upgrade: websocket", b"Connection: keep-alive")).upgrade is None
    assert check_head(head(b"Upgrade: websocket")).upgrade is None


def test_only_http_1_1_is_asked_to_go_on() -> None:
    assert check_head(head(b"Expect: 100-Continue")).expects_continue
    assert not check_head(head(b"Expect: 100-continue", first=b"POST / HTTP/1.0")).expects_continue


@pytest.mark.parametrize(
    "start", [b"\x16\x03\x01\x02", b"get /", b"GET / HTTP/1.1\nHost: x\n", b"GET / HTTP/1.1\rX", b"\0", b" GET"]
)
def test_a_hopeless_beginning_is_refused_before_its_end(start: bytes) -> None:
    with pytest.raises(InvalidRequest):
        check_partial(start, 0)


def test_a_hopeful_beginning_is_waited_for() -> None:
    for end in range(1, len(OPENAI_SDK_HEAD) - 4):
        check_partial(OPENAI_SDK_HEAD[:end], max(0, end - 1))


def test_a_beginning_that_is_too_long_is_431() -> None:
    with pytest.raises(HeadTooLarge):
        check_partial(b"G" * (MAX_HEAD_BYTES + 1), 0)


# Whatever is accepted, h11 (which hypercorn reads with) and llhttp must read the same way.

_LINE_PARTS = st.sampled_from(
    [
        b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"X-A", b": ", b":", b" ", b"\t", b"x", b"5",
        b"chunked", b"close", b"\r", b"\n", b"\r\n", b"\0", b"\x0b", b"\x7f", b"\xff", b"a,b", b"keep-alive", b"\x85",
    ]
)  # fmt: skip
_LINES = st.lists(_LINE_PARTS, max_size=6).map(b"".join)
_FIRST = st.sampled_from([b"GET / HTTP/1.1", b"POST /a?b HTTP/1.1", b"GET / HTTP/1.0", b"GET /\x85 HTTP/1.1", b"G / X"])


class _Listener:
    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip(b" \t")))


def _by_h11(raw: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    return list(request.headers), request.target


def _by_llhttp(raw: bytes) -> list[tuple[bytes, bytes]]:
    listener = _Listener()
    httptools.HttpRequestParser(listener).feed_data(raw)
    return listener.headers


@given(first=_FIRST, host=st.booleans(), lines=st.lists(_LINES, max_size=4))
@settings(max_examples=examples(150), deadline=None)
def test_other_parsers_read_an_accepted_head_the_same_way(first: bytes, host: bool, lines: list[bytes]) -> None:
    raw = head(*lines, first=first, host=b"Host: x\r\n" if host else b"")
    try:
        parsed = check_head(raw)
    except InfermuxError:
        return
    headers, target = _by_h11(raw)
    assert (headers, target) == (parsed.headers, parsed.target)
    assert _by_llhttp(raw) == parsed.headers


@given(st.binary(max_size=200))
@settings(max_examples=examples(100), deadline=None)
def test_no_bytes_do_anything_but_be_taken_or_refused(data: bytes) -> None:
    for raw in (data, head(data), data + b"\r\n\r\n"):
        try:
            check_head(raw)
        except InfermuxError:
            pass


@given(st.integers(0, 10**18 - 1))
def test_a_head_that_differs_in_its_length_alone_is_known_again(length: int) -> None:
    said = b"%d" % length
    other = OPENAI_SDK_HEAD.replace(b"1507", said)
    again = Again(OPENAI_SDK_HEAD, check_head(OPENAI_SDK_HEAD))
    assert again.raw == OPENAI_SDK_HEAD
    assert again.length_of(other) == said
    assert check_head(other).length == length


@settings(max_examples=examples(300))
@given(
    st.integers(0, len(OPENAI_SDK_HEAD) - 1),
    st.integers(0, 12),
    st.binary(max_size=12)
    | st.sampled_from([b"15 07", b"+1", b"1_0", b"\r\n", b"\xb2", b"1, 2", b"Content-Length: 1\r\n"]),
)
def test_a_head_is_known_again_only_where_it_would_be_read_the_same(at: int, cut: int, put: bytes) -> None:
    again = Again(OPENAI_SDK_HEAD, check_head(OPENAI_SDK_HEAD))
    raw = OPENAI_SDK_HEAD[:at] + put + OPENAI_SDK_HEAD[at + cut :]
    raw = raw[: raw.find(b"\r\n\r\n") + 4] if b"\r\n\r\n" in raw else raw
    length = again.length_of(raw)
    if length is not None:
        parsed = check_head(raw)
        assert parsed.length == int(length)
        same = [(name, length if name == b"content-length" else value) for name, value in again.parsed.headers]
        assert list(parsed.headers) == same


def test_a_head_without_a_length_is_known_again_only_as_it_was() -> None:
    raw = head(b"Transfer-Encoding: chunked", first=b"POST /x HTTP/1.1")
    again = Again(raw, check_head(raw))
    assert again.raw == raw
    assert again.length_of(raw.replace(b"/x", b"/y")) is None
