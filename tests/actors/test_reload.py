"""Reloading: what is not touched, what goes on, what begins anew and what ends."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from infermux.actors.messages import Health
from infermux.actors.provider_messages import Verb
from infermux.config.settings import Config, Group, HealthCheck, RateLimits, Retry, Routing
from infermux.errors import InfermuxError, ModelNotFound, NoHealthyProviders, RateLimited
from infermux.secret import Secret
from tests.actors._reloading import SLOW_STREAM, config, reloading, shape, stream_on
from tests.actors._scripted import CREDENTIALS, HANGS, OK, PRIORITY, SERVER_ERROR, Step, provider, streams

# What did not change.


async def test_what_is_declared_as_before_is_not_touched_and_its_streams_go_on(autojump_clock: MockClock) -> None:
    a, b = provider("a", "m"), provider("b", "m")
    async with reloading(a, b, routing=PRIORITY) as w, trio.open_nursery() as nursery:
        w["a"].script = [SLOW_STREAM]
        before, gate, ref, ended = w.member("a"), w.member("a").gate, w.member("a").ref, list[object]()
        nursery.start_soon(stream_on, w, ended)
        await trio.sleep(1)
        found = await w.fleet.reload(config(provider("c", "m"), a, shutdown_grace=1.0))
        assert (found.added, found.removed, found.unchanged) == (("c",), ("b",), ("a",))
        assert w.member("a") is before
        assert (before.gate, before.ref, before.adapter) == (gate, ref, w.made[0])
        assert before.entry.index == 1
        await trio.sleep(60)
        assert ended == ["whole"]
        assert [wire.closed for wire in w.made] == [False, True, False]


async def test_the_same_configuration_again_changes_nothing_at_all(autojump_clock: MockClock) -> None:
    a = provider("a", "m", probed=True, rate_limits=RateLimits(requests_per_minute=5))
    async with reloading(a) as w:
        await trio.sleep(1)
        before = shape(w.fleet)
        assert not await w.fleet.reload(Config(providers=(a,)))
        await trio.sleep(1)
        assert shape(w.fleet) == before
        assert (len(w.made), len(w["a"].probed)) == (1, 1)


# Added and removed.


async def test_an_added_provider_serves_and_a_removed_one_takes_nothing_new(autojump_clock: MockClock) -> None:
    async with reloading(provider("a", "m")) as w:
        await w.fleet.reload(config(provider("b", "m", "n")))
        assert await w.answered_by("m") == "b"
        assert await w.answered_by("n") == "b"
        await trio.sleep(1)
        assert w.made[0].closed
        await w.fleet.reload(config(provider("b", "n")))
        with pytest.raises(ModelNotFound):
            await w.chat("m")


async def test_a_removed_provider_has_the_grace_for_its_streams_and_then_ends_them(autojump_clock: MockClock) -> None:
    a, b = provider("a", "m"), provider("b", "m")
    async with reloading(a, b, routing=PRIORITY) as w, trio.open_nursery() as nursery:
        w["a"].script = [streams(*[b"x"] * 5, gap=1.0), SLOW_STREAM]
        short, long = list[object](), list[object]()
        nursery.start_soon(stream_on, w, short)
        await trio.sleep(0.5)
        nursery.start_soon(stream_on, w, long)
        await trio.sleep(0.5)
        await w.fleet.reload(config(b, shutdown_grace=10.0))
        assert await w.answered_by() == "b"
        await trio.sleep(9)
        assert (short, long) == (["whole"], [])
        await trio.sleep(2)
        assert [getattr(error, "code", None) for error in long] == ["shutting_down"]
        assert w.made[0].closed
        assert w.made[0].open == 0


async def test_a_provider_that_comes_back_before_it_has_ended_keeps_its_stream(autojump_clock: MockClock) -> None:
    a, b = provider("a", "m"), provider("b", "m")
    async with reloading(a, b, routing=PRIORITY) as w, trio.open_nursery() as nursery:
        w["a"].script = [SLOW_STREAM]
        ended, before = list[object](), w.member("a")
        nursery.start_soon(stream_on, w, ended)
        await trio.sleep(1)
        await w.fleet.reload(config(b, shutdown_grace=5.0))
        await trio.sleep(1)
        await w.fleet.reload(config(attrs.evolve(a, weight=2.0), b, shutdown_grace=5.0))
        assert w.member("a") is before
        assert await w.answered_by() == "a"
        await trio.sleep(60)
        assert ended == ["whole"]


async def test_one_that_comes_back_while_it_ends_starts_anew_with_its_limits(autojump_clock: MockClock) -> None:
    a = provider("a", "m", rate_limits=RateLimits(requests_per_minute=2))
    b = provider("b", "n")
    async with reloading(a, b) as w:
        await w.chat()
        await w.chat()
        before = w.member("a")
        await w.fleet.reload(config(b))
        await trio.sleep(0.1)
        await w.fleet.reload(config(a, b))
        assert w.member("a") is not before
        with pytest.raises(RateLimited):
            await w.chat()
        await trio.sleep(60)
        await w.chat()


async def test_what_was_added_by_hand_stays_and_a_declaration_of_it_takes_over(autojump_clock: MockClock) -> None:
    a, hand = provider("a", "m"), provider("hand", "h")
    async with reloading(a) as w:
        await w.fleet.add(hand)
        found = await w.fleet.reload(config(provider("b", "m")))
        assert found.removed == ("a",)
        assert list(w.fleet.members) == ["b", "hand"]
        assert await w.answered_by("h") == "hand"
        before = w.member("hand")
        found = await w.fleet.reload(config(attrs.evolve(hand, weight=2.0)))
        assert (found.removed, [change.name for change in found.changed]) == (("b",), ["hand"])
        assert w.member("hand") is before
        assert (await w.fleet.reload(config(a))).removed == ("hand",)


async def test_a_declared_one_that_was_removed_by_hand_comes_back(autojump_clock: MockClock) -> None:
    a, b = provider("a", "m"), provider("b", "m")
    async with reloading(a, b, routing=PRIORITY) as w:
        await w.fleet.remove("a")
        assert (await w.fleet.reload(config(a, b))).added == ("a",)
        assert await w.answered_by() == "a"


# Changed.


async def test_another_weight_keeps_the_wire_the_state_and_the_streams(autojump_clock: MockClock) -> None:
    a = provider("a", "m", rate_limits=RateLimits(requests_per_minute=10))
    async with reloading(a) as w, trio.open_nursery() as nursery:
        await w.chat()
        w["a"].script = [SLOW_STREAM]
        ended, gate = list[object](), w.member("a").gate
        nursery.start_soon(stream_on, w, ended)
        await trio.sleep(1)
        averages, level = (
            w.member("a").standing.response,
            gate.requests and gate.requests.available(trio.current_time()),
        )
        await w.fleet.reload(config(attrs.evolve(a, weight=5.0, tags=("eu",)), shutdown_grace=1.0))
        assert (w.member("a").gate, len(w.made), w.in_flight("a")) == (gate, 1, 1)
        assert w.member("a").standing.response == averages
        assert gate.requests is not None
        assert gate.requests.available(trio.current_time()) == level
        await trio.sleep(60)
        assert (ended, w.in_flight("a")) == (["whole"], 0)


async def test_new_connections_take_the_new_requests_and_the_old_stream_ends_well(autojump_clock: MockClock) -> None:
    a = provider("a", "m")
    async with reloading(a) as w, trio.open_nursery() as nursery:
        w["a"].script = [SLOW_STREAM]
        ended = list[object]()
        nursery.start_soon(stream_on, w, ended)
        await trio.sleep(1)
        await w.fleet.reload(config(attrs.evolve(a, timeout=5.0), shutdown_grace=1.0))
        await w.chat()
        assert [len(wire.asked) for wire in w.made] == [1, 1]
        await trio.sleep(40)
        assert not w.made[0].closed
        await trio.sleep(20)
        assert (ended, [wire.closed for wire in w.made]) == (["whole"], [True, False])


async def test_another_key_begins_anew_and_streams_on_the_old_one_have_the_grace(autojump_clock: MockClock) -> None:
    a = provider("a", "m", api_key=Secret("one"))
    async with reloading(a) as w, trio.open_nursery() as nursery:
        await w.chat()
        w["a"].script = [SLOW_STREAM]
        ended = list[object]()
        nursery.start_soon(stream_on, w, ended)
        await trio.sleep(1)
        assert w.member("a").standing.response.samples == 1
        await w.fleet.reload(config(attrs.evolve(a, api_key=Secret("two")), shutdown_grace=10.0))
        assert w.member("a").standing.response.samples == 0
        await w.chat()
        assert (len(w.made[1].asked), w.in_flight("a"), ended) == (1, 1, [])
        await trio.sleep(11)
        assert [getattr(error, "code", None) for error in ended] == ["shutting_down"]
        await trio.sleep(1)
        assert (w.in_flight("a"), w.made[0].closed, w.member("a").standing.response.samples) == (0, True, 1)


async def test_a_mended_key_is_tried_at_once(autojump_clock: MockClock) -> None:
    a = provider("a", "m", probed=True, api_key=Secret("wrong"))
    async with reloading(a) as w:
        w["a"].probes, w["a"].probe_rest = [], CREDENTIALS
        await w.fleet.command("a", Verb.PROBE)
        assert w.member("a").gate.health.health is Health.CONFIG_ERROR
        await w.fleet.reload(config(attrs.evolve(a, api_key=Secret("right"))))
        await w.chat()
        assert trio.current_time() < 1


async def test_an_unhealthy_provider_that_is_declared_otherwise_is_probed_at_once(autojump_clock: MockClock) -> None:
    a = provider("a", "m", probed=True)
    async with reloading(a) as w:
        w["a"].probe_rest = SERVER_ERROR
        await w.fleet.command("a", Verb.PROBE)
        await w.fleet.reload(config(attrs.evolve(a, timeout=5.0)))
        await trio.sleep(0.1)
        assert await w.answered_by() == "a"


async def test_an_operator_who_waits_for_a_probe_is_answered_over_a_reload(autojump_clock: MockClock) -> None:
    a = provider("a", "m", probed=True)
    async with reloading(a) as w, trio.open_nursery() as nursery:
        await trio.sleep(1)
        told: list[Any] = []

        async def ask() -> None:
            told.append(await w.fleet.command("a", Verb.PROBE))

        for check in (HealthCheck(timeout=99.0), HealthCheck(disabled=True)):
            w["a"].probe_rest = HANGS
            nursery.start_soon(ask)
            await trio.sleep(1)
            await w.fleet.reload(config(attrs.evolve(a, health_check=check, timeout=check.timeout)))
            await trio.sleep(1)
        assert [row.health["state"] for row in told] == ["healthy", "unchecked"]


async def test_what_an_operator_disabled_stays_disabled(autojump_clock: MockClock) -> None:
    a = provider("a", "m", api_key=Secret("one"))
    async with reloading(a) as w:
        await w.fleet.command("a", Verb.DISABLE)
        for other in (attrs.evolve(a, weight=2.0), attrs.evolve(a, api_key=Secret("two"))):
            await w.fleet.reload(config(other))
            with pytest.raises(NoHealthyProviders, match="disabled"):
                await w.chat()


async def test_reloading_to_and_fro_is_no_way_round_a_limit(autojump_clock: MockClock) -> None:
    limits = RateLimits(requests_per_minute=3, max_concurrent=1)
    one = provider("a", "m", rate_limits=limits, api_key=Secret("one"))
    other = attrs.evolve(one, api_key=Secret("two"), rate_limits=attrs.evolve(limits, requests_per_minute=4))
    spare = provider("spare", "n")
    async with reloading(one, spare) as w, trio.open_nursery() as nursery:
        w["a"].script = [SLOW_STREAM]
        nursery.start_soon(stream_on, w, list[object]())
        await trio.sleep(0.5)
        await w.fleet.reload(config(other, spare))
        with pytest.raises(RateLimited, match="max_concurrent"):
            await w.chat()
        nursery.cancel_scope.cancel()
    async with reloading(one, spare) as w:
        answered = 0
        for again in (one, other, one, None, other, one):
            await w.fleet.reload(config(*([again] if again else []), spare))
            await trio.sleep(0.01)
            for _ in range(3):
                try:
                    await w.chat()
                except (RateLimited, ModelNotFound):
                    continue
                answered += 1
        assert answered == 3


async def test_a_request_whose_candidates_were_taken_away_meanwhile_finds_the_new_ones(
    autojump_clock: MockClock,
) -> None:
    a, b = provider("a", "m"), provider("b", "m")
    async with reloading(a, b, routing=PRIORITY) as w, trio.open_nursery() as nursery:
        w["a"].script = [Step(seconds=5, failure=SERVER_ERROR.failure)]
        answered: list[str] = []

        async def ask() -> None:
            answered.append(await w.answered_by())

        nursery.start_soon(ask)
        await trio.sleep(1)
        await w.fleet.reload(config(a, provider("c", "m")))
        await trio.sleep(10)
        assert answered == ["c"]


# Routing and the rest.


async def test_routing_retries_and_groups_are_those_of_the_new_configuration(autojump_clock: MockClock) -> None:
    a, b = provider("a", "m"), provider("b", "m")
    async with reloading(a, b, routing=PRIORITY) as w:
        w["a"].rest = SERVER_ERROR
        assert (await w.chat()).attempts == 2
        only_a = Routing(strategy="priority", groups=(Group(name="g", models=("m",), providers=("a",)),))
        await w.fleet.reload(config(a, b, routing=only_a, retry=Retry(max_attempts=1)))
        with pytest.raises(InfermuxError):
            await w.chat()
        w["a"].rest = OK
        run = await w.chat()
        assert (run.plan.group, run.attempts) == ("g", 1)
        await w.fleet.reload(config(b, a))
        assert await w.answered_by() == "b"


async def test_the_turn_of_an_unchanged_group_goes_on_where_it_was(autojump_clock: MockClock) -> None:
    a, b = provider("a", "m", "n"), provider("b", "m", "n")
    kept = Group(name="kept", models=("m",), strategy="round_robin")
    async with reloading(a, b, routing=Routing(groups=(kept,))) as w:
        assert [await w.answered_by("m"), await w.answered_by("n")] == ["a", "a"]
        other = attrs.evolve(kept, name="other", models=("n",))
        await w.fleet.reload(config(a, b, routing=Routing(groups=(kept, other))))
        assert [await w.answered_by("m"), await w.answered_by("n")] == ["b", "a"]
        await w.fleet.reload(config(a, b, routing=Routing(groups=(attrs.evolve(kept, models=("m*",)), other))))
        assert [await w.answered_by("m"), await w.answered_by("n")] == ["a", "b"]
