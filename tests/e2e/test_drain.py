"""Draining, in the phases and on the connections that tests/e2e/test_process.py does not look at."""

from __future__ import annotations

import json
import signal
from typing import cast

import httpx
import pytest
import trio

from tests.e2e._process import serving
from tests.e2e._router import HELLO, provider, until
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = pytest.mark.slow

BODY = json.dumps({"model": "gpt-4o", "messages": HELLO}).encode()
HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


async def test_a_request_that_waits_for_a_first_probe_is_told_after_the_grace() -> None:
    async with (
        OpenAIUpstream(default=Reply(hang=True)) as silent,
        serving(provider("one", silent, health_check={"timeout": "30s"}), shutdown_grace="200ms") as process,
        httpx.AsyncClient(base_url=process.url, trust_env=False, verify=False, timeout=10) as web,
    ):
        answers: list[httpx.Response] = []

        async def ask(stream: bool) -> None:
            body = {"model": "gpt-4o", "messages": HELLO, "stream": stream}
            answers.append(await web.post("/v1/chat/completions", json=body))

        async with trio.open_nursery() as nursery:
            for stream in (False, True):
                nursery.start_soon(ask, stream)
            await until(lambda: len(silent.chats) == 1)  # the probe
            await trio.sleep(0.2)
            process.send(signal.SIGTERM)
            await process.says("finishing 2 requests")
        assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [
            (503, "shutting_down")
        ] * 2
        assert await process.ended() == 0
        assert "Traceback" not in process.output


async def test_with_a_delay_it_says_that_it_leaves_answers_what_comes_and_then_finishes_the_streams() -> None:
    """What a rolling update needs: nobody who was sent here before that was known is refused."""
    ended = trio.Event()
    words = iter(lambda: None if ended.is_set() else "word ", None)
    ask = {"model": "gpt-4o", "messages": HELLO}
    async with (
        OpenAIUpstream(default=Reply(tokens=cast("tuple[str, ...]", words), interval=0.02)) as upstream,
        serving(provider("one", upstream), shutdown_delay="3s", shutdown_grace="10m") as process,
        httpx.AsyncClient(base_url=process.url, trust_env=False, verify=False, timeout=30) as web,
        web.stream("POST", "/v1/chat/completions", json={**ask, "stream": True}) as stream,
    ):
        parts = stream.aiter_text()
        await anext(parts)
        for path in ("ready", "accepting"):
            assert (await web.get(f"/_infermux/{path}")).status_code == 200
        upstream.default = Reply()
        process.send(signal.SIGTERM)
        await process.says("taking requests for another 3 s")
        for path in ("ready", "accepting"):
            told = await web.get(f"/_infermux/{path}")
            assert (told.status_code, told.json()["reason"]) == (503, "draining")
        assert (await web.get("/_infermux/health")).status_code == 200
        answer = await web.post("/v1/chat/completions", json=ask)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        await process.says("finishing 1 requests")
        await until_refused(process.port)
        await anext(parts)
        ended.set()
        rest = "".join([part async for part in parts])
        assert rest.endswith("data: [DONE]\n\n")
        assert await process.ended() == 0


async def test_a_second_signal_ends_the_delay_too() -> None:
    async with OpenAIUpstream() as upstream, serving(provider("one", upstream), shutdown_delay="10m") as process:
        process.send(signal.SIGTERM)
        await process.says("taking requests for another 600 s")
        process.send(signal.SIGTERM)
        assert await process.ended() == 0
        assert "second SIGTERM" in process.output


async def until_refused(port: int) -> None:
    with trio.fail_after(30):
        while not await is_refused(port):
            pass


async def is_refused(port: int) -> bool:
    """Whether new connections are refused, soon: what listens is closed a moment after the line in the log."""
    with trio.move_on_after(0.3):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                return True
            await stream.aclose()
    return False


async def test_a_kept_connection_is_told_that_it_closes_and_a_new_one_is_refused() -> None:
    async with (
        OpenAIUpstream(default=Reply(delay=0.4)) as upstream,
        serving(provider("one", upstream)) as process,
        await trio.open_tcp_stream("127.0.0.1", process.port) as kept,
    ):
        await kept.send_all(HEAD % len(BODY) + BODY)
        await until(lambda: len(upstream.chats) == 1)
        process.send(signal.SIGTERM)
        await process.says("finishing 1 requests")
        assert await is_refused(process.port)
        said = b"".join([data async for data in kept])  # to its end: it is closed after the answer
        assert said.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in said
        assert await process.ended() == 0
