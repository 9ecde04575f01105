"""Upstreams that die, write what they like into errors, or do not speak HTTP: callers and the server live."""

import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import httpx
import pytest
import trio

from tests.e2e._attacks import alive
from tests.e2e._process import ROOT, Process, running
from tests.e2e._router import EITHER_WAY, in_order, provider, routing, until
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = pytest.mark.slow


@asynccontextmanager
async def upstream_process(interval: float) -> AsyncGenerator[tuple[Process, str]]:
    command = [sys.executable, "-m", "tests.mocks.openai_upstream", "--port", "0", "--interval", str(interval)]
    async with running(command, environ={}, cwd=str(ROOT)) as process:
        base_url = await process.says("/v1")
        yield process, base_url.string.strip()


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.long)])
async def test_an_upstream_killed_or_stopped_under_load_is_replaced_or_told(number: signal.Signals) -> None:
    # Only a stopped one is left by a timeout, which is then all that the test waits for.
    timeout = "1s" if number == signal.SIGSTOP else "30s"
    settings = {"timeout": timeout, "timeouts": {"idle": timeout, "connect": timeout}}
    async with (
        upstream_process(0.02) as (process, base_url),
        OpenAIUpstream(default=Reply(interval=0.02)) as good,
        routing(provider("doomed", base_url, **settings), provider("good", good), routing=in_order()) as router,
    ):
        answers: list[list[httpx.Response]] = [[] for _ in range(12)]  # of each caller
        stop = trio.Event()

        async def load(own: list[httpx.Response], stream: bool) -> None:
            while not stop.is_set():
                own.append(await router.chat(stream=stream))

        async with trio.open_nursery() as nursery:
            for caller, own in enumerate(answers):
                nursery.start_soon(partial(load, own, stream=bool(caller % 2)))
            await until(lambda: all(answers), seconds=30)
            assert "doomed" in {_by(each) for own in answers for each in own}
            os.kill(process.process.pid, number)
            served = [len(own) for own in answers]
            await until(
                lambda: all(len(own) >= before + 3 for own, before in zip(answers, served, strict=True)), seconds=30
            )
            stop.set()
        assert {_by(each) for own in answers for each in own[-2:]} == {"good"}
        everything = [each for own in answers for each in own]
        assert {each.status_code for each in everything} == {200}
        streams = [each.text for each in everything if "event-stream" in each.headers["content-type"]]
        for text in streams:
            assert text.endswith("data: [DONE]\n\n") != ('"error"' in text)
        assert sum('"error"' in text for text in streams) <= 6  # no more than were under way


def _by(answer: httpx.Response) -> str:
    return str(answer.headers.get("x-infermux-provider"))


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_what_an_upstream_writes_in_its_errors_breaks_nothing(way: str) -> None:
    evil = ["a\r\nX-Evil: 1", "\0\x07\x1b[31m", "x" * 200_000, "é€🔑", "", "\ud800", {"a": 1}, [1], 5, None, True]
    once = {"same_provider": 0}  # what the script says next is for the next request
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), way=way, retry=once) as router:
        for text in evil:
            error = {"message": text, "type": text, "param": text, "code": text}
            body = json.dumps({"error": error}).encode()
            for status in (400, 404, 429, 500, 200):
                upstream.script.append(Reply(status=status, body=body))
                answer = await router.chat()
                assert answer.status_code in {400, 404, 429, 502, 503}, (text, status, answer.text[:300])
                assert "x-evil" not in answer.headers
                assert len(str(answer.headers)) < 2000
                await router.web.post("/_infermux/providers/one/reset")
        await alive(router)


async def test_an_upstream_that_answers_nonsense_is_replaced() -> None:
    nonsense = [
        b"",
        b"\x00\xff\x00\xff",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000,
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: " + b"[" * 200_000 + b"\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 200000\r\n\r\n" + b"[" * 200_000,
        b'HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\n{"choices":[],"usage":"\xff\xfe\xfd\xfc\xfb"}   ',
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
    ]
    async with trio.open_nursery() as nursery:
        for said in nonsense:
            nursery.start_soon(_nonsense_is_replaced, said)


async def _nonsense_is_replaced(nonsense: bytes) -> None:
    async def babble(peer: trio.SocketStream) -> None:
        try:
            await peer.receive_some()
            await peer.send_all(nonsense)
            await peer.send_eof()
            await peer.receive_some()
        except trio.BrokenResourceError:
            pass

    async with OpenAIUpstream() as good, trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, babble, 0, host="127.0.0.1"))
        bad = provider("bad", f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1", timeout="2s")
        async with routing(bad, provider("good", good), routing=in_order()) as router:
            for stream in (False, True):
                answer = await router.chat(stream=stream)
                assert answer.status_code == 200, (nonsense[:60], answer.text[:300])
                assert answer.headers["x-infermux-provider"] == "good", nonsense[:60]
        nursery.cancel_scope.cancel()
