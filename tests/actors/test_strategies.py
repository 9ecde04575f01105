"""What all strategies have in common, and how they are made by name."""

from __future__ import annotations

import importlib.metadata
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.messages import Ewma, Standing, Want
from infermux.actors.strategies import STRATEGY_NAMES, load_strategy_plugins, make_strategy
from infermux.actors.strategy import Choice, Option
from infermux.config.settings import Price, Routing
from tests.actors.strategy_kit import NOW, WANT, make, names, option


def test_the_names_are_those_of_the_configuration_reference() -> None:
    assert STRATEGY_NAMES == (
        "round_robin",
        "least_latency",
        "cost_weighted",
        "random",
        "priority",
        "least_busy",
        "peak_ewma",
        "sticky",
    )
    assert Routing().strategy in STRATEGY_NAMES


standings = st.builds(
    Standing,
    exploring=st.booleans(),
    penalty=st.sampled_from([0.0, 0.5, 30.0]),
    penalty_at=st.sampled_from([0.0, NOW - 5, NOW]),
    response=st.builds(Ewma, st.floats(0, 100), st.integers(0, 10)),
    model_response=st.dictionaries(st.just("m"), st.builds(Ewma, st.floats(0, 100), st.integers(0, 10))),
)
option_lists = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.sampled_from([0.0, 0.1, 1.0, 3.0]),
        standings,
        st.none() | st.builds(Price, input_per_million=st.floats(0, 9), output_per_million=st.floats(0, 9)),
    ),
    max_size=8,
).map(lambda rows: [Option(f"p{i}", "m", s, i, load, w, p) for i, (load, w, s, p) in enumerate(rows)])


@settings(max_examples=15, deadline=None)
@given(st.lists(option_lists, min_size=1, max_size=3), st.sampled_from([b"", b"key"]))
@pytest.mark.parametrize("name", STRATEGY_NAMES)
def test_every_option_is_offered_for_good_exactly_once(name: str, lists: list[list[Option]], affinity: bytes) -> None:
    strategy = make(name)
    for options in lists:
        choices = strategy.order(options, Want("m", affinity=affinity), NOW)
        lasting = [choice.option.index for choice in choices if not choice.explore]
        assert sorted(lasting) == [one.index for one in options]
        exploring = [choice.option.index for choice in choices if choice.explore]
        assert len(exploring) == len(set(exploring))
        assert not exploring or name == "least_latency"


@pytest.mark.parametrize("name", STRATEGY_NAMES)
def test_without_options_the_order_is_empty(name: str) -> None:
    assert list(make(name).order([], WANT, NOW)) == []


@pytest.mark.parametrize("name", STRATEGY_NAMES)
def test_the_same_seed_gives_the_same_orders(name: str) -> None:
    def orders() -> list[str]:
        strategy = make(name, seed=7)
        return [names(strategy.order([option(i) for i in range(5)], WANT, NOW)) for _ in range(20)]

    assert orders() == orders()


@pytest.mark.parametrize("name", STRATEGY_NAMES)
def test_one_provider_that_serves_two_of_the_names_is_offered_twice(name: str) -> None:
    twice = [Option("a", "m", Standing(), 0), Option("a", "n", Standing(), 0)]
    choices = make(name).order(twice, Want("m", affinity=b"key"), NOW)
    assert {choice.option.model for choice in choices} == {"m", "n"}


def test_an_unknown_name_is_refused_with_those_allowed() -> None:
    with pytest.raises(ValueError, match=r"unknown strategy 'rr'; allowed: round_robin, .*, sticky, mine$"):
        make_strategy("rr", Routing(), rng=random.Random(1), plugins={"mine": _Mine, "sticky": _Mine})


class _Mine:
    def __init__(self, routing: Routing, *, rng: random.Random) -> None:
        self.routing = routing
        self.rng = rng

    def order(self, options: Sequence[Option], want: Want, now: float) -> Sequence[Choice]:
        return [Choice(one) for one in reversed(options)]


def test_a_plugin_gets_the_routing_section_and_the_random_source() -> None:
    routing, rng = Routing(), random.Random(3)
    strategy = make_strategy("mine", routing, rng=rng, plugins={"mine": _Mine})
    assert isinstance(strategy, _Mine)
    assert strategy.routing is routing
    assert strategy.rng is rng


def test_a_plugin_cannot_take_the_name_of_one_of_ours() -> None:
    strategy = make_strategy("priority", Routing(), rng=random.Random(3), plugins={"priority": _Mine})
    assert not isinstance(strategy, _Mine)


def test_plugins_are_found_by_entry_point_and_imported_only_when_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(*, group: str) -> list[importlib.metadata.EntryPoint]:
        assert group == "infermux.strategies"
        return [
            importlib.metadata.EntryPoint("list", "builtins:dict", group),
            importlib.metadata.EntryPoint("broken", "no_such_module:Strategy", group),
        ]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    plugins = load_strategy_plugins()
    assert sorted(plugins) == ["broken", "list"]
    rng = random.Random(1)
    # dict(mapping, rng=...) stands in for a strategy: what matters is how it was called.
    assert make_strategy("list", {}, rng=rng, plugins=plugins) == {"rng": rng}  # type: ignore[arg-type,comparison-overlap]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        make_strategy("broken", Routing(), rng=rng, plugins=plugins)
