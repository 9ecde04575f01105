"""The router actor: order, preferences, groups, fallbacks, waiting, and living through crashes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from infermux.actors import fleet as fleet_module
from infermux.actors.messages import Want
from infermux.actors.plan import Plan
from infermux.actors.provider import Verb
from infermux.actors.router import Advance, HealthKnown, Serve
from infermux.actors.strategy import Choice, Option, Strategy
from infermux.config.settings import (
    Group,
    LeastLatency,
    Price,
    ProviderSettings,
    RateLimits,
    Routing,
)
from infermux.errors import (
    CallerLeft,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    NoHealthyProviders,
    UpstreamError,
)
from infermux.providers.peek import Preferences
from tests.actors._scripted import (
    HANGS,
    SERVER_ERROR,
    Person,
    Poison,
    Step,
    World,
    crash,
    provider,
    world,
)

PRIORITY = Routing(strategy="priority")


def three(**more: Any) -> list[ProviderSettings]:
    return [provider(name, "m", **more) for name in "abc"]


async def asked_in_order(w: World, model: str = "m", **more: Any) -> str:
    """Who is asked, one after the other, when everybody takes a second to fail."""
    for wire in w.wires.values():
        wire.rest = Step(seconds=1.0, failure=SERVER_ERROR.failure)
        wire.asked.clear()
    with pytest.raises(UpstreamError):
        await w.chat(model, **more)
    order = sorted((at, name) for name, wire in w.wires.items() for at in wire.times)
    return "".join(name for _, name in order)


# Tiers.


async def test_those_that_list_come_before_those_that_alias_and_open_ended_ones_come_last(
    autojump_clock: MockClock,
) -> None:
    settings = [
        provider("a"),
        provider("b", "x", model_aliases={"m": "x"}),
        provider("c", "m"),
        provider("d", "m"),
    ]
    async with world(*settings, routing=PRIORITY) as w:
        assert await asked_in_order(w) == "cdba"


async def test_a_tier_is_left_only_when_nobody_in_it_can_take_the_request(autojump_clock: MockClock) -> None:
    settings = [provider("a"), provider("b", "m", rate_limits=RateLimits(requests_per_minute=1))]
    async with world(*settings, routing=PRIORITY) as w:
        assert [await w.answered_by() for _ in range(3)] == ["b", "a", "a"]


async def test_the_strategy_orders_within_a_tier(autojump_clock: MockClock) -> None:
    async with world(*three(), routing=Routing(strategy="round_robin")) as w:
        assert Counter([await w.answered_by() for _ in range(30)]) == {"a": 10, "b": 10, "c": 10}


async def test_fallback_models_come_after_all_providers_of_the_model(autojump_clock: MockClock) -> None:
    settings = [provider("a", "n"), provider("b", "m"), provider("c")]
    routing = Routing(strategy="priority", fallbacks={"m": ("n",)})
    async with world(*settings, routing=routing) as w:
        assert await asked_in_order(w) == "bcac"
        assert w["c"].models == ["m", "n"]


# Names.


async def test_a_name_nobody_serves_is_a_404_that_names_what_there_is(autojump_clock: MockClock) -> None:
    async with world(*three()) as w:
        with pytest.raises(ModelNotFound, match="declared here: m") as caught:
            await w.chat("x")
        assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")


async def test_a_long_list_of_models_is_cut_in_the_404(autojump_clock: MockClock) -> None:
    async with world(provider("a", *(f"m{i}" for i in range(40)))) as w:
        with pytest.raises(ModelNotFound) as caught:
            await w.chat("x")
        assert str(caught.value).endswith("m11, ...")


async def test_without_a_default_an_empty_model_asks_for_a_name(autojump_clock: MockClock) -> None:
    async with world(provider("a")) as w:
        with pytest.raises(ModelNotFound, match="name a model"):
            await w.chat("")


@pytest.mark.parametrize("name", ["", "auto"])
async def test_an_empty_model_and_auto_are_the_default_model(name: str, autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), provider("b", "n"), routing=Routing(default_model="n")) as w:
        assert await w.answered_by(name) == "b"
        assert w["b"].models == ["n"]


# Groups.


async def test_a_group_sets_strategy_and_providers_and_is_named_in_the_plan(autojump_clock: MockClock) -> None:
    group = Group(name="fast", models=("m*",), strategy="priority", providers=("c", "b"))
    async with world(*three(), routing=Routing(groups=(group,))) as w:
        run = await w.chat()
        assert (run.plan.group, run.plan.strategy) == ("fast", "priority")
        assert await asked_in_order(w) == "bc"


async def test_groups_with_the_same_strategy_have_states_of_their_own(autojump_clock: MockClock) -> None:
    groups = (Group(name="one", models=("m",)), Group(name="two", models=("n",)))
    async with world(provider("a", "m", "n"), provider("b", "m", "n"), routing=Routing(groups=groups)) as w:
        pairs = [(await w.answered_by("m"), await w.answered_by("n")) for _ in range(4)]
        assert pairs == [("a", "a"), ("b", "b"), ("a", "a"), ("b", "b")]


async def test_outside_all_groups_the_plan_names_the_global_strategy(autojump_clock: MockClock) -> None:
    async with world(*three(), routing=PRIORITY) as w:
        plan = (await w.chat()).plan
        assert (plan.group, plan.strategy) == ("", "priority")


# The request's own `provider` object.

PREFERENCES = [
    (Preferences(order=("c", "a")), "cab"),
    (Preferences(order=("c",), allow_fallbacks=False), "c"),
    (Preferences(order=("c", "b"), allow_fallbacks=False), "cb"),
    (Preferences(only=("b", "c")), "bc"),
    (Preferences(ignore=("a",)), "bc"),
    (Preferences(only=("a", "b"), ignore=("a",)), "b"),
    (Preferences(allow_fallbacks=False), "a"),
    (Preferences(sort="price"), "bca"),
    (Preferences(sort="price", allow_fallbacks=False), "b"),
    (Preferences(sort="price", order=("a",)), "abc"),
    (Preferences(max_price={"prompt": 3.0}), "bc"),
    (Preferences(max_price={"completion": 1.5}), "b"),
    (Preferences(max_price={}), "abc"),
    (Preferences(), "abc"),
]
PRICING = {
    name: {"m": Price(input_per_million=price, output_per_million=price)}
    for name, price in zip("abc", (9, 1, 2), strict=True)
}


@pytest.mark.parametrize(("preferences", "expected"), PREFERENCES)
async def test_a_request_can_narrow_and_reorder_its_providers(
    preferences: Preferences, expected: str, autojump_clock: MockClock
) -> None:
    async with world(*three(), routing=PRIORITY, pricing=PRICING) as w:
        assert await asked_in_order(w, preferences=preferences) == expected


async def test_an_unknown_price_is_not_below_any_bound(autojump_clock: MockClock) -> None:
    async with world(*three(), routing=PRIORITY) as w:
        with pytest.raises(ModelNotFound, match="left by the request's `provider` object"):
            await w.chat(preferences=Preferences(max_price={"prompt": 1000.0}))


async def test_preferences_that_leave_nobody_are_a_404(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), provider("b", "n")) as w:
        with pytest.raises(ModelNotFound, match="left by the request's `provider` object"):
            await w.chat("m", preferences=Preferences(only=("b",)))


async def test_without_fallbacks_a_fallback_model_is_not_tried(autojump_clock: MockClock) -> None:
    routing = Routing(strategy="priority", fallbacks={"m": ("n",)})
    async with world(provider("a", "m"), provider("b", "n"), routing=routing) as w:
        assert await asked_in_order(w, preferences=Preferences(allow_fallbacks=False)) == "a"
        assert await asked_in_order(w) == "ab"


async def test_without_fallbacks_the_one_provider_is_of_the_first_tier_that_has_one_left(
    autojump_clock: MockClock,
) -> None:
    settings = [provider("a"), provider("b", "x", model_aliases={"m": "x"}), provider("c", "m")]
    alone = Preferences(allow_fallbacks=False)
    async with world(*settings, routing=PRIORITY) as w:
        assert await asked_in_order(w, preferences=alone) == "c"
        await w.fleet.command("c", Verb.DRAIN)
        assert await asked_in_order(w, preferences=alone) == "b"


async def test_those_an_order_does_not_name_keep_their_tiers(autojump_clock: MockClock) -> None:
    settings = [provider("a"), provider("b", "x", model_aliases={"m": "x"}), provider("c", "m"), provider("d", "m")]
    async with world(*settings, routing=PRIORITY) as w:
        assert await asked_in_order(w, preferences=Preferences(order=("a",))) == "acdb"


async def test_sorting_compares_over_all_tiers(autojump_clock: MockClock) -> None:
    settings = [provider("a", "m"), provider("b")]
    pricing = {"a": {"m": Price(input_per_million=9.0)}, "b": {"m": Price(input_per_million=1.0)}}
    async with world(*settings, routing=PRIORITY, pricing=pricing) as w:
        run = await w.chat(prompt_tokens=100, preferences=Preferences(sort="price"))
        assert run.lease is not None
        assert (run.lease.provider, run.plan.strategy) == ("b", "cost_weighted")


async def test_sorting_by_latency_prefers_the_faster(autojump_clock: MockClock) -> None:
    routing = Routing(strategy="priority", least_latency=LeastLatency(min_samples=1))
    async with world(*three(), routing=routing) as w:
        for name, seconds in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
            w[name].rest = Step(seconds=seconds)
            await w.chat(preferences=Preferences(only=(name,)))
        assert await w.answered_by(preferences=Preferences(sort="latency")) == "b"


@pytest.mark.parametrize("field", ["order", "only", "ignore"])
async def test_a_name_that_is_no_provider_is_a_400_that_names_the_field(field: str, autojump_clock: MockClock) -> None:
    async with world(*three()) as w:
        with pytest.raises(InvalidRequest, match=r"'nobody'.*there are: a, b, c") as caught:
            await w.chat(preferences=Preferences(**{field: ("a", "nobody")}))  # type: ignore[arg-type]
        assert (caught.value.status, caught.value.param) == (400, f"provider.{field}")


async def test_an_unknown_sort_is_a_400_that_names_the_field(autojump_clock: MockClock) -> None:
    async with world(*three()) as w:
        with pytest.raises(InvalidRequest, match="price, latency") as caught:
            await w.chat(preferences=Preferences(sort="throughput"))
        assert caught.value.param == "provider.sort"


async def test_a_request_that_is_refused_costs_the_router_nothing_else(autojump_clock: MockClock) -> None:
    async with world(*three()) as w:
        with pytest.raises(InvalidRequest):
            await w.chat(preferences=Preferences(sort="x"))
        assert w.fleet.supervisor.statistics().restarts == 0


# Strategies at work.


async def test_least_latency_lets_one_request_at_a_time_explore(autojump_clock: MockClock) -> None:
    routing = Routing(strategy="least_latency", least_latency=LeastLatency(min_samples=2))
    async with world(provider("a", "m"), provider("b", "m"), routing=routing) as w:
        w["a"].rest = Step(seconds=1.0)
        for _ in range(2):
            await w.chat(preferences=Preferences(only=("a",)))
        w["b"].rest = Step(seconds=10.0)
        w["a"].asked.clear()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(w.chat)
        assert (len(w["a"].asked), len(w["b"].asked)) == (19, 1)
        await w.chat()
        assert len(w["b"].asked) == 2
        # Measured now, and slower.
        for _ in range(5):
            assert await w.answered_by() == "a"


async def test_least_busy_counts_what_is_under_way(autojump_clock: MockClock) -> None:
    async with world(*three(), routing=Routing(strategy="least_busy")) as w, trio.open_nursery() as nursery:
        for wire in w.wires.values():
            wire.rest = Step(seconds=1.0)
        for _ in range(30):
            nursery.start_soon(w.chat)
        await trio.sleep(0.5)
        assert [wire.open for wire in w.wires.values()] == [10, 10, 10]


async def test_a_key_sticks_to_its_provider(autojump_clock: MockClock) -> None:
    async with world(*three(), routing=Routing(strategy="sticky")) as w:
        by_key = {key: {await w.answered_by(affinity=key) for _ in range(3)} for key in map(str.encode, "abcdefghijkl")}
        assert all(len(who) == 1 for who in by_key.values())
        assert len({name for who in by_key.values() for name in who}) > 1


async def test_a_decision_looks_at_nobody_who_does_not_serve_the_model(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    seen: list[int] = []

    class Spy:
        def order(self, options: Sequence[Option], want: Want, now: float) -> list[Choice]:
            seen.append(len(options))
            return [Choice(option) for option in options]

    plug_in(monkeypatch, "spy", Spy())
    others = [provider(f"o{i}", f"other{i}") for i in range(50)]
    async with world(*three(), *others, routing=Routing(strategy="spy")) as w:
        await w.chat()
    assert seen == [3]


def plug_in(monkeypatch: pytest.MonkeyPatch, name: str, strategy: Strategy) -> None:
    """Make `strategy` what a plugin of that name provides."""
    monkeypatch.setattr(fleet_module, "load_strategy_plugins", lambda: {name: lambda routing, *, rng: strategy})


async def test_a_strategy_that_fails_is_logged_and_declaration_order_stands_in(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    class Broken:
        def order(self, options: Sequence[Option], want: Want, now: float) -> list[Choice]:
            raise ZeroDivisionError

    plug_in(monkeypatch, "mine", Broken())
    async with world(*three(), routing=Routing(strategy="mine")) as w:
        assert [await w.answered_by() for _ in range(5)] == ["a"] * 5
        assert w.fleet.supervisor.statistics().restarts == 0
    assert "the strategy mine failed" in caplog.text


# Waiting for first probes; the probes themselves are tested with the provider actor.


async def test_a_waiting_request_is_served_when_a_provider_is_added(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", probed=True), probes={"a": [HANGS]}) as w, trio.open_nursery() as nursery:
        answered: list[str] = []

        async def caller() -> None:
            answered.append(await w.answered_by())

        nursery.start_soon(caller)
        await trio.sleep(1)
        await w.fleet.add(provider("b", "m"))
        await w.settled()
        assert (answered, trio.current_time()) == (["b"], 1.0)


async def test_a_waiting_request_whose_provider_is_removed_is_answered(autojump_clock: MockClock) -> None:
    settings = [provider("a", "m", probed=True), provider("b", "n")]
    async with world(*settings, probes={"a": [HANGS]}) as w, trio.open_nursery() as nursery:

        async def caller() -> None:
            with pytest.raises(ModelNotFound):
                await w.chat()

        nursery.start_soon(caller)
        await trio.sleep(1)
        await w.fleet.remove("a")
        assert trio.current_time() == 1.0


async def test_a_waiting_request_keeps_its_own_deadline(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", probed=True), probes={"a": [HANGS]}) as w:
        with pytest.raises(DeadlineExceeded):
            await w.chat(timeout=3.0)
        assert trio.current_time() == pytest.approx(3)
        # Its place in the waiting room is cleared without it.
        await trio.sleep(20)
        assert w.fleet.supervisor.statistics().restarts == 0


# Crashes of the router.


def crash_router(w: World) -> None:
    w.fleet.router.tell(Poison())


async def test_a_crash_of_the_router_is_survived_by_everybody(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    async with world(*three(), routing=PRIORITY) as w, trio.open_nursery() as nursery:
        answered: list[str] = []
        w["a"].rest = Step(seconds=2.0)

        async def caller() -> None:
            answered.append(await w.answered_by())

        for _ in range(5):
            nursery.start_soon(caller)
        await trio.sleep(1)
        crash_router(w)
        await w.settled()
        assert not w.fleet.router.alive
        for _ in range(5):
            nursery.start_soon(caller)
        await trio.sleep(5)
        assert answered == ["a"] * 10
        assert "actor infermux.router crashed" in caplog.text


async def test_a_request_that_waits_in_the_router_when_it_crashes_waits_on_in_the_next(
    autojump_clock: MockClock,
) -> None:
    async with world(provider("a", "m", probed=True), probes={"a": [Step(seconds=4.0)]}) as w:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.chat)
            await trio.sleep(1)
            crash_router(w)
        assert trio.current_time() == pytest.approx(4)


async def test_its_wait_stays_bounded_after_the_crash(autojump_clock: MockClock) -> None:
    settings = provider("a", "m", probed=True, rate_limits=RateLimits(requests_per_minute=1))
    async with world(settings, probes={"a": [HANGS]}) as w:
        await trio.sleep(1)
        crash(w, "a")  # the next probe waits for the bucket: nothing will be known for a minute
        await trio.sleep(1)
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:

                async def caller() -> None:
                    with pytest.raises(NoHealthyProviders, match="a: starting"):
                        await w.chat()

                nursery.start_soon(caller)
                await trio.sleep(1)
                crash_router(w)


async def test_a_router_that_does_not_come_back_is_a_503(autojump_clock: MockClock) -> None:
    async with world(*three()) as w:
        for _ in range(6):
            crash_router(w)
            await trio.sleep(4.0)
        crash_router(w)
        await w.settled()
        began = trio.current_time()
        with pytest.raises(NoHealthyProviders, match="the router is restarting") as caught:
            await w.chat()
        assert caught.value.retry_after == 1
        assert trio.current_time() - began == pytest.approx(2.0)


async def test_a_caller_that_leaves_while_the_router_restarts_is_gone_at_once(autojump_clock: MockClock) -> None:
    async with world(*three()) as w, trio.open_nursery() as nursery:
        crash_router(w)
        await w.settled()
        person = Person()

        async def caller() -> None:
            with pytest.raises(CallerLeft):
                await w.chat(caller=person)

        nursery.start_soon(caller)
        await trio.sleep(0.05)
        person.leave()
        await w.settled()
        assert trio.current_time() == pytest.approx(0.05)


async def test_a_deadline_that_passes_while_the_router_restarts_is_kept(autojump_clock: MockClock) -> None:
    async with world(*three()) as w:
        crash_router(w)
        await w.settled()
        with pytest.raises(DeadlineExceeded):
            await w.chat(timeout=0.03)
        assert trio.current_time() == pytest.approx(0.03)


async def test_after_a_crash_the_router_knows_what_is_under_way(autojump_clock: MockClock) -> None:
    async with world(*three(), routing=Routing(strategy="least_busy")) as w, trio.open_nursery() as nursery:
        for _ in range(10):
            await w.chat()
        crash_router(w)
        await trio.sleep(1)
        for wire in w.wires.values():
            wire.rest = Step(seconds=1.0)
        for _ in range(30):
            nursery.start_soon(w.chat)
        await trio.sleep(0.5)
        assert [wire.open for wire in w.wires.values()] == [10, 10, 10]


async def test_messages_without_an_asker_do_no_harm(autojump_clock: MockClock) -> None:
    async with world(*three()) as w:
        refs = {name: member.ref for name, member in w.fleet.members.items()}
        for message in (Advance(Plan(Want("m"))), HealthKnown("nobody"), "gibberish", Serve(w.fleet.catalogue, refs)):
            w.fleet.router.tell(message)
        await w.chat()
        assert w.fleet.supervisor.statistics().restarts == 0
