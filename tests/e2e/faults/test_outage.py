"""A primary that is down for 60 seconds under traffic: nobody notices, and it is used again afterwards."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import pytest
import trio

from infermux.simulation.virtual import run_virtually
from tests.e2e.faults._memory import in_memory
from tests.e2e.faults._runs import Result, World, declared
from tests.e2e.faults._sockets import over_sockets
from tests.e2e.faults._table import GOOD, LATE, SAID, SCALE, STREAM_SECONDS, Upstream, scaled
from tests.mocks.memory_net import MemoryNet
from tests.mocks.openai_upstream import OpenAIUpstream

pytestmark = pytest.mark.slow

MODEL = "m"
EVERY = 0.5  # seconds between two requests, every other one a stream ...
EVERY_BY_SDK = 2.0  # ... of a client that takes its time
DOWN, UP, END = 30.1, 90.0, 130.0
RECOVERY = 20.0
FAILURES = 5  # of the circuit breaker


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


async def outage(
    primary: OpenAIUpstream, began: trio.Event, scale: float, *, task_status: trio.TaskStatus[None]
) -> None:
    """The primary, on the same port before and after it was away."""
    async with primary:
        task_status.started()
        await began.wait()
        await trio.sleep(DOWN * scale)
    await trio.sleep((UP - DOWN) * scale)
    async with primary:
        await trio.sleep_forever()


async def traffic(world: World, every: float, scale: float) -> list[Asked]:
    """Ask at a steady pace."""
    asked: list[Asked] = []
    began = trio.current_time()

    async def one(stream: bool) -> None:
        at = trio.current_time()
        result = await world.ask(MODEL, stream=stream)
        asked.append(Asked((at - began) / scale, (trio.current_time() - began) / scale, stream, result))

    async with trio.open_nursery() as nursery:
        for number in range(int(END / every)):
            await trio.sleep_until(began + number * every * scale)
            nursery.start_soon(one, bool(number % 2))
    return asked


async def played(net: MemoryNet | None, every: float, scale: float) -> list[Asked]:
    primary, second = (OpenAIUpstream(any_model=True, default=scaled(GOOD, scale), net=net) for _ in range(2))
    began = trio.Event()
    async with second, trio.open_nursery() as nursery:
        await nursery.start(partial(outage, primary, began, scale))
        file = configured(primary, second, scale)
        async with over_sockets(file) if net is None else in_memory(net, file) as world:
            began.set()
            asked = await traffic(world, every, scale)
        nursery.cancel_scope.cancel()
    return asked


def holds(asked: list[Asked], every: float, late: float) -> None:
    """What must be true of the traffic, in either world; `late` is a real figure too."""
    # Whoever was being told something at that moment cannot be told all of it by somebody else without a rescue.
    cut = [each for each in asked if each.result.code is not None]
    assert all(each.stream and each.at <= DOWN <= each.ended + late for each in cut), cut
    whole = [each for each in asked if each.result.code is None]
    assert len(whole) >= 0.98 * len(asked)
    assert {each.result.said for each in whole} == {SAID}
    assert max(each.ended - each.at for each in whole) < STREAM_SECONDS + 0.5 + late
    by_primary = [each.at for each in whole if each.provider == "primary"]
    assert not [at for at in by_primary if DOWN < at < UP - late]
    assert min(at for at in by_primary if at > DOWN) < UP + RECOVERY + every + late
    # It was tried until its circuit opened, and then once per recovery window.
    tried = sum(each.attempts > 1 for each in whole)
    assert FAILURES <= tried <= FAILURES + (UP - DOWN) / RECOVERY + 1 + (STREAM_SECONDS + late) / every


def test_nobody_notices_at_the_real_figures() -> None:
    holds(run_virtually(partial(played, MemoryNet(), EVERY, 1.0), seed=1), EVERY, 0.0)


async def test_nobody_notices_over_sockets() -> None:
    holds(await played(None, EVERY_BY_SDK, SCALE), EVERY_BY_SDK, LATE / SCALE / 3)
