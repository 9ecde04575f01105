"""Which key a request takes, what rests and what is retired: rules, and a model that they are held against."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.keyring import KeyRing
from tests._properties import examples

CONVERSATIONS = [b"conversation %d" % n for n in range(600)]


def test_without_a_conversation_keys_take_turns() -> None:
    ring = KeyRing(3)
    assert Counter(ring.choose(b"", 0.0)[0] for _ in range(30)) == {0: 10, 1: 10, 2: 10}


def test_a_conversation_stays_on_its_key() -> None:
    ring, other = KeyRing(3), KeyRing(3)
    for conversation in CONVERSATIONS[:20]:
        order = ring.choose(conversation, 0.0)
        assert order == ring.choose(conversation, 0.0) == other.choose(conversation, 0.0)
        assert sorted(order) == [0, 1, 2]


def test_conversations_are_spread_over_all_keys() -> None:
    ring = KeyRing(3)
    first = Counter(ring.choose(conversation, 0.0)[0] for conversation in CONVERSATIONS)
    assert all(150 <= first[at] <= 250 for at in range(3))


def test_a_key_that_goes_moves_only_its_own_conversations() -> None:
    ring = KeyRing(3)
    before = {conversation: ring.choose(conversation, 0.0)[0] for conversation in CONVERSATIONS}
    ring.retire(1, "answered 401", 0.0)
    for conversation, key in before.items():
        now_on = ring.choose(conversation, 0.0)[0]
        assert now_on == key if key != 1 else now_on in (0, 2)


def test_a_429_rests_one_key() -> None:
    ring = KeyRing(2)
    ring.rate_limited(0, 10.0, 5.0)
    assert (ring.choose(b"", 14.9), ring.blocked_until(14.9)) == ([1], 0.0)
    assert sorted(ring.choose(b"", 15.0)) == [0, 1]


def test_the_key_that_is_asked_for_goes_first_unless_it_rests() -> None:
    ring = KeyRing(3)
    for conversation in CONVERSATIONS[:20]:
        order = ring.choose(conversation, 0.0, first=2)
        assert (order[0], sorted(order)) == (2, [0, 1, 2])
    ring.rate_limited(2, 0.0, 5.0)
    assert ring.choose(b"x", 0.0, first=2) == ring.choose(b"x", 0.0)


def test_when_all_rest_the_earliest_is_waited_for() -> None:
    ring = KeyRing(3)
    ring.retire(2, "answered 402", 0.0)
    ring.rate_limited(0, 0.0, 20.0)
    ring.rate_limited(1, 0.0, 5.0)
    assert (ring.choose(b"x", 0.0), ring.blocked_until(0.0)) == ([], 5.0)


def test_only_when_all_are_retired_nothing_is_left() -> None:
    ring = KeyRing(2)
    ring.retire(0, "answered 401", 0.0)
    one = (ring.all_retired, ring.blocked_until(0.0))
    ring.retire(1, "answered 403", 0.0)
    assert (one, (ring.all_retired, ring.blocked_until(0.0))) == ((False, 0.0), (True, math.inf))


def test_a_probe_brings_a_key_back_and_a_late_success_does_not() -> None:
    ring = KeyRing(2)
    ring.retire(0, "answered 401", 3.0)
    ring.succeeded(0, 4.0)
    left = ring.choose(b"", 4.0)
    ring.restore(0)
    assert (left, sorted(ring.choose(b"", 4.0))) == ([1], [0, 1])


def test_retired_keys_are_probed_last_and_again_after_an_interval() -> None:
    ring = KeyRing(3)
    assert ring.next_look(60.0) == math.inf
    ring.retire(0, "answered 401", 3.0)
    assert (ring.probe_order(), ring.retired(), ring.next_look(60.0)) == ([1, 2, 0], [0], 63.0)


def test_the_operator_brings_all_back() -> None:
    ring = KeyRing(2)
    ring.retire(0, "answered 401", 0.0)
    ring.rate_limited(1, 0.0, 60.0)
    ring.restore_all()
    resting_on = ring.choose(b"", 0.0)
    ring.reset()
    assert (resting_on, sorted(ring.choose(b"", 0.0))) == ([0], [0, 1])


def test_keys_are_shown_by_their_place() -> None:
    ring = KeyRing(3)
    ring.retire(1, "answered 401", 0.0)
    ring.rate_limited(2, 0.0, 5.0)
    assert ring.statistics(1.0) == [
        {"key": "1", "state": "ready", "reason": None, "resting_for": None},
        {"key": "2", "state": "retired", "reason": "answered 401", "resting_for": None},
        {"key": "3", "state": "resting", "reason": None, "resting_for": 4.0},
    ]
    assert repr(ring) == "<KeyRing of 3, 1 retired>"


def test_a_ring_without_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        KeyRing(0)


STEPS = st.tuples(st.sampled_from(["429", "retire", "restore", "reset"]), st.integers(0, 3), st.floats(0, 30))


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.tuples(STEPS, st.floats(0, 10), st.binary(max_size=2)), max_size=40))
def test_what_may_be_used_is_what_neither_rests_nor_is_retired(
    steps: list[tuple[tuple[str, int, float], float, bytes]],
) -> None:
    ring, now = KeyRing(4), 0.0
    rests = [0.0] * 4
    retired: set[int] = set()
    for (what, at, seconds), passed, affinity in steps:
        now += passed
        if what == "429":
            ring.rate_limited(at, now, seconds)
            rests[at] = max(rests[at], now + seconds)
        elif what == "retire":
            ring.retire(at, "answered 401", now)
            retired.add(at)
        elif what == "restore":
            ring.restore(at)
            retired.discard(at)
        else:
            ring.reset()
            rests = [0.0] * 4
            retired.clear()
        usable = {key for key in range(4) if key not in retired and now >= rests[key]}
        assert set(ring.choose(affinity, now)) == usable
        assert len(ring.choose(affinity, now)) == len(usable)
        waits = [rests[key] for key in range(4) if key not in retired]
        assert ring.blocked_until(now) == (0.0 if usable else min(waits, default=math.inf))
        assert ring.all_retired == (len(retired) == 4)
