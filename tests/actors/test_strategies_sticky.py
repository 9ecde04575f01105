"""sticky: consistent hashing with bounded loads."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from infermux.actors.messages import Want
from tests.actors.strategy_kit import NOW, WANT, make, names, option


def keys(count: int) -> list[Want]:
    return [Want("m", affinity=f"conversation {n}".encode()) for n in range(count)]


def test_sticky_sends_the_same_key_to_the_same_provider() -> None:
    options = [option(i) for i in range(5)]
    for want in keys(50):
        assert len({names(make("sticky", seed=s).order(options, want, NOW)) for s in range(5)}) == 1


def test_sticky_spreads_keys_by_weight() -> None:
    strategy = make("sticky")
    options = [option(0, weight=1), option(1, weight=2), option(2, weight=1)]
    counts = Counter(names(strategy.order(options, want, NOW))[0] for want in keys(4000))
    assert counts["a"] == pytest.approx(1000, rel=0.1)
    assert counts["b"] == pytest.approx(2000, rel=0.1)


def test_sticky_does_not_depend_on_the_process() -> None:
    options = [option(i) for i in range(3)]
    got = "".join(names(make("sticky").order(options, want, NOW))[0] for want in keys(12))
    assert got == PINNED


PINNED = "cbbbbbaacccb"


def test_a_provider_that_leaves_moves_its_own_keys_only() -> None:
    strategy = make("sticky")
    options = [option(i) for i in range(10)]
    moved = 0
    for want in keys(1000):
        with_all = names(strategy.order(options, want, NOW))
        without = names(strategy.order(options[:4] + options[5:], want, NOW))
        assert without == with_all.replace("e", "")
        moved += with_all[0] == "e"
    assert moved == pytest.approx(100, rel=0.3)


def test_a_provider_that_comes_takes_its_share_of_keys_only() -> None:
    strategy = make("sticky")
    options = [option(i) for i in range(10)]
    for want in keys(300):
        before = names(strategy.order(options[:9], want, NOW))[0]
        assert names(strategy.order(options, want, NOW))[0] in (before, "j")


def test_one_hot_key_overloads_nobody_beyond_the_bound() -> None:
    strategy = make("sticky")
    load = [0] * 4
    want = Want("m", affinity=b"everybody's favourite")
    for total in range(1, 401):
        chosen = strategy.order([option(i, load=n) for i, n in enumerate(load)], want, NOW)[0].option.index
        load[chosen] += 1
        assert load[chosen] <= math.ceil(1.25 * total / 4) + 1
    assert max(load) - min(load) > 20


def test_a_lone_conversation_stays_although_its_provider_is_the_only_busy_one() -> None:
    strategy = make("sticky")
    [want] = keys(1)
    home = strategy.order([option(i) for i in range(3)], want, NOW)[0].option.index
    busy = [option(i, load=2 if i == home else 0) for i in range(3)]
    assert strategy.order(busy, want, NOW)[0].option.index == home


def test_those_over_the_bound_come_last_the_least_busy_first() -> None:
    options = [option(0, load=100), option(1, load=90), option(2), option(3), option(4), option(5)]
    for want in keys(20):
        assert names(make("sticky").order(options, want, NOW)).endswith("ba")


def test_without_a_key_sticky_is_least_busy() -> None:
    options = [option(0, load=2), option(1, load=1), option(2, load=3)]
    assert names(make("sticky").order(options, WANT, NOW)) == "bac"
