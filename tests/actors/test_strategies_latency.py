"""least_latency and peak_ewma."""

from __future__ import annotations

import pytest

from infermux.actors.messages import Ewma, Standing
from tests.actors.strategy_kit import NOW, WANT, firsts, make, measured, names, option

# least_latency


def test_least_latency_takes_the_fastest() -> None:
    options = [option(0, standing=measured(0.9)), option(1, standing=measured(0.2)), option(2, standing=measured(0.5))]
    choices = make("least_latency").order(options, WANT, NOW)
    assert names(choices) == "bca"
    assert [choice.score for choice in choices] == [0.2, 0.5, 0.9]
    assert not any(choice.explore for choice in choices)


def test_fewer_than_five_samples_count_as_nothing_and_are_explored() -> None:
    options = [option(0, standing=measured(0.2)), option(1, standing=measured(9.0, samples=4))]
    choices = make("least_latency").order(options, WANT, NOW)
    assert [(c.option.provider, c.explore) for c in choices] == [("b", True), ("a", False), ("b", False)]
    assert choices[0].score == 0.0


def test_five_samples_are_enough() -> None:
    options = [option(0, standing=measured(0.2)), option(1, standing=measured(9.0, samples=5))]
    assert names(make("least_latency").order(options, WANT, NOW)) == "ab"


def test_min_samples_can_be_changed() -> None:
    options = [option(0, standing=measured(0.2)), option(1, standing=measured(9.0, samples=5))]
    assert names(make("least_latency", min_samples=6).order(options, WANT, NOW)) == "bab"
    unseen = [option(0, standing=measured(0.2)), option(1)]
    assert names(make("least_latency", min_samples=0).order(unseen, WANT, NOW)) == "ba"


def test_a_provider_that_is_being_explored_goes_after_the_measured_ones() -> None:
    options = [option(0, standing=measured(0.0, samples=1, exploring=True)), option(1, standing=measured(30.0))]
    choices = make("least_latency").order(options, WANT, NOW)
    assert [(c.option.provider, c.explore) for c in choices] == [("b", False), ("a", False)]


def test_of_several_unmeasured_ones_each_can_be_explored_and_all_are_a_last_resort_by_load() -> None:
    options = [
        option(0, load=3, standing=Standing(exploring=True)),
        option(1, load=2),
        option(2, load=1),
        option(3, standing=measured(1.0)),
    ]
    choices = make("least_latency").order(options, WANT, NOW)
    assert [(c.option.provider, c.explore) for c in choices] == [
        ("c", True),
        ("b", True),
        ("d", False),
        ("c", False),
        ("b", False),
        ("a", False),
    ]


def test_the_average_of_the_model_counts_once_it_has_samples_enough() -> None:
    slow_here = Standing(response=Ewma(0.1, 100), model_response={"m": Ewma(5.0, 5), "n": Ewma(0.01, 50)})
    few_here = Standing(response=Ewma(0.3, 100), model_response={"m": Ewma(7.0, 4)})
    choices = make("least_latency").order([option(0, standing=slow_here), option(1, standing=few_here)], WANT, NOW)
    assert [(c.option.provider, c.score) for c in choices] == [("b", 0.3), ("a", 5.0)]


def test_it_can_measure_to_the_first_token_instead() -> None:
    one = Standing(response=Ewma(9.0, 50), first_token=Ewma(0.1, 50))
    other = Standing(response=Ewma(1.0, 50), first_token=Ewma(0.01, 50), model_first_token={"m": Ewma(0.7, 50)})
    options = [option(0, standing=one), option(1, standing=other)]
    assert names(make("least_latency").order(options, WANT, NOW)) == "ba"
    choices = make("least_latency", measure="first_token").order(options, WANT, NOW)
    assert [(c.option.provider, c.score) for c in choices] == [("a", 0.1), ("b", 0.7)]


