"""Requests that are to be refused, as bytes: the framing and the target of HTTP/1.1, by both ways in.

Each row says what either binding answers: `serve` is `infermux serve`, `asgi` plain hypercorn. They differ where h11
reads what our own rules refuse, in a way that RFC 9112 allows; docs/security.md lists it.
"""

from __future__ import annotations

import json
from typing import Final

import attrs

TOKEN: Final = "t0ken"
MODEL: Final = "gpt-4o"
BODY: Final = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}).encode()
SMUGGLED: Final = (
    b"GET /_infermux/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n\r\n" % TOKEN.encode()
)
END: Final = b"0\r\n\r\n"
CHAT: Final = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET: Final = b"GET /_infermux/status HTTP/1.1\r\nHost: localhost\r\n"
LENGTH: Final = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
UNTIL_TIMEOUT: Final = 408


@attrs.frozen(kw_only=True)
class Attack:
    """`serve`, `asgi`: the status of the only answer."""

    name: str
    data: bytes
    serve: int = 400
    asgi: int = 400

    def status(self, way: str) -> int:
        return self.serve if way == "serve" else self.asgi


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _chat(name: str, headers: bytes, rest: bytes = BODY, *, serve: int = 400, asgi: int = 400) -> Attack:
    return Attack(name=name, data=CHAT + headers + b"\r\n" + rest, serve=serve, asgi=asgi)


def _get(name: str, data: bytes, *, serve: int = 400, asgi: int = 400) -> Attack:
    return Attack(name=name, data=data, serve=serve, asgi=asgi)


