"""Routers and workers as processes that share their limits by way of a real Redis."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio

from tests.e2e._process import Process, serving
from tests.e2e._router import HELLO, provider
from tests.e2e.test_workers import BODY, both_listen, get, simulated, until, web_of, workers_of
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


RATE = 6  # requests a minute, of a provider and of a key
DOLLARS = 24
AHEAD = 2  # requests that the workers hold of a limit


@attrs.define
class Callers:
    """Of two workers, a new connection for each request: by a key that may do what it likes, and one with a limit.

    At `cheap` requests cost nothing and are limited, at `dear` each costs a dollar. `admitted` counts by key and model.
    """

    process: Process
    keys: dict[str, str]
    began: float
    admitted: dict[tuple[str, str], int] = attrs.field(factory=dict[tuple[str, str], int])

    async def ask(self, who: str, model: str, count: int) -> list[int]:
        found: list[int] = []

        async def one() -> None:
            async with web_of(self.process) as web:
                head = {"authorization": f"Bearer {self.keys[who]}"}
                answer = await web.post("/v1/chat/completions", json={**BODY, "model": model}, headers=head)
            found.append(answer.status_code)

        for _ in range(0, count, 2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one)
                nursery.start_soon(one)
        assert set(found) <= {200, 429}
        self.admitted[who, model] = self.admitted.get((who, model), 0) + found.count(200)
        self.check()
        return found

    async def use_up(self, who: str, model: str, most: int) -> None:
        """Ask until so many have been admitted, but for what is held."""

        async def enough() -> bool:
            await self.ask(who, model, 4)
            return self.admitted[who, model] >= most - AHEAD

        await until(enough)

    def check(self) -> None:
        """Never more than the limits."""
        refilled = RATE * (trio.current_time() - self.began) / 60
        for limited in (("free", "cheap"), ("slow", "dear")):
            assert self.admitted.get(limited, 0) <= RATE + refilled + AHEAD
        assert self.spent <= DOLLARS

    @property
    def spent(self) -> int:
        return sum(count for (_, model), count in self.admitted.items() if model == "dear")

    async def until_spent(self) -> None:
        """Whichever is asked, it shows every dollar, once."""

        async def known() -> bool:
            found = [row["spent_usd"] for _ in range(3) for row in (await get(self.process, "budgets"))["budgets"]]
            assert max(found) <= self.spent
            return bool(min(found) == self.spent)

        await until(known)

    async def until_degraded(self, degraded: bool) -> None:
        async def seen() -> bool:
            state = (await get(self.process, "status"))["state"]
            assert (state["trouble"] is None) is not state["degraded"]
            if state["degraded"] is not degraded:
                return False
            async with web_of(self.process) as web:
                page = (await web.get("/_infermux/metrics")).text
            return f"infermux_state_degraded {float(degraded)}" in page

        await until(seen)


@pytest.mark.long
async def test_workers_keep_to_their_limits_while_redis_and_one_of_them_are_killed(tmp_path: Path) -> None:
    cheap = simulated("cheap", "cheap", rate_limits={"requests_per_minute": RATE})
    with redis_server(PASSWORD) as redis:
        config: dict[str, Any] = {
            "workers": 2,
            "state": {"url": redis.url.reveal()},
            "ledger": {"url": f"sqlite:///{tmp_path}/ledger.db"},
            "auth": {"mode": "keys"},
            "pricing": {"dear": {"dear": {"input_per_million": 0.0, "output_per_million": 500_000.0}}},
            "budgets": [{"limit_usd": DOLLARS, "period": "month"}],
        }
        async with serving(cheap, simulated("dear", "dear"), **config) as process:
            keys: dict[str, str] = {}
            async with web_of(process) as web:
                for name, limit in (("free", None), ("slow", RATE)):
                    answer = await web.post("/_infermux/keys", json={"name": name, "requests_per_minute": limit})
                    keys[name] = answer.json()["key"]
            callers = Callers(process, keys, trio.current_time())
            await callers.until_degraded(False)
            await callers.use_up("free", "cheap", RATE)
            await callers.use_up("slow", "dear", RATE)
            await callers.until_spent()

            redis.kill()
            await callers.until_degraded(True)
            for who, model in (("free", "cheap"), ("slow", "dear"), ("free", "dear")):
                await callers.ask(who, model, 4)
            redis.start()
            await callers.until_degraded(False)
            await callers.until_spent()

            first, _ = workers_of(process.process.pid)
            os.kill(first, signal.SIGKILL)

            async def another() -> bool:
                found = workers_of(process.process.pid)
                return len(found) == 2 and first not in found

            await until(another)
            await both_listen(process)
            await callers.until_spent()
            for who, model in (("free", "cheap"), ("slow", "dear")):
                await callers.ask(who, model, 4)

            async def all_spent() -> bool:  # what the one that was killed held comes back
                await callers.ask("free", "dear", 2)
                return callers.spent >= DOLLARS - AHEAD

            await until(all_spent)
            await callers.until_spent()
            process.send(signal.SIGTERM)
            assert await process.ended() == 0
        assert PASSWORD not in process.output
        lines = process.output.splitlines()
        for said, times in ((f"unix://{redis.socket} is gone", 2), ("limits are shared by way of", 5)):
            assert len([line for line in lines if said in line]) >= times  # by each worker, the new one too
