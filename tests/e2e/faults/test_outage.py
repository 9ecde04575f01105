"""A primary that is down for 60 seconds under traffic: nobody notices, and it is used again afterwards."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from infermux.simulation.virtual import run_virtually
from tests._turns import Unhurried
from tests.e2e._router import routing
from tests.e2e.faults._memory import ask_bare, in_memory
from tests.e2e.faults._runs import Result, World, declared
from tests.e2e.faults._table import GOOD, SAID, SCALE, STREAM_SECONDS, Upstream, scaled
from tests.mocks.memory_net import MemoryNet
from tests.mocks.openai_upstream import OpenAIUpstream

pytestmark = pytest.mark.slow

MODEL = "m"
EVERY = 1.0  # seconds between two requests, every other one a stream
DOWN, UP, END = 30.1, 90.0, 130.0
RECOVERY = 20.0
FAILURES = 5  # of the circuit breaker
LATE = 40.0  # what a busy machine may add over sockets, as a real figure


@attrs.frozen
class Asked:
    """`at` and `ended` as real figures, since the traffic began."""

    at: float
    ended: float
    stream: bool
    result: Result

    @property
    def provider(self) -> str | None:
        return self.result.headers.get("x-infermux-provider")

    @property
    def attempts(self) -> int:
        return int(self.result.headers["x-infermux-attempts"])


def configured(primary: OpenAIUpstream, second: OpenAIUpstream, scale: float) -> dict[str, Any]:
    providers = [
        declared(name, upstream, Upstream(), MODEL, scale)
        for name, upstream in (("primary", primary), ("second", second))
    ]
    return {
        "providers": providers,
        "routing": {"strategy": "priority"},
        "circuit_breaker": {
            "consecutive_failures": FAILURES,
            "min_requests": 1000,
            "recovery_window": f"{RECOVERY * scale * 1000:.0f}ms",
        },
    }


@attrs.define(eq=False)
class Outage:
    """When the primary really was away, as real figures since the traffic began: a busy machine is late with it."""

    scale: float
    began: trio.Event = attrs.field(factory=trio.Event)
    gone: float = 0.0
    back: float = 0.0
    _since: float = 0.0

    def begin(self) -> None:
        self._since = trio.current_time()
        self.began.set()

    @property
    def now(self) -> float:
        return (trio.current_time() - self._since) / self.scale

    async def run(self, primary: OpenAIUpstream, *, task_status: trio.TaskStatus[None]) -> None:
        """The primary, on the same port before and after it was away."""
        async with primary:
            task_status.started()
            await self.began.wait()
            await trio.sleep(DOWN * self.scale)
        self.gone = self.now
        await trio.sleep((UP - DOWN) * self.scale)
        self.back = self.now
        async with primary:
            await trio.sleep_forever()


async def traffic(world: World, scale: float) -> list[Asked]:
    """Ask at a steady pace."""
    asked: list[Asked] = []
    began = trio.current_time()

    async def one(stream: bool) -> None:
        at = trio.current_time()
        result = await world.ask(MODEL, stream=stream)
        asked.append(Asked((at - began) / scale, (trio.current_time() - began) / scale, stream, result))

    async with trio.open_nursery() as nursery:
        for number in range(int(END / EVERY)):
            await trio.sleep_until(began + number * EVERY * scale)
            nursery.start_soon(one, bool(number % 2))
    return asked


@attrs.frozen
class Bare:
    """A router on a socket, asked without the cost of the SDK."""

    port: int

    async def ask(self, model: str, *, stream: bool) -> Result:
        return await ask_bare(await trio.open_tcp_stream("127.0.0.1", self.port), model, stream=stream)


@asynccontextmanager
async def over_sockets(file: dict[str, Any]) -> AsyncGenerator[Bare]:
    async with routing(*file.pop("providers"), **file) as router:
        yield Bare(router.port)


async def played(net: MemoryNet | None, scale: float) -> tuple[list[Asked], Outage]:
    primary, second = (OpenAIUpstream(any_model=True, default=scaled(GOOD, scale), net=net) for _ in range(2))
    outage = Outage(scale)
    async with second, trio.open_nursery() as nursery:
        await nursery.start(outage.run, primary)
        file = configured(primary, second, scale)
        async with over_sockets(file) if net is None else in_memory(net, file) as world:
            outage.begin()
            asked = await traffic(world, scale)
        nursery.cancel_scope.cancel()
    return asked, outage


def holds(asked: list[Asked], outage: Outage, late: float) -> None:
    """What must be true of the traffic, in either world; `late` is a real figure too."""
    # Whoever was being told something at that moment cannot be told all of it by somebody else without a rescue.
    cut = [each for each in asked if each.result.code is not None]
    assert all(each.stream and each.at <= outage.gone and each.ended + late >= DOWN for each in cut), cut
    whole = [each for each in asked if each.result.code is None]
    assert len(whole) >= 0.9 * len(asked)
    assert {each.result.said for each in whole} == {SAID}
    assert max(each.ended - each.at for each in whole) < STREAM_SECONDS + 0.5 + late
    by_primary = [each.at for each in whole if each.provider == "primary"]
    assert not [at for at in by_primary if outage.gone < at < outage.back - late]
    assert min(at for at in by_primary if at > outage.gone) < outage.back + RECOVERY + EVERY + late
    # It was tried until its circuit opened, for which broken streams count too, and then once per recovery window.
    tried = sum(each.attempts > 1 for each in whole) + len(cut)
    away = outage.back - outage.gone
    assert FAILURES <= tried <= FAILURES + away / RECOVERY + 1 + (STREAM_SECONDS + late) / EVERY


def test_nobody_notices_at_the_real_figures() -> None:
    holds(*run_virtually(partial(played, MemoryNet(), 1.0), seed=1), 0.0)


@pytest.mark.long
def test_nobody_notices_over_sockets() -> None:
    holds(*trio.run(played, None, SCALE, clock=Unhurried()), LATE)