WHOLE: Final = _chunk(BODY) + END
LENGTHS: Final = (
    _chat("Content-Length before chunks", b"Content-Length: 6\r\n" + CHUNKED, WHOLE + SMUGGLED),
    _chat("chunks before Content-Length", CHUNKED + b"Content-Length: 4\r\n", WHOLE + SMUGGLED),
    _chat("an empty chunked body with a length", LENGTH + CHUNKED, END + SMUGGLED),
    _chat("two lengths", LENGTH + b"Content-Length: 0\r\n", BODY + SMUGGLED),
    _chat("the same length twice", LENGTH + LENGTH, asgi=200),
    _chat("a list of lengths", LENGTH[:-2] + b", %d\r\n" % len(BODY), asgi=200),
    _chat("a length with a plus", b"Content-Length: +%d\r\n" % len(BODY)),
    _chat("a length with a minus", b"Content-Length: -1\r\n"),
    _chat("a length with a space in it", b"Content-Length: 1 0\r\n"),
    _chat("a length with an underscore", b"Content-Length: 1_0\r\n"),
    _chat("a hexadecimal length", b"Content-Length: 0x10\r\n"),
    _chat("a length of nothing", b"Content-Length: \r\n"),
    _chat("a length in other digits", "Content-Length: ٤\r\n".encode()),
    _chat("a length beyond all numbers", b"Content-Length: 99999999999999999999999999\r\n"),
    _chat("a space before the colon of a length", b"Content-Length : %d\r\n" % len(BODY)),
)
CODINGS: Final = (
    _chat("a space before the colon of a coding", b"Transfer-Encoding : chunked\r\n", WHOLE),
    _chat("an unknown coding", b"Transfer-Encoding: xchunked\r\n", WHOLE, asgi=501),
    _chat("identity", b"Transfer-Encoding: identity\r\n" + LENGTH, asgi=501),
    _chat("chunked twice", CHUNKED + CHUNKED, WHOLE, asgi=501),
    _chat("two codings", b"Transfer-Encoding: gzip, chunked\r\n", WHOLE, asgi=501),
    _chat("chunked, but not last", b"Transfer-Encoding: chunked, gzip\r\n", WHOLE, asgi=501),
    _chat("chunked in quotes", b'Transfer-Encoding: "chunked"\r\n', WHOLE, asgi=501),
    _chat("chunked with a vertical tab", b"Transfer-Encoding: \x0bchunked\r\n", WHOLE),
    _get("chunks by HTTP/1.0", CHAT.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n" + WHOLE),
)
CHUNKS: Final = (
    _chat("a chunk size with a plus", CHUNKED, b"+5\r\nabcde\r\n" + END),
    _chat("a chunk size with a minus", CHUNKED, b"-5\r\nabcde\r\n" + END),
    _chat("a chunk size with a prefix", CHUNKED, b"0x5\r\nabcde\r\n" + END),
    _chat("a chunk size with an underscore", CHUNKED, b"1_0\r\nabcde\r\n" + END),
    _chat("a chunk size that overflows 64 bits", CHUNKED, b"10000000000000005\r\nabcde\r\n", asgi=UNTIL_TIMEOUT),
    _chat("a chunk size of thirty zeros", CHUNKED, b"0" * 30 + b"5\r\nabcde\r\n" + END + SMUGGLED),
    _chat("a chunk longer than it says", CHUNKED, b"2\r\nabcde\r\n" + END + SMUGGLED),
    _chat("chunks with bare line feeds", CHUNKED, b"%x\n%b\n0\n\n" % (len(BODY), BODY), asgi=UNTIL_TIMEOUT),
    _chat("a line feed in an extension", CHUNKED, b"%x;a\nb\r\n%b\r\n" % (len(BODY), BODY) + END),
    _chat("a carriage return in an extension", CHUNKED, b"%x;a\rb\r\n%b\r\n" % (len(BODY), BODY) + END, asgi=200),
    _chat("a giant extension", CHUNKED, b"%x;a=%b\r\n%b\r\n" % (len(BODY), b"b" * 99_999, BODY) + END, asgi=431),
    _chat("an extension", CHUNKED, b"%x;a=b\r\n%b\r\n" % (len(BODY), BODY) + END, serve=200, asgi=200),
    _chat(
        "a trailer with a length and a host",
        CHUNKED,
        _chunk(BODY) + b"0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: evil\r\n\r\n",
        serve=200,
        asgi=200,
    ),
    _chat("a trailer that is none", CHUNKED, _chunk(BODY) + b"0\r\nbad trailer\r\n\r\n" + SMUGGLED),
    _chat("giant trailers", CHUNKED, _chunk(BODY) + b"0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", asgi=431),
)
FIELDS: Final = (
    _chat("a folded line", b"X-A: 1\r\n 2\r\n" + LENGTH, asgi=200),
    _chat("a folded coding", b"Transfer-Encoding:\r\n chunked\r\n", WHOLE, asgi=200),
    _get("a folded first line", b"POST /v1/chat/completions HTTP/1.1\r\n Host: localhost\r\n\r\n"),
    _get("bare line feeds", (CHAT + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + BODY, asgi=200),
    _chat("one bare line feed", b"X: y\n" + LENGTH, asgi=200),
    _chat("a bare carriage return", b"X: y\rContent-Length: 0\r\n" + LENGTH),
    _chat("a NUL in a value", b"X: a\0b\r\n" + LENGTH),
    _chat("a control byte in a value", b"X: a\x0bb\r\n" + LENGTH),
    _chat("a NUL in a name", b"X\0: a\r\n" + LENGTH),
    _chat("a space in a name", b"X Y: 1\r\n" + LENGTH),
    _chat("a name beyond ASCII", "Ünï: 1\r\n".encode() + LENGTH),
    _chat("no name", b": 1\r\n" + LENGTH),
    _chat("no colon", b"Hello\r\n" + LENGTH),
    _chat("bytes that are no UTF-8 in a value", b"X: \xff\xfe\r\n" + LENGTH, serve=200, asgi=200),
    _chat("one giant header", b"X: " + b"y" * 40_000 + b"\r\n" + LENGTH, serve=431, asgi=431),
    _chat("ten thousand headers", b"X: y\r\n" * 10_000 + LENGTH, serve=431, asgi=431),
    _chat("an expectation of miracles", b"Expect: miracles\r\n" + LENGTH, serve=417, asgi=417),
)
TARGETS: Final = (
    _get("absolute form", b"GET http://localhost/_infermux/status HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    _get("absolute form elsewhere", b"GET http://evil.example/_infermux/status HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    _get("absolute form of inference", CHAT.replace(b" /v1", b" http://localhost/v1") + LENGTH + b"\r\n" + BODY),
    _get("authority form", b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    _get("CONNECT with a path", b"CONNECT /_infermux/status HTTP/1.1\r\nHost: localhost\r\n\r\n", serve=401, asgi=401),
    _get("an asterisk", b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    _get("a relative path", b"GET _infermux/status HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    _get("a fragment", GET.replace(b"status", b"status#x") + b"\r\n"),
    _get("a path that is no UTF-8", GET.replace(b"status", b"\xff\xfe") + b"\r\n"),
    _get("a giant path", GET.replace(b"status", b"a" * 40_000) + b"\r\n", serve=431, asgi=431),
    _get("HTTP/0.9", b"GET /_infermux/status\r\n\r\n"),
    _get("HTTP/1.2", GET.replace(b"1.1", b"1.2") + b"\r\n"),
    _get("HTTP/2.0 in words", GET.replace(b"1.1", b"2.0") + b"\r\n"),
    _get("a small version", GET.replace(b"HTTP", b"http") + b"\r\n"),
    _get("a small method", GET.replace(b"GET", b"get") + b"\r\n", asgi=401),
    _get("two spaces", GET.replace(b" /", b"  /") + b"\r\n"),
    _get("tabs", GET.replace(b" /", b"\t/").replace(b" HTTP", b"\tHTTP") + b"\r\n"),
    _get("TLS to a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)),
)
HOSTS: Final = (
    _get("no Host", b"GET /_infermux/status HTTP/1.1\r\n\r\n"),
    _get("two Hosts", GET + b"Host: evil.example\r\n\r\n"),
    _get("an empty Host", GET.replace(b" localhost", b"") + b"\r\n"),
    _get("a list of Hosts", GET.replace(b"localhost", b"localhost, evil.example") + b"\r\n"),
    _get("a Host after brackets", GET.replace(b"localhost", b"[::1].evil.example") + b"\r\n"),
    _get("a Host after a user", GET.replace(b"localhost", b"localhost:80@evil.example") + b"\r\n"),
    _get("a foreign Host", GET.replace(b"localhost", b"evil.example") + b"\r\n", serve=403, asgi=403),
    _get(
        "loopback as a part of a name",
        GET.replace(b"localhost", b"127.0.0.1.evil.example") + b"\r\n",
        serve=403,
        asgi=403,
    ),
    _get("a number that is an address", GET.replace(b"localhost", b"2130706433") + b"\r\n", serve=403, asgi=403),
    _get(
        "a forwarded Host",
        GET.replace(b"localhost", b"evil.example")
        + b"X-Forwarded-Host: localhost\r\nForwarded: host=localhost\r\n\r\n",
        serve=403,
        asgi=403,
    ),
    _get("a foreign Origin", GET + b"Origin: http://evil.example\r\n\r\n", serve=403, asgi=403),
    _get("an Origin of nothing", GET + b"Origin: null\r\n\r\n", serve=403, asgi=403),
    _get("an Origin of another port", GET + b"Origin: http://localhost:1\r\n\r\n", serve=403, asgi=403),
)
WITHOUT_THE_TOKEN: Final = tuple(
    _get(
        f"{target.decode()} without the token", b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % target, serve=s, asgi=s
    )
    for target, s in (
        (b"/_infermux/status", 401),
        (b"//_infermux/status", 401),
        (b"/_infermux//status", 401),
        (b"/_infermux/status/", 401),
        (b"/_infermux%2fstatus", 401),
        (b"/%5finfermux/status", 401),
        (b"/_infermux/status;x", 401),
        (b"/_infermux/status%00", 401),
        (b"/_infermux/status?/health", 401),
        (b"/_infermux/health/../status", 401),
        (b"/_infermux/health%3f/status", 401),
        (b"/_infermux/health;/../status", 401),
        (b"/_infermux/dashboard.js/../config", 401),
        (b"/v1/../_infermux/status", 404),
        (b"/v1/%2e%2e/_infermux/status", 404),
        (b"/_INFERMUX/status", 404),
        (b"/\\_infermux/status", 404),
        (b"/%255finfermux/status", 404),
    )
)
FURTHER_WAYS: Final = (
    _get(
        "another URL by headers",
        b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nX-Original-URL: /_infermux/status\r\n"
        b"X-Rewrite-URL: /_infermux/status\r\n\r\n",
        serve=404,
        asgi=404,
    ),
    _get(
        "a web socket",
        GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        serve=404,
        asgi=404,
    ),
    _get(
        "an upgrade to HTTP/2",
        GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        serve=401,
        asgi=101,
    ),
)
NOTHING: Final = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n"
BODIES: Final = (
    _get(
        "a body of GET that is a request",
        NOTHING + b"Content-Length: %d\r\n\r\n%b" % (len(SMUGGLED), SMUGGLED),
        serve=404,
        asgi=404,
    ),
    _get(
        "a chunked body of GET that is a request",
        NOTHING + CHUNKED + b"\r\n" + _chunk(SMUGGLED) + END,
        serve=404,
        asgi=404,
    ),
    _chat("what follows a refusal", b"Content-Length: abc\r\n", SMUGGLED),
)
ATTACKS: Final = (*LENGTHS, *CODINGS, *CHUNKS, *FIELDS, *TARGETS, *HOSTS, *WITHOUT_THE_TOKEN, *FURTHER_WAYS, *BODIES)