def test_a_provider_that_fails_at_once_never_looks_fast() -> None:
    fast_but_failing = measured(0.01, failures=3)
    never_answered = measured(0.0, samples=0, failures=3)
    options = [
        option(0, standing=fast_but_failing),
        option(1, standing=never_answered),
        option(2, standing=measured(8.0)),
    ]
    choices = make("least_latency").order(options, WANT, NOW)
    assert choices[0].option.provider == "c"
    assert names(choices) == "cbab"
    assert names(make("least_latency").order(options, WANT, NOW + 120))[0] in "ab"


def test_equal_latencies_go_to_the_least_busy() -> None:
    options = [option(0, load=2, standing=measured(1.0)), option(1, load=1, standing=measured(1.0))]
    assert names(make("least_latency").order(options, WANT, NOW)) == "ba"


# peak_ewma


def test_peak_ewma_weighs_latency_with_the_requests_in_flight() -> None:
    options = [option(0, load=9, standing=measured(0.1)), option(1, load=0, standing=measured(0.5))]
    choices = make("peak_ewma").order(options, WANT, NOW)
    assert [(c.option.provider, c.score) for c in choices] == [("b", 0.5), ("a", pytest.approx(1.0))]


def test_peak_ewma_divides_by_the_weight_and_adds_the_penalty() -> None:
    options = [option(0, load=1, weight=4, standing=measured(1.0)), option(1, standing=measured(0.1, failures=1))]
    choices = make("peak_ewma").order(options, WANT, NOW)
    assert [(c.option.provider, c.score) for c in choices] == [("a", 0.5), ("b", pytest.approx(10.1))]


def test_peak_ewma_takes_the_better_of_two_so_the_worst_is_never_first_and_the_best_not_always() -> None:
    options = [option(i, standing=measured(1.0 + i)) for i in range(5)]
    counts = firsts(make("peak_ewma"), lambda: options, 10_000)
    # The i-th best of n is first with probability 2 (n - 1 - i) / (n (n - 1)).
    for i, name in enumerate("abcde"):
        assert counts[name] == pytest.approx(10_000 * 2 * (4 - i) / 20, rel=0.1)


def test_peak_ewma_offers_the_rest_by_cost() -> None:
    strategy = make("peak_ewma")
    options = [option(i, standing=measured(1.0 + i)) for i in range(5)]
    for _ in range(50):
        order = names(strategy.order(options, WANT, NOW))
        assert list(order[1:]) == sorted(order[1:])


def test_peak_ewma_takes_an_unmeasured_provider_for_the_fastest_but_counts_its_load() -> None:
    strategy = make("peak_ewma")
    known = option(0, load=1, standing=measured(0.4))
    assert names(strategy.order([known, option(1, load=0)], WANT, NOW)) == "ba"
    assert names(strategy.order([known, option(1, load=2)], WANT, NOW)) == "ab"
    [choice] = strategy.order([option(0)], WANT, NOW)
    assert choice.score == 1.0


def _turns_until_tried(seconds: float) -> int:
    """How many requests go to a provider of 0.1 s before one that took `seconds` is explored."""
    strategy = make("least_latency")
    for turn in range(1, 1000):
        quick, slow = option(0, standing=measured(0.1, samples=10 + turn)), option(1, standing=measured(seconds))
        first = strategy.order([quick, slow], WANT, NOW)[0]
        if first.option.provider == "b":
            assert first.explore
            return turn
    return 0


def test_a_provider_that_was_slow_is_tried_again_the_later_the_slower_it_was() -> None:
    assert _turns_until_tried(0.2) in range(100, 105)
    assert _turns_until_tried(1.0) in range(330, 340)


def test_one_that_is_being_explored_is_not_explored_twice_and_a_sample_makes_it_new() -> None:
    strategy = make("least_latency")
    quick = option(0, standing=measured(0.1, samples=1000))
    for turn in range(400):
        # The quick one has a new sample each time.
        quick = option(0, standing=measured(0.1, samples=1000 + turn))
        strategy.order([quick, option(1, standing=measured(1.0))], WANT, NOW)
    exploring = option(1, standing=measured(1.0, exploring=True))
    assert names(strategy.order([quick, exploring], WANT, NOW)) == "ab"
    assert names(strategy.order([quick, option(1, standing=measured(1.0, samples=99))], WANT, NOW)) == "ab"
