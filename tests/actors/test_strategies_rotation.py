"""round_robin, random, priority, least_busy and cost_weighted."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.messages import Want
from infermux.actors.strategies_rotation import ROTATIONS_KEPT, RoundRobin
from infermux.config.settings import Price
from tests._properties import examples
from tests.actors.strategy_kit import NOW, WANT, firsts, make, measured, names, option

# round_robin


def test_round_robin_takes_turns() -> None:
    strategy = make("round_robin")
    options = [option(0), option(1), option(2)]
    assert [names(strategy.order(options, WANT, NOW)) for _ in range(4)] == ["abc", "bca", "cab", "abc"]


def test_round_robin_is_smooth_and_weighted() -> None:
    strategy = make("round_robin")
    options = [option(0, weight=5), option(1, weight=1), option(2, weight=1)]
    # The example of nginx's documentation of the algorithm: never aaaaabc.
    assert "".join(names(strategy.order(options, WANT, NOW))[0] for _ in range(7)) == "aabacaa"


def test_round_robin_shares_exactly_by_weight() -> None:
    options = [option(0, weight=0.5), option(1, weight=1.5), option(2, weight=2)]
    assert firsts(make("round_robin"), lambda: options, 800) == {"a": 100, "b": 300, "c": 400}


def test_round_robin_keeps_a_turn_per_model() -> None:
    strategy = make("round_robin")
    options = [option(0), option(1)]
    both = [names(strategy.order(options, Want(model), NOW))[0] for model in ("m", "n", "m", "n")]
    assert both == ["a", "a", "b", "b"]


def test_round_robin_remembers_a_bounded_number_of_models() -> None:
    strategy = RoundRobin()
    for number in range(ROTATIONS_KEPT + 500):
        strategy.order([option(0), option(1)], Want(f"invented-{number}"), NOW)
    assert len(strategy._rotation) == ROTATIONS_KEPT  # pyright: ignore[reportPrivateUsage]


def test_round_robin_forgets_providers_that_are_gone() -> None:
    strategy = RoundRobin()
    for number in range(500):
        strategy.order([option(0), option(1, name=f"p{number}")], WANT, NOW)
    credits = strategy._rotation._credits["m"]  # pyright: ignore[reportPrivateUsage]
    assert len(credits) <= 21


def test_round_robin_gives_a_returning_provider_its_turn_and_no_more() -> None:
    strategy = make("round_robin")
    both, alone = [option(0), option(1)], [option(0)]
    assert firsts(strategy, lambda: both, 10) == {"a": 5, "b": 5}
    assert firsts(strategy, lambda: alone, 100) == {"a": 100}
    assert firsts(strategy, lambda: both, 10) == {"a": 5, "b": 5}


def test_round_robin_survives_a_weight_that_was_lowered() -> None:
    strategy = make("round_robin")
    firsts(strategy, lambda: [option(0, weight=1000), option(1, weight=999)], 1)
    assert firsts(strategy, lambda: [option(0), option(1)], 12)["a"] >= 4


@settings(max_examples=examples(30), deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 4), min_size=1), max_size=30), st.lists(st.integers(1, 5), min_size=5, max_size=5)
)
def test_round_robin_starves_nobody_whoever_came_and_went_before(history: list[set[int]], weights: list[int]) -> None:
    strategy = make("round_robin")
    everyone = [option(i, weight=weight) for i, weight in enumerate(weights)]
    for present in history:
        strategy.order([everyone[i] for i in sorted(present)], WANT, NOW)
    total = sum(weights)
    counts = firsts(strategy, lambda: everyone, 20 * total)
    for one in everyone:
        assert abs(counts[one.provider] - 20 * one.weight) <= 2 * len(everyone)


# random


def test_random_shares_by_weight() -> None:
    options = [option(0, weight=1), option(1, weight=2), option(2, weight=5)]
    counts = firsts(make("random"), lambda: options, 8000)
    assert counts["a"] == pytest.approx(1000, rel=0.1)
    assert counts["b"] == pytest.approx(2000, rel=0.1)
    assert counts["c"] == pytest.approx(5000, rel=0.1)


def test_random_draws_the_rest_without_replacement_by_weight_too() -> None:
    strategy = make("random")
    options = [option(0, weight=1), option(1, weight=2), option(2, weight=5)]
    orders = Counter(names(strategy.order(options, WANT, NOW)) for _ in range(16_000))
    # P(c first) * P(b second of a, b) = 5/8 * 2/3
    assert orders["cba"] == pytest.approx(16_000 * 5 / 8 * 2 / 3, rel=0.05)
    assert orders["acb"] == pytest.approx(16_000 * 1 / 8 * 5 / 7, rel=0.1)


def test_a_provider_without_weight_comes_last() -> None:
    for name in ("random", "least_busy", "peak_ewma", "sticky"):
        options = [option(0, weight=0), option(1)]
        assert names(make(name).order(options, Want("m", affinity=b"k"), NOW)) == "ba"


# priority


def test_priority_is_declaration_order_whatever_the_load() -> None:
    options = [option(2), option(0, load=500), option(1, standing=measured(0.1, failures=9))]
    strategy = make("priority")
    assert {names(strategy.order(options, WANT, NOW)) for _ in range(10)} == {"abc"}


# least_busy


def test_least_busy_looks_at_requests_in_flight_for_the_weight() -> None:
    options = [option(0, load=4), option(1, load=5, weight=2), option(2, load=3)]
    assert names(make("least_busy").order(options, WANT, NOW)) == "bca"


def test_least_busy_takes_turns_when_all_are_idle() -> None:
    options = [option(0), option(1), option(2, weight=2)]
    assert firsts(make("least_busy"), lambda: options, 400) == {"a": 100, "b": 100, "c": 200}


def test_least_busy_takes_turns_among_those_that_tie_only() -> None:
    options = [option(0, load=1), option(1), option(2)]
    assert firsts(make("least_busy"), lambda: options, 100) == {"b": 50, "c": 50}


def test_a_provider_that_fails_at_once_does_not_look_idle() -> None:
    options = [option(0, load=8), option(1, standing=measured(0.1, failures=1))]
    assert names(make("least_busy").order(options, WANT, NOW)) == "ab"
    assert names(make("least_busy").order(options, WANT, NOW + 60)) == "ba"


# cost_weighted


def price(into: float, out: float) -> Price:
    return Price(input_per_million=into, output_per_million=out)


def test_cost_weighted_takes_the_lowest_cost_of_this_request() -> None:
    cheap_to_read, cheap_to_write = option(0, price=price(1, 10)), option(1, price=price(5, 2))
    strategy = make("cost_weighted")
    options = [cheap_to_read, cheap_to_write]
    assert names(strategy.order(options, Want("m", prompt_tokens=10_000, max_tokens=10), NOW)) == "ab"
    assert names(strategy.order(options, Want("m", prompt_tokens=10, max_tokens=10_000), NOW)) == "ba"


def test_cost_weighted_expects_1024_tokens_when_the_caller_sets_no_bound() -> None:
    [choice] = make("cost_weighted").order([option(0, price=price(2.5, 10))], Want("m", prompt_tokens=1000), NOW)
    assert choice.score == pytest.approx((1000 * 2.5 + 1024 * 10) / 1e6)


def test_cost_weighted_puts_unknown_prices_last() -> None:
    options = [option(0), option(1, price=price(1000, 1000)), option(2, price=price(0, 0))]
    choices = make("cost_weighted").order(options, WANT, NOW)
    assert names(choices) == "cba"
    assert choices[-1].score == math.inf


def test_cost_weighted_gives_ties_to_the_least_busy_then_in_turns() -> None:
    same = price(1, 1)
    busy = [option(0, load=3, price=same), option(1, load=1, price=same), option(2, load=2, price=same)]
    assert names(make("cost_weighted").order(busy, WANT, NOW)) == "bca"
    idle = [option(0, price=same), option(1, price=same), option(2, price=price(2, 2))]
    assert firsts(make("cost_weighted"), lambda: idle, 100) == {"a": 50, "b": 50}
