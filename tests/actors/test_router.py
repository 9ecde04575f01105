"""The router actor: tiers, names, groups, strategies at work, and requests that wait for what is not known yet."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from infermux.actors import fleet as fleet_module
from infermux.actors.messages import Want
from infermux.actors.strategy import Choice, Option, Strategy
from infermux.config.settings import (
    Group,
    LeastLatency,
    RateLimits,
    Routing,
)
from infermux.errors import (
    DeadlineExceeded,
    ModelNotFound,
)
from infermux.providers.interface import Endpoint
from infermux.providers.peek import Preferences
from tests.actors._scripted import (
    HANGS,
    PRIORITY,
    Step,
    asked_in_order,
    provider,
    three,
    world,
)

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


async def test_a_model_whose_providers_lack_the_endpoint_is_not_said_to_be_unknown(autojump_clock: MockClock) -> None:
    async with world(*three(), endpoints=frozenset({Endpoint.CHAT})) as w:
        with pytest.raises(ModelNotFound, match=r"of the model 'm' has /v1/embeddings \(a, b, c\)") as caught:
            await w.chat(endpoint=Endpoint.EMBEDDINGS)
        assert caught.value.param == "model"


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

    def made(routing: Routing, *, rng: random.Random) -> Strategy:
        return strategy

    monkeypatch.setattr(fleet_module, "load_strategy_plugins", lambda: {name: made})


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
