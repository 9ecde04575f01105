"""A reload happens whole or not at all, whatever comes between, and any of them end where a fresh start begins."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from infermux.actors.fleet import ROUTER
from infermux.actors.kit_errors import ActorDied
from infermux.actors.provider_messages import Verb
from infermux.config.settings import Config, ProviderSettings, RateLimits, Retry, Routing
from infermux.secret import Secret
from tests.actors._reloading import SLOW_STREAM, config, reloading, shape, stream_on
from tests.actors._scripted import Poison, provider, streams


async def test_a_wire_that_cannot_be_made_leaves_the_old_world(autojump_clock: MockClock) -> None:
    a, gone = provider("a", "m"), provider("gone", "m")
    async with reloading(a, gone, shutdown_grace=9.0) as w, trio.open_nursery() as nursery:
        w["gone"].script = [SLOW_STREAM]
        await w.fleet.command("a", Verb.DISABLE)
        nursery.start_soon(stream_on, w, list[object]())
        await trio.sleep(1)
        await w.fleet.reload(config(a, shutdown_grace=9.0))
        before = shape(w.fleet)
        w.fails = {"bad"}
        changed = attrs.evolve(a, timeout=1.0)
        with pytest.raises(RuntimeError, match="told to fail"):
            await w.fleet.reload(config(provider("new", "x"), changed, gone, provider("bad", "y")))
        await w.settled()
        assert shape(w.fleet) == before
        assert [(wire.name, wire.closed) for wire in w.made] == [
            ("a", False),
            ("gone", False),
            ("new", True),
            ("a", True),
        ]
        await trio.sleep(20)
        assert w.made[1].closed


async def test_a_reload_that_is_cancelled_leaves_the_old_world(autojump_clock: MockClock) -> None:
    a = provider("a", "m")
    async with reloading(a) as w:
        before = shape(w.fleet)
        with trio.CancelScope() as scope:
            scope.cancel()
            await w.fleet.reload(config(provider("b", "m"), attrs.evolve(a, timeout=1.0)))
        await w.settled()
        assert shape(w.fleet) == before
        assert await w.answered_by() == "a"
        assert not w.made[0].closed


async def test_reloads_at_once_are_made_one_after_the_other(autojump_clock: MockClock) -> None:
    configs = [config(*(provider(f"p{number}", "m") for number in range(count))) for count in (3, 1, 4)]
    async with reloading(provider("p0", "m")) as w:
        async with trio.open_nursery() as nursery:
            for each in configs:
                nursery.start_soon(w.fleet.reload, each)
        assert w.fleet.config in configs
        assert len(w.fleet.members) == len(w.fleet.config.providers)


async def test_after_the_end_nothing_is_reloaded(autojump_clock: MockClock) -> None:
    async with reloading(provider("a", "m")) as w:
        await w.fleet.supervisor.stop_child(ROUTER)
        with pytest.raises(ActorDied):
            await w.fleet.reload(config(provider("b", "m")))


async def test_a_crashed_actor_comes_back_with_what_was_reloaded_meanwhile(autojump_clock: MockClock) -> None:
    a = provider("a", "m")
    async with reloading(a) as w:
        w.member("a").ref.tell(Poison())
        await w.settled()
        await w.fleet.reload(config(attrs.evolve(a, timeout=1.0)))
        await trio.sleep(1)
        run = await w.chat()
        assert run.lease is not None
        assert run.lease.settings.timeout == 1.0
        assert [len(wire.asked) for wire in w.made] == [0, 1]
        assert w.made[0].closed


# Any sequence ends where a fresh start begins.

_NAMES = "abcd"


@st.composite
def _provider(draw: st.DrawFn, name: str) -> ProviderSettings:
    return provider(
        name,
        draw(st.sampled_from(["m", "n"])),
        weight=draw(st.sampled_from([1.0, 2.0])),
        timeout=draw(st.sampled_from([60.0, 30.0])),
        api_key=Secret(draw(st.sampled_from(["k1", "k2"]))),
        rate_limits=RateLimits(requests_per_minute=draw(st.sampled_from([None, 5, 50]))),
    )


@st.composite
def _config(draw: st.DrawFn) -> Config:
    names = draw(st.lists(st.sampled_from(_NAMES), min_size=1, max_size=4, unique=True))
    return Config(
        providers=tuple(draw(_provider(name)) for name in names),
        routing=Routing(strategy=draw(st.sampled_from(["priority", "round_robin", "peak_ewma"]))),
        retry=Retry(max_attempts=draw(st.integers(1, 4))),
        shutdown_grace=3.0,
    )


@settings(max_examples=8, deadline=None)
@given(
    configs=st.lists(_config(), min_size=2, max_size=5), pauses=st.lists(st.sampled_from([0.0, 0.5, 4.0]), min_size=4)
)
def test_any_reloads_end_in_the_world_of_a_fresh_start(configs: list[Config], pauses: list[float]) -> None:
    async def play() -> None:
        first, *others = configs
        async with reloading(*first.providers, routing=first.routing) as w, trio.open_nursery() as traffic:
            for again, pause in zip(others, pauses, strict=False):
                for wire in w.wires.values():
                    wire.script = [streams(*[b"x"] * 4, gap=0.5)]
                for _ in range(3):
                    traffic.start_soon(stream_on, w, list[object]())
                await trio.sleep(pause)
                before = {
                    name: (member, member.gate, member.ref, member.adapter) for name, member in w.fleet.members.items()
                }
                found = await w.fleet.reload(again)
                for name in found.unchanged:
                    member = w.member(name)
                    assert (member, member.gate, member.ref, member.adapter) == before[name]
            await trio.sleep(30)
            assert all(not member.gate.leases for member in w.fleet.members.values())
            assert sum(wire.open for wire in w.made) == 0
            used = [member.adapter for member in w.fleet.members.values()]
            assert [wire for wire in w.made if not wire.closed] == [wire for wire in w.made if wire in used]
            async with reloading(
                *configs[len(others)].providers, routing=configs[-1].routing, **_rest(configs[-1])
            ) as fresh:
                assert shape(w.fleet) == shape(fresh.fleet)

    trio.run(play, clock=MockClock(autojump_threshold=0))


def _rest(config: Config) -> dict[str, Any]:
    return {"retry": config.retry, "shutdown_grace": config.shutdown_grace}
