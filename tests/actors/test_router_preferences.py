"""What the `provider` object of a request does to its candidates."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from infermux.actors.provider_messages import Verb
from infermux.config.settings import (
    LeastLatency,
    Price,
    Routing,
)
from infermux.errors import (
    InvalidRequest,
    ModelNotFound,
    NoHealthyProviders,
)
from infermux.providers.peek import Preferences
from tests.actors._scripted import (
    PRIORITY,
    Step,
    asked_in_order,
    provider,
    three,
    world,
)

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


async def test_an_order_without_fallbacks_stays_with_those_it_names(autojump_clock: MockClock) -> None:
    routing = Routing(strategy="priority", fallbacks={"m": ("n",)})
    async with world(*three(), provider("d", "n"), routing=routing) as w:
        await w.fleet.command("c", Verb.DRAIN)
        with pytest.raises(NoHealthyProviders, match=r"\(c: draining\)"):
            await w.chat(preferences=Preferences(order=("c",), allow_fallbacks=False))
        assert [len(wire.asked) for wire in w.wires.values()] == [0, 0, 0, 0]
