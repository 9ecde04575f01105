"""What picks among many picks what the strategy would put first, whoever comes, goes and changes."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.messages import Want
from infermux.actors.pickers import Draws, LeastShare, Picker, Turns
from infermux.actors.pickers_standing import BetterOfTwo, Stuck
from infermux.actors.ranking import Ranking, Roster
from infermux.actors.strategies import STRATEGY_NAMES, make_picker
from infermux.actors.strategies_rotation import share
from infermux.actors.strategy import Option
from infermux.config.settings import LeastLatency, Price, Routing
from tests.actors.strategy_kit import NOW, WANT, make, measured, option

STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=40)


def picker(name: str) -> Picker:
    made = make_picker(name, Routing(), rng=random.Random(1))
    assert made is not None
    return made


def picked(made: Picker, want: Want = WANT) -> str:
    choice = made.pick(want, NOW)
    assert choice is not None
    return choice.option.provider


def one(at: int, load: int, which: int) -> Option:
    """One of a few ways in which an option may stand."""
    price = Price(input_per_million=which, output_per_million=4 - which) if which else None
    standing = measured(0.1 * (which + 1), samples=100 * which, failures=which == 3)
    return option(at, load=load, standing=standing, price=price, weight=1 + at % 3)


@pytest.mark.parametrize("name", ["priority", "cost_weighted", "least_busy", "least_latency"])
@given(steps=STEPS)
@settings(max_examples=15, deadline=None)
def test_a_picker_gives_the_best_score_of_those_that_are_there(name: str, steps: list[tuple[int, int, int]]) -> None:
    made, there = picker(name), dict[int, Option]()
    for at, load, which in steps:
        if which == 4:
            made.drop(at)
            there.pop(at, None)
        else:
            there[at] = one(at, load, which)
            made.put(at, there[at], NOW)
    choice = made.pick(WANT, NOW)
    assert (choice is None) is (not there)
    if choice is not None:
        best = make(name).order(list(there.values()), WANT, NOW)[0]
        assert (choice.score, choice.explore) == (best.score, best.explore)
        if name in ("cost_weighted", "least_busy"):
            assert share(choice.option, NOW) == share(best.option, NOW)
        else:
            assert choice.option == best.option


@given(weights=st.lists(st.integers(0, 4), min_size=2, max_size=8), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_turns_are_those_of_round_robin(weights: list[int], seed: int) -> None:
    options = [option(at, weight=weight) for at, weight in enumerate(weights)]
    turns, strategy = Turns(), make("round_robin", seed)
    for at, each in enumerate(options):
        turns.put(at, each, NOW)
    assert [picked(turns) for _ in range(40)] == [
        strategy.order(options, WANT, NOW)[0].option.provider for _ in range(40)
    ]


@given(
    history=st.lists(st.sets(st.integers(0, 6), min_size=1), max_size=30),
    weights=st.lists(st.integers(1, 5), min_size=7, max_size=7),
)
@settings(max_examples=15, deadline=None)
def test_turns_starve_nobody_whoever_came_and_went_before(history: list[set[int]], weights: list[int]) -> None:
    options = [option(at, weight=weight) for at, weight in enumerate(weights)]
    turns = Turns()
    for present in [*history, set(range(7))]:
        for at, each in enumerate(options):
            if at in present:
                turns.put(at, each, NOW)
            else:
                turns.drop(at)
        picked(turns)
    total = sum(weights)
    counts = Counter(picked(turns) for _ in range(10 * total))
    for at, each in enumerate(options):
        assert abs(counts[each.provider] - 10 * weights[at]) <= 2 * total


def test_a_weight_that_changes_counts_from_then_on() -> None:
    turns = Turns()
    for at in range(2):
        turns.put(at, option(at), NOW)
    turns.put(1, option(1, weight=3), NOW)
    assert Counter(picked(turns) for _ in range(40)) == {"a": 10, "b": 30}


def test_draws_are_by_weight_and_only_of_those_that_are_there() -> None:
    draws = Draws(random.Random(1))
    for at, weight in enumerate([1, 2, 5, 0]):
        draws.put(at, option(at, weight=weight), NOW)
    draws.drop(2)
    counts = Counter(picked(draws) for _ in range(3000))
    assert set(counts) == {"a", "b"}
    assert 0.3 < counts["a"] / 3000 < 0.37


def test_those_that_tie_take_turns_by_weight() -> None:
    least = LeastShare()
    for at, weight in enumerate([1, 2, 1]):
        least.put(at, option(at, weight=weight), NOW)
    assert Counter(picked(least) for _ in range(40)) == {"a": 10, "b": 20, "c": 10}


def test_whoever_comes_back_to_a_tie_has_not_saved_its_turns_up() -> None:
    least = LeastShare()
    for at in range(2):
        least.put(at, option(at), NOW)
    least.put(1, option(1, load=5), NOW)
    for _ in range(50):
        picked(least)
    least.put(1, option(1), NOW)
    assert Counter(picked(least) for _ in range(10)) == {"a": 5, "b": 5}


def test_a_slow_one_is_looked_at_again_when_least_latency_would() -> None:
    made, strategy = picker("least_latency"), make("least_latency")
    slow, firsts, expected = option(1, standing=measured(1.0)), list[str](), list[str]()
    made.put(1, slow, NOW)
    for turn in range(340):
        fast = option(0, standing=measured(0.1, samples=100 + turn))  # each of its requests is a sample
        made.put(0, fast, NOW)
        firsts.append(picked(made))
        expected.append(strategy.order([fast, slow], WANT, NOW)[0].option.provider)
    assert firsts == expected
    assert "b" in firsts


def test_one_that_is_being_explored_is_not_explored_twice() -> None:
    made = picker("least_latency")
    made.put(0, option(0, standing=measured(0.1)), NOW)
    made.put(1, option(1, standing=measured(0.0, samples=0)), NOW)
    assert picked(made) == "b"
    made.put(1, option(1, standing=measured(0.0, samples=0, exploring=True)), NOW)
    assert picked(made) == "a"


def test_the_better_of_two_is_peak_ewmas() -> None:
    made, strategy = BetterOfTwo(LeastLatency(), random.Random(3)), make("peak_ewma", 3)
    options = [option(at, load=at % 4, standing=measured(0.1 * (at + 1), samples=at % 3)) for at in range(9)]
    for at, each in enumerate(options):
        made.put(at, each, NOW)
    assert [picked(made) for _ in range(50)] == [
        strategy.order(options, WANT, NOW)[0].option.provider for _ in range(50)
    ]


@given(key=st.binary(min_size=1, max_size=8), gone=st.sets(st.integers(0, 11), max_size=11))
@settings(max_examples=15, deadline=None)
def test_a_key_goes_where_sticky_would_send_it(key: bytes, gone: set[int]) -> None:
    want, stuck = Want("m", affinity=key), Stuck()
    options = [option(at, weight=1 + at % 2) for at in range(12)]
    for at, each in enumerate(options):
        stuck.put(at, each, NOW)
    for at in gone:
        stuck.drop(at)
    left = [each for at, each in enumerate(options) if at not in gone]
    assert picked(stuck, want) == make("sticky").order(left, want, NOW)[0].option.provider


def test_a_hot_key_spreads_as_sticky_would() -> None:
    want, stuck, strategy = Want("m", affinity=b"hot"), Stuck(), make("sticky")
    loads = dict.fromkeys(range(12), 0)
    for at in loads:
        stuck.put(at, option(at), NOW)
    for _ in range(60):
        options = [option(at, load=load) for at, load in loads.items()]
        choice = stuck.pick(want, NOW)
        first = strategy.order(options, want, NOW)[0].option
        assert choice is not None
        assert choice.option.provider == first.provider
        at = first.index
        loads[at] += 1
        stuck.put(at, option(at, load=loads[at]), NOW)


def test_a_plugin_has_no_picker() -> None:
    assert make_picker("of a plugin", Routing(), rng=random.Random(1)) is None


@pytest.mark.parametrize("name", STRATEGY_NAMES)
def test_nobody_is_picked_where_nobody_is(name: str) -> None:
    made = picker(name)
    made.put(0, option(0), NOW)
    made.drop(0)
    assert made.pick(WANT, NOW) is None


@given(steps=st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 9)), max_size=300))
@settings(max_examples=15, deadline=None)
def test_a_ranking_knows_its_first(steps: list[tuple[int, int | None]]) -> None:
    ranking, model = Ranking(), dict[int, tuple[int, int]]()
    for member, key in steps:
        if key is None:
            ranking.drop(member)
            model.pop(member, None)
        else:
            ranking.put(member, (key, member))
            model[member] = (key, member)
        first = ranking.first()
        assert (None if first is None else first[1]) == min(model, key=lambda each: model[each], default=None)
        assert len(ranking) == len(model)


def test_a_roster_draws_those_that_are_left() -> None:
    roster, rng = Roster(), random.Random(1)
    for member in range(5):
        roster.add(member)
    for member in (1, 4, 4):
        roster.drop(member)
    assert {roster.draw(rng) for _ in range(99)} == {0, 2, 3}
    assert all(len(set(roster.draw_two(rng))) == 2 for _ in range(99))
