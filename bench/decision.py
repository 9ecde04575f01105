"""What one route decision costs, and that providers which do not serve the model do not make it dearer.

The router actor is asked through its public message, with stub providers behind it that grant at once. What is timed
is the CPU time of this thread for question, decision, hand-over and answer. Asking a stub without the router is the
calibration: it goes up and down with the machine and with the kit, not with the number of providers.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import attrs
import trio

from infermux.actors.actor import BaseActor, Context, spawn
from infermux.actors.catalogue import Catalogue, Entry
from infermux.actors.messages import Health, Standing, Want
from infermux.actors.plan import Plan
from infermux.actors.ref import Ref
from infermux.actors.reply import Reply
from infermux.actors.router import RouterActor
from infermux.actors.router_messages import Advance, Serve
from infermux.bench.figures import Spread
from infermux.config.settings import Config, ProviderSettings, Routing
from infermux.providers.interface import Endpoint

MODEL = "served"
SERVING = 3
OTHERS = (10, 100, 1000)
_ROUTABLE = Standing(reason=None, blocked_until=0.0, health=Health.HEALTHY)


@attrs.frozen(kw_only=True)
class Cost:
    """CPU microseconds: of a decision beside `others` providers that do not serve the model, and of a bare ask.

    `ratio`: of the decision to that beside the fewest others, round by round.
    """

    others: int
    decision: Spread
    ratio: Spread
    ask: Spread


class Granting(BaseActor[Any]):
    """A provider that is routable and grants everything."""

    eager: ClassVar[bool] = True

    async def started(self, context: Context[Any]) -> None:
        context.publish(_ROUTABLE)

    def receive(self, message: Any, reply: Reply[Any] | None) -> None:
        if reply is not None:
            reply.send(None)


def measure(*, strategy: str = "round_robin", rounds: int = 40, asks: int = 250) -> list[Cost]:
    """The cost beside 10, 100 and 1000 other providers, in turns. Runs a trio loop of its own for some seconds.

    Many short rounds: on a shared machine the median of their ratios is steadier than that of a few long ones.
    """
    return trio.run(_measure, strategy, rounds, asks)


async def _measure(strategy: str, rounds: int, asks: int) -> list[Cost]:
    async with trio.open_nursery() as nursery:
        routers = {
            others: await routed(nursery, serving=SERVING, others=others, strategy=strategy, rng=random.Random(1))
            for others in OTHERS
        }
        stub = await spawn(nursery, Granting(), name="stub")
        decisions: dict[int, list[float]] = {others: [] for others in OTHERS}
        bare: list[float] = []
        for _ in range(rounds):
            bare.append(await _microseconds(lambda: stub.ask(None), asks))
            for others, router in routers.items():
                decisions[others].append(await _microseconds(_decide(router), asks))
        nursery.cancel_scope.cancel()
    first = decisions[OTHERS[0]]
    return [
        Cost(
            others=others,
            decision=_spread(values),
            ratio=_spread([own / base for own, base in zip(values, first, strict=True)]),
            ask=_spread(bare),
        )
        for others, values in decisions.items()
    ]


def _decide(router: Ref[Any]) -> Callable[[], Awaitable[Any]]:
    want = Want(model=MODEL, endpoint=Endpoint.CHAT, prompt_tokens=350, max_tokens=256)
    return lambda: router.ask(Advance(Plan(want)))


async def _microseconds(act: Callable[[], Awaitable[Any]], times: int) -> float:
    before = time.thread_time_ns()
    for _ in range(times):
        await act()
    return (time.thread_time_ns() - before) / 1000 / times


def _spread(values: list[float]) -> Spread:
    found = Spread.of(values)
    assert found is not None
    return found


async def routed(nursery: trio.Nursery, *, serving: int, others: int, strategy: str, rng: random.Random) -> Ref[Any]:
    """A router over providers of which so many serve `MODEL`; their stubs run."""
    names = [f"p{number}" for number in range(serving + others)]
    settings = tuple(
        ProviderSettings(name=name, type="openai", models=(MODEL if number < serving else f"other-{number}",))
        for number, name in enumerate(names)
    )
    config = Config(providers=settings, routing=Routing(strategy=strategy))
    entries = [
        Entry(settings=one, index=number, endpoints=frozenset({Endpoint.CHAT})) for number, one in enumerate(settings)
    ]
    refs = {name: await spawn(nursery, Granting(), name=name) for name in names}
    world = Serve(Catalogue.build(config, entries), refs)
    return await spawn(nursery, RouterActor.made(config, world, rng, {}), name="router")


def markdown(costs: list[Cost]) -> str:
    lines = [
        f"### decision: one route decision, {SERVING} providers serve the model",
        "",
        "| providers that do not serve it | CPU µs/decision | x the first line | CPU µs/bare ask |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {cost.others} | {cost.decision.text()} | {cost.ratio.median:.2f} | {cost.ask.text()} |" for cost in costs
    ]
    return "\n".join([*lines, ""])
