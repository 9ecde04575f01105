"""Two routers as processes that share their limits by way of a real Redis."""

from __future__ import annotations

import httpx
import pytest
import trio

from tests.e2e._process import Process, serving
from tests.e2e._router import HELLO, provider
from tests.mocks.openai_upstream import OpenAIUpstream
from tests.shared._redis import redis_server

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server", "redis-cli")]

PASSWORD = "not-to-be-seen"
LIMIT = 12


def client(process: Process) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=process.url, trust_env=False, timeout=30)


async def status(web: httpx.AsyncClient) -> dict[str, object]:
    found: dict[str, object] = (await web.get("/_infermux/status")).json()["state"]
    return found


async def until_status(web: httpx.AsyncClient, **wanted: object) -> dict[str, object]:
    with trio.fail_after(30):
        while not wanted.items() <= (found := await status(web)).items():  # noqa: ASYNC110 - another process
            await trio.sleep(0.05)
    return found


async def test_two_routers_admit_together_what_one_would() -> None:
    with redis_server(PASSWORD) as redis:
        async with OpenAIUpstream() as upstream:
            limited = provider("good", upstream, rate_limits={"requests_per_minute": LIMIT})
            state = {"url": redis.url.reveal()}
            async with (
                serving(limited, state=state) as one,
                serving(limited, state=state) as two,
                client(one) as web,
                client(two) as other,
            ):
                for each in (web, other):
                    assert (await until_status(each, nodes=2, degraded=False))["place"] == f"unix://{redis.socket}"
                began = trio.current_time()
                answers = [await ask(each) for _ in range(LIMIT) for each in (web, other)]
                refilled = LIMIT * (trio.current_time() - began) / 60
                assert LIMIT - 2 <= answers.count(200) <= LIMIT + 2 + refilled  # each holds one ahead
                assert set(answers) == {200, 429}

                redis.kill()
                for each in (web, other):
                    told = await until_status(each, degraded=True)
                    assert told["nodes"] == 2
                assert "infermux_state_degraded 1.0" in (await web.get("/_infermux/metrics")).text
                redis.start()
                for each in (web, other):
                    await until_status(each, degraded=False, trouble=None)
            for process in (one, two):
                assert PASSWORD not in process.output
                assert f"unix://{redis.socket} is gone" in process.output


async def ask(web: httpx.AsyncClient) -> int:
    answer = await web.post("/v1/chat/completions", json={"model": "gpt-4o", "messages": HELLO})
    return answer.status_code
