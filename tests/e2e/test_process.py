"""The program itself: starting, listening, draining, stopping; and the same under plain hypercorn."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import openai
import pytest
import trio

from infermux.http.asgi import AsgiApp
from tests.e2e._process import Process, serving
from tests.e2e._router import EITHER_WAY, HELLO, SAID, in_order, provider, refused_url, until
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = pytest.mark.slow

STREAM = {"model": "gpt-4o", "messages": HELLO, "stream": True}


def client(process: Process) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=process.url, trust_env=False, verify=False, timeout=10)


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_the_sdk_is_answered_over_a_dead_provider_and_sigterm_ends_it_cleanly(way: str) -> None:
    check: dict[str, Any] = {"health_check": {}}
    async with (
        OpenAIUpstream() as good,
        serving(
            provider("dead", refused_url()), provider("good", good, **check), way=way, routing=in_order(), fresh=True
        ) as process,
    ):

        def talk() -> list[str | None]:
            http_client = openai.DefaultHttpxClient(trust_env=False, verify=False)
            with openai.OpenAI(
                base_url=f"{process.url}/v1", api_key="x", max_retries=0, timeout=5, http_client=http_client
            ) as sdk:
                raw = sdk.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO)
                whole = raw.parse().choices[0].message.content
                stream = sdk.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
                said = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
                return [whole, said, raw.headers["x-infermux-attempts"], *(model.id for model in sdk.models.list())]

        assert await trio.to_thread.run_sync(talk) == [SAID, SAID, "2", "gpt-4o", "gpt-4o-mini"]
        async with client(process) as web:
            status = (await web.get("/_infermux/status")).json()
            assert (status["routable"], status["in_flight"]) == (2, 0)
            assert "serving._serve held the event loop" not in process.output  # our own start is nothing to warn of
            assert set(status["event_loop"]) == {"holds", "longest_ms", "last"}
        process.send(signal.SIGTERM)
        assert await process.ended() == 0
        assert "Traceback" not in process.output


async def test_while_it_drains_streams_finish_nothing_new_comes_in_and_requests_begun_late_are_told_so() -> None:
    default = Reply(tokens=tuple("abcdefgh"), interval=0.15)
    async with (
        OpenAIUpstream(default=default) as upstream,
        serving(provider("one", upstream)) as process,
        client(process) as web,
        client(process) as idle,
    ):
        await idle.get("/_infermux/health")
        late = await trio.open_tcp_stream("127.0.0.1", process.port)
        body = json.dumps({"model": "gpt-4o", "messages": HELLO}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        await late.send_all(head)
        async with web.stream("POST", "/v1/chat/completions", json=STREAM) as answer:
            parts = answer.aiter_text()
            await anext(parts)
            process.send(signal.SIGTERM)
            await process.says("finishing 1 requests")
            await late.send_all(b"Content-Length: %d\r\n\r\n" % len(body) + body)
            said = b"".join([data async for data in late])
            with pytest.raises(httpx.ConnectError):
                await idle.get("/_infermux/health")
            rest = "".join([part async for part in parts])
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"shutting_down" in said
        assert rest.endswith("data: [DONE]\n\n")
        # The caller keeps its connection; that does not hold the drain to the end of its grace.
        assert await process.ended() == 0, "long before its grace is over, which is 30 s"
        await late.aclose()


async def test_after_the_grace_streams_get_an_in_band_error_and_whole_answers_a_503() -> None:
    default = Reply(endless=True, interval=0.02)
    async with (
        OpenAIUpstream(default=default) as upstream,
        serving(provider("one", upstream), shutdown_grace="300ms") as process,
        client(process) as web,
        web.stream("POST", "/v1/chat/completions", json=STREAM) as answer,
    ):
        parts = answer.aiter_text()
        await anext(parts)
        upstream.default = Reply(hang=True)
        answers: list[httpx.Response] = []

        async def ask() -> None:
            answers.append(await web.post("/v1/chat/completions", json={"model": "gpt-4o", "messages": HELLO}))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await until(lambda: len(upstream.chats) == 2)
            process.send(signal.SIGTERM)
            sent = trio.current_time()
            rest = "".join([part async for part in parts])
            assert trio.current_time() - sent > 0.25
        assert "[DONE]" not in rest
        assert json.loads(rest.split("\n\n")[-2].removeprefix("data: "))["error"]["code"] == "shutting_down"
        assert answers[0].status_code == 503, answers[0].text
        assert await process.ended() == 0
        await until(lambda: upstream.chats[0].closed_at is not None)
        assert upstream.chats[0].closed_at is not None
        assert "Traceback" not in process.output


async def test_a_second_sigterm_ends_it_now() -> None:
    default = Reply(endless=True, interval=0.02)
    async with (
        OpenAIUpstream(default=default) as upstream,
        serving(provider("one", upstream), shutdown_grace="10m") as process,
        client(process) as web,
        web.stream("POST", "/v1/chat/completions", json=STREAM) as answer,
    ):
        parts = answer.aiter_text()
        await anext(parts)
        process.send(signal.SIGTERM)
        await process.says("finishing 1 requests")
        process.send(signal.SIGTERM)
        assert await process.ended() == 0, "within seconds, of the ten minutes that the stream may have"
        assert "second SIGTERM" in process.output
        try:
            rest = "".join([part async for part in parts])
        except httpx.RemoteProtocolError:
            rest = ""
        assert "[DONE]" not in rest


async def test_it_starts_when_every_probe_fails_and_says_so() -> None:
    check: dict[str, Any] = {"health_check": {"timeout": "300ms"}}
    async with (
        OpenAIUpstream(keys=["another"]) as refusing,
        OpenAIUpstream(default=Reply(hang=True)) as silent,
        serving(
            provider("dead", refused_url(), **check),
            provider("refusing", refusing, **check),
            provider("silent", silent, **check),
        ) as process,
        client(process) as web,
    ):
        assert (await web.get("/_infermux/health")).status_code == 200
        await process.says("0 of 3 providers are routable")
        await process.says("provider dead is not routable: unhealthy")
        await process.says("provider refusing is not routable: config_error")
        await process.says("provider silent is not routable: unhealthy")
        ready = await web.get("/_infermux/ready")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        answer = await web.post("/v1/chat/completions", json={"model": "gpt-4o", "messages": HELLO})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_healthy_providers")
        for name in ("dead", "refusing", "silent"):
            assert name in answer.json()["error"]["message"]


async def test_it_listens_before_any_probe_has_ended_with_management_on_its_own_port() -> None:
    environ = {"INFERMUX_MANAGEMENT_TOKEN": "tok-en"}
    async with OpenAIUpstream(default=Reply(delay=30)) as slow:
        providers = [provider(f"p{number}", slow, health_check={}) for number in range(10)]
        async with serving(*providers, environ=environ, management_listen="127.0.0.1:0") as process:
            took = process.ready_at - process.started_at
            print(f"infermux serve listened {took * 1000:.0f} ms after its start, with ten providers")
            await process.says("management is on")
            async with (
                client(process) as web,
                httpx.AsyncClient(base_url=process.management_url, trust_env=False, verify=False) as management,
            ):
                assert (await web.get("/_infermux/status")).status_code == 404
                assert (await management.get("/_infermux/status")).status_code == 401
                headers = {"authorization": "Bearer tok-en"}
                assert (await management.get("/_infermux/status", headers=headers)).json()["routable"] == 0


async def test_an_address_in_use_ends_it_with_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        async with serving(provider("one", refused_url()), ready=False, listen=listen) as process:
            assert await process.ended() == 1
            await process.says("in use")
            assert "Traceback" not in process.output


async def test_by_asgi_a_bad_file_fails_the_startup_with_everything_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "infermux.yml"
    path.write_text("providers: [{name: one, type: simulated, colour: red, size: 5}]")
    sent: list[dict[str, str]] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, str]) -> None:
        sent.append(message)

    with patch.dict("os.environ", {"INFERMUX_CONFIG": str(path)}):
        await AsgiApp()({"type": "lifespan"}, receive, send)
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert f"{path}:1: providers[0].colour: " in sent[0]["message"]
    assert f"{path}:1: providers[0].size: " in sent[0]["message"]
