"""Many hostile callers at once, and bodies made to cost: others are served meanwhile, and nothing is left of it."""

from __future__ import annotations

import hmac
import json
from typing import Any, Final
from unittest.mock import patch

import pytest
import trio

from tests.e2e._attacks import alive, request
from tests.e2e._router import EITHER_WAY, Router, provider, routing
from tests.mocks.openai_upstream import OpenAIUpstream

pytestmark = pytest.mark.slow

JSON: Final = {"content-type": "application/json"}
MESSAGES: Final = [{"role": "user", "content": "x"}]
DEEP: Final = "@@"
CROWD: Final = 150


async def test_a_crowd_that_trickles_is_cut_while_others_are_served() -> None:
    limits = {"header_timeout": "500ms"}
    whole = request()
    head, _, body = whole.partition(b"\r\n\r\n")
    slow = (
        whole[:20],
        head + b"\r\n\r\n" + body[:5],
        head.replace(b"/v1/chat/completions", b"/_infermux/keys") + b"\r\n\r\n{",
        b"PUT /nothing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n",
        b"\r\n",
    )
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), limits=limits) as router:
        assert router.running is not None
        async with trio.open_nursery() as nursery:
            cut: list[float] = []
            for number in range(CROWD):
                nursery.start_soon(_trickle, router, slow[number % len(slow)], cut)
            await trio.sleep(0.1)
            started = trio.current_time()
            for _ in range(5):
                assert (await router.chat()).status_code == 200
            assert trio.current_time() - started < 10
        assert len(cut) == CROWD
        await alive(router)
        assert router.running.statistics().connections <= 1
        assert len(upstream.chats) == 7  # those of the crowd never reached it


async def _trickle(router: Router, beginning: bytes, cut: list[float]) -> None:
    """Begin, and go on a byte at a time until the other side has had enough."""
    stream = await trio.open_tcp_stream("127.0.0.1", router.port)
    started = trio.current_time()
    try:
        with trio.fail_after(60):
            await stream.send_all(beginning)
            while True:
                with trio.move_on_after(0.1):
                    if not await stream.receive_some():
                        break
                await stream.send_all(b"x")
    except trio.BrokenResourceError:
        pass
    cut.append(trio.current_time() - started)
    await trio.aclose_forcefully(stream)


PLACES: Final[dict[str, list[dict[str, Any]]]] = {
    "/v1/chat/completions": [
        {"messages": DEEP},
        {"messages": [{"role": "user", "content": DEEP}]},
        {"messages": MESSAGES, "tools": [{"type": "function", "function": {"name": "f", "parameters": DEEP}}]},
        {"messages": MESSAGES, "provider": DEEP},
        {"messages": MESSAGES, "anything": DEEP},
    ],
    "/v1/messages": [
        {"messages": MESSAGES, "max_tokens": 5, "system": DEEP},
        {"messages": MESSAGES, "max_tokens": 5, "tools": [{"name": "f", "input_schema": DEEP}]},
    ],
    "/v1/messages/count_tokens": [{"messages": MESSAGES, "system": DEEP}],
    "/v1/responses": [
        {"input": DEEP},
        {"input": "x", "tools": [{"type": "function", "name": "f", "parameters": DEEP}]},
    ],
    "/v1/embeddings": [{"input": DEEP}],
    "/v1/completions": [{"prompt": DEEP}],
    "/v1/moderations": [{"input": DEEP}],
    "/_infermux/keys": [{"name": DEEP}],
}


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_json_as_deep_as_it_likes_crashes_nothing(way: str) -> None:
    """A hundred thousand levels, and numbers of levels around what Python's own stack takes."""
    async with OpenAIUpstream(any_model=True) as upstream:
        never = {"consecutive_failures": 10_000, "min_requests": 10_000}
        one = provider("one", upstream, models=["gpt-4o", "claude"])
        async with routing(one, way=way, retry={"max_attempts": 1}, circuit_breaker=never) as router:
            for path, bodies in PLACES.items():
                for body in bodies:
                    for depth in (450, 990, 100_000):
                        await _ask_deep(router, path, body, depth)
            await alive(router)


async def _ask_deep(router: Router, path: str, body: dict[str, Any], depth: int) -> None:
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        deep = opening * depth + "1" + closing * depth
        data = json.dumps({"model": "gpt-4o", **body}).replace(f'"{DEEP}"', deep)
        if path == "/_infermux/keys" and len(data) > 65_536:
            continue  # over the bound of that page
        answer = await router.web.post(path, content=data.encode(), headers=JSON)
        assert answer.status_code in {200, 400, 404, 502, 503}, (path, body, depth, answer.text[:300])
        assert "internal_error" not in answer.text
        assert len(answer.content) < 10_000 or answer.status_code == 200


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_keys_and_tokens_are_compared_in_constant_time(way: str) -> None:
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def watched(given: Any, wanted: Any) -> bool:
        compared.append(given)
        return compare(given, wanted)

    auth = {"mode": "static_key", "key": "sk-right"}
    environ = {"INFERMUX_MANAGEMENT_TOKEN": "t0ken"}
    settings = {"name": "sim", "type": "simulated", "models": ["sim"]}
    async with routing(settings, way=way, auth=auth, environ=environ, headers={"x-api-key": "t0ken"}) as router:
        with patch.object(hmac, "compare_digest", watched):
            for wrong in (b"sk-wrong", b"", b"\xff\xfe", b"sk-righ", b"sk-rightly"):
                refused = await router.web.post("/v1/chat/completions", json={}, headers={b"x-api-key": wrong})
                assert refused.status_code == 401
                assert (await router.web.get("/_infermux/status", headers={b"x-api-key": wrong})).status_code == 401
        assert compared.count(b"sk-wrong") == 2
        assert len(compared) == 10
