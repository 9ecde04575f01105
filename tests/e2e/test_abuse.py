"""Try to break it: whatever comes, the server lives, nothing is left in flight, and there is no traceback in the log.

The last two are what `routing` asserts at its end; `alive` is the first.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx
import pytest
import trio

from infermux.actors.record import Ending, Record
from infermux.errors import Fault
from tests._turns import within
from tests.e2e._attacks import BODY, STREAM, attacked, request, reset, say
from tests.e2e._router import EITHER_WAY, HELLO, gather, provider, routing, until
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}

GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"\x00" * 1000,
    b"\xff" * 1000,
    b"GET / HTTP/9.9\r\n\r\n",
    b"hello there\r\n\r\n",
    b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 500,
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nExpect: miracles\r\nContent-Length: 2\r\n\r\n{}",
    b"\r\n" * 5000,
]


async def test_garbage_is_refused() -> None:
    async with attacked(header_timeout="300ms") as router:
        for data in GARBAGE:
            async with within(1):
                said = await say(router, data, eof=True)
            assert not said.startswith(b"HTTP/1.1 2"), data[:60]
            assert not said.startswith(b"HTTP/1.1 5"), data[:60]
        noise = random.Random(7)
        for _ in range(30):
            await say(router, noise.randbytes(noise.randrange(1, 3000)), eof=True)


async def test_slow_heads_and_bodies_are_cut() -> None:
    async with attacked(header_timeout="300ms") as router:
        head, _, body = request().partition(b"\r\n\r\n")

        async def linger(data: bytes) -> None:
            async with within(1.5):
                said = await say(router, data)
            assert said == b"" or said.startswith(b"HTTP/1.1 408 "), data

        async with trio.open_nursery() as nursery:
            for data in (b"", b"POST /v1/chat", head, head + b"\r\n\r\n" + body[:5], b"GET /v1/models HTTP/1.1\r\n"):
                nursery.start_soon(linger, data)


async def test_a_body_that_drips_is_cut() -> None:
    async with attacked(header_timeout="300ms") as router:
        stream = await trio.open_tcp_stream("127.0.0.1", router.port)
        await stream.send_all(request(b" " * 100)[:-100])
        said = b""
        async with within(1.5), trio.open_nursery() as nursery:

            async def drip() -> None:
                try:
                    while True:
                        await stream.send_all(b" ")
                        await trio.sleep(0.02)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass

            nursery.start_soon(drip)
            said = b"".join([data async for data in stream])
            nursery.cancel_scope.cancel()
        assert said.startswith(b"HTTP/1.1 408 ")
        await stream.aclose()


DEEP = b'{"model":"gpt-4o","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
DEEP_ASIDE = b'{"model":"gpt-4o","messages":[{"role":"user","content":"x"}],"metadata":%b}' % (
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000
)
BODIES: list[tuple[bytes, set[int]]] = [
    (DEEP, {400}),
    (DEEP_ASIDE, {400}),
    (b"[" * 1_000_000, {400}),
    (b'{"model":"gpt-4o","messages":[{"role":"user","content":"\xff\xfe"}]}', {400}),
    (b'{"model":"gpt-4o","messages":[{"role":"user","content":"a\x00b"}]}', {400}),
    (b'{"model":"gpt-4o","messages":[{"role":"user","content":"a\\u0000b \\ud800"}]}', {200, 400}),
    (b'{"model":"gpt-4o","model":"nobody","messages":[{"role":"user","content":"x"}]}', {400, 404}),
    (b'{"model":"nobody","model":"gpt-4o","messages":[{"role":"user","content":"x"}]}', {400, 404}),
    (b'{"stream":true,"stream":false,"model":"gpt-4o","messages":[{"role":"user","content":"x"}]}', {400}),
    (json.dumps({"model": "x" * 1024, "messages": HELLO}).encode(), {404}),
    (json.dumps({"model": "x" * 1_000_000, "messages": HELLO}).encode(), {400}),
    (json.dumps({"model": "one/" + "x" * 1_000_000, "messages": HELLO}).encode(), {400}),
    (json.dumps({"model": "m", "messages": HELLO, "provider": {"only": ["x" * 1_000_000]}}).encode(), {400}),
    (json.dumps({"model": "m", "messages": HELLO, "x" * 1_000_000: 1}).encode(), {404}),
    (json.dumps({"model": "m", "messages": HELLO, "provider": {"x" * 1_000_000: 1}}).encode(), {400}),
    (json.dumps({"model": "a\r\nX-Evil: 1", "messages": HELLO}).encode(), {404}),
    (json.dumps({"model": "*", "messages": HELLO}).encode(), {404}),
    (json.dumps({"model": 5, "messages": HELLO}).encode(), {400}),
    (json.dumps({"model": None, "messages": HELLO}).encode(), {200, 400}),
    (json.dumps({"model": "gpt-4o", "messages": HELLO, "stream": "yes"}).encode(), {400}),
    (json.dumps({"model": "gpt-4o", "messages": HELLO, "max_tokens": -1}).encode(), {400}),
    (json.dumps({"model": "gpt-4o", "messages": HELLO, "max_tokens": 10**30}).encode(), {200, 400}),
    (json.dumps({"model": "gpt-4o", "messages": HELLO, "max_tokens": "many"}).encode(), {400}),
    (b'{"model":"gpt-4o","messages":[{"role":"user","content":"x"}],"max_tokens":1e400}', {400}),
    (b'{"model":"gpt-4o","messages":[{"role":"user","content":"x"}],"seed":%b}' % (b"9" * 5000), {200, 400}),
    (json.dumps({"model": "gpt-4o", "messages": [None]}).encode(), {400}),
    (json.dumps({"model": "gpt-4o", "messages": [[]]}).encode(), {400}),
    (b"\xef\xbb\xbf" + BODY, {200, 400}),
    (BODY.decode().encode("utf-16"), {400}),
    (BODY + b"x", {400}),
    (BODY + BODY, {400}),
]


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_odd_bodies_are_refused_or_passed_on(way: str) -> None:
    async with attacked(way) as router:
        for body, statuses in BODIES:
            answer = await router.web.post(CHAT, content=body, headers=JSON)
            assert answer.status_code in statuses, (body[:100], answer.status_code, answer.text[:300])
            assert "x-evil" not in answer.headers
            assert len(answer.content) < 10_000


async def test_a_model_name_of_an_open_ended_provider_may_be_anything() -> None:
    settings = provider("open", "", any_model=None)
    del settings["models"], settings["any_model"]
    async with OpenAIUpstream(any_model=True) as upstream:
        settings["base_url"] = upstream.base_url
        azure = {**settings, "name": "azure", "type": "azure_openai", "azure_api_version": "v1"}
        async with OpenAIUpstream("azure") as other, routing(settings, {**azure, "base_url": other.base_url}) as router:
            for model in ("é€🔑", "a\r\nX-Evil: 1", "\0", "x" * 100_000, "../../admin?x=1#y", "\ud800"):
                for prefix in ("", "azure/"):
                    answer = await router.web.post(
                        CHAT, content=json.dumps({"model": prefix + model, "messages": HELLO}).encode(), headers=JSON
                    )
                    assert answer.status_code in {200, 400, 404, 431}, (model[:50], prefix, answer.text[:200])
                    assert "x-evil" not in answer.headers
            assert (await router.chat("fine")).status_code == 200


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_bodies_over_the_limit_are_refused(way: str) -> None:
    async with attacked(way) as router:
        large = b'{"model":"gpt-4o","messages":[{"role":"user","content":"%b"}]}' % (b"x" * (33 * 2**20))

        async def pieces() -> AsyncGenerator[bytes]:
            for start in range(0, len(large), 2**20):
                yield large[start : start + 2**20]

        async with aclosing(pieces()) as chunked:
            for content in (large, chunked):
                try:
                    answer = await router.web.post(CHAT, content=content, headers=JSON)
                except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
                    continue  # closed while it still sent
                assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")
        headers = b"Host: localhost\r\nContent-Length: 34603008\r\n\r\n"
        said = await say(router, b"POST /v1/chat/completions HTTP/1.1\r\n" + headers)
        assert said.startswith(b"HTTP/1.1 413 ")
        answer = await router.web.post("/v1/models", content=b"x" * 70_000)
        assert answer.status_code in {405, 413}


async def test_a_body_just_below_the_limit_reaches_the_provider() -> None:
    limits = {"max_body_bytes": "4MiB"}
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), limits=limits) as router:
        large = b'{"model":"gpt-4o","messages":[{"role":"user","content":"%b"}]}' % (b"x" * (2**22 - 100))
        answer = await router.web.post(CHAT, content=large, headers=JSON, timeout=30)
        assert answer.status_code == 200
        assert upstream.chats[0].body == large


async def test_a_thousand_connections_opened_and_dropped_leave_nothing() -> None:
    data = request(STREAM)
    async with attacked(reply=Reply(endless=True, interval=0.02)) as router:
        for batch in range(20):

            async def drop(batch: int = batch) -> None:
                stream = await trio.open_tcp_stream("127.0.0.1", router.port)
                await stream.send_all(data[: random.Random(batch).randrange(len(data)) if batch % 4 else len(data)])
                if batch % 2:
                    reset(stream)
                else:
                    await stream.aclose()

            await gather(50, drop)
        lanes = router.running
        assert lanes is not None
        await until(lambda: lanes.statistics().connections <= 1)
        assert lanes.statistics().connections <= 1


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_a_connection_that_is_not_to_be_kept_is_closed_after_its_answer(way: str) -> None:
    async with attacked(way) as router:
        for path in ("/_infermux/health", "/_infermux/providers/nobody", "/v1/models", "/nothing"):
            for head in (
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                f"GET {path} HTTP/1.0\r\n\r\n",
            ):
                async with within(1):
                    assert (await say(router, head.encode())).startswith(b"HTTP/1.1 ")
        if router.running is not None:
            lanes = router.running
            await until(lambda: lanes.statistics().connections <= 1)
            assert lanes.statistics().connections <= 1


async def test_http_2_connections_end_with_their_callers() -> None:
    async with attacked() as router:
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        for data in (b"", b"\0\0\0\4\0\0\0\0\0", b"\xff" * 500, b"\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff" * 20):
            async with within(1):
                await say(router, preface + data, eof=True)
            stream = await trio.open_tcp_stream("127.0.0.1", router.port)
            await stream.send_all(preface + data)
            reset(stream)
        lanes = router.running
        assert lanes is not None
        await until(lambda: lanes.statistics().connections <= 1)
        assert lanes.statistics().connections <= 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with attacked() as router:
        page = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
        last = b"GET /_infermux/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        said = await say(router, request() + page + request(STREAM) + request(b"{") + request() + last)
        marks = [b'"chat.completion"', b'"object":"list"', b"[DONE]", b"invalid_request", b'"chat.completion"', b'"ok"']
        at = -1
        for mark in marks:
            at = said.find(mark, at + 1)
            assert at >= 0, (mark, said)
        assert said.count(b"HTTP/1.1 200") == 5


async def test_a_caller_that_closes_its_sending_side_counts_as_gone() -> None:
    async with attacked(reply=Reply(endless=True, interval=0.02)) as router:
        stream = await trio.open_tcp_stream("127.0.0.1", router.port)
        await stream.send_all(request(STREAM))
        assert await stream.receive_some()
        await stream.send_eof()
        await router.wait_settled()
        await stream.aclose()


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_a_reset_in_the_middle_of_a_stream_closes_the_upstream(way: str) -> None:
    default = Reply(endless=True, interval=0.02)
    async with OpenAIUpstream(default=default) as upstream, routing(provider("one", upstream), way=way) as router:
        stream = await trio.open_tcp_stream("127.0.0.1", router.port)
        await stream.send_all(request(STREAM))
        assert await stream.receive_some()
        reset(stream)
        async with within(0.1):
            await until(lambda: upstream.chats[0].closed_at is not None)
        await router.wait_settled()


async def test_a_caller_that_stops_reading_is_cut_and_its_upstream_closed() -> None:
    default = Reply(endless=True, tokens=("x" * 20_000,))
    limits = {"write_timeout": "300ms"}
    async with (
        OpenAIUpstream(default=default) as upstream,
        routing(provider("one", upstream), limits=limits) as router,
    ):
        stream = await trio.open_tcp_stream("127.0.0.1", router.port)
        assert router.application is not None
        told: list[Record] = []
        router.application.fleet.journal.listen(told.append)
        await stream.send_all(request(STREAM))
        await stream.receive_some(1)
        await until(lambda: upstream.chats[0].closed_at is not None)
        assert upstream.chats[0].closed_at is not None
        await router.wait_settled()
        await stream.aclose()
    [record] = told
    assert (record.ending, record.code, record.fault) == (Ending.LEFT, "write_timeout", Fault.CALLER)


async def test_odd_names_in_management_paths_are_not_found() -> None:
    async with attacked() as router:
        names = [
            "..",
            "%2e%2e",
            "one%2f..",
            "one%00",
            "%ff%fe",
            "a" * 5000,
            "%0d%0aX-Evil:1",
            "one/x/y/z",
            "infermux.router",
        ]
        for name in names:
            for method, path in (("GET", f"providers/{name}"), ("POST", f"providers/{name}/disable")):
                said = await say(
                    router,
                    f"{method} /_infermux/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
                    "Connection: close\r\n\r\n".encode(),
                )
                assert said.split()[1] in {b"404", b"405", b"400"}, (method, path, said[:300])
        assert (await router.web.post("/_infermux/providers/one/explode")).status_code == 404
        assert (await router.web.delete("/_infermux/providers/one")).status_code == 405


@pytest.mark.parametrize("value", ["", "x" * 200, "ünïcode", "a b", "mine"])
async def test_request_ids_are_echoed_only_when_they_are_plain(value: str) -> None:
    async with attacked() as router:
        answer = await router.chat(headers={"x-request-id": value.encode()})  # type: ignore[dict-item]
        echoed = answer.headers["x-request-id"]
        assert echoed == value if value in {"mine", "a b"} else echoed.startswith("req-")
