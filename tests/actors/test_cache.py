"""What is kept of answers, within its bounds."""

from __future__ import annotations

import string
from collections import OrderedDict

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from infermux.actors.cache import IN_THE_MAKING, ONE_PART, OVERHEAD, Cache
from tests._properties import examples

BOUND = 64 * 1024
KEYS = st.sampled_from([letter.encode() for letter in string.ascii_lowercase[:8]])
SIZES = st.integers(0, BOUND // ONE_PART + OVERHEAD)


def cache(max_bytes: int = BOUND, ttl: float = 10.0) -> Cache[str]:
    return Cache(ttl, max_bytes)


def test_what_was_put_there_is_found_until_its_time_is_over() -> None:
    kept = cache()
    assert kept.find(b"k", 0.0) is None
    assert kept.put(b"k", "it", 5, 0.0)
    assert kept.find(b"k", 9.99) == "it"
    assert kept.find(b"k", 10.0) is None
    assert (len(kept), kept.size, kept.tally.expired) == (0, 0, 1)


def test_looking_at_it_does_not_make_it_younger() -> None:
    kept = cache()
    kept.put(b"k", "it", 5, 0.0)
    assert all(kept.find(b"k", at) for at in (3.0, 6.0, 9.0))
    assert kept.find(b"k", 11.0) is None


def test_what_was_asked_for_longest_ago_makes_room() -> None:
    kept = cache(8 * 8 * OVERHEAD)
    size = kept.largest
    for key in (b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"):
        assert kept.put(key, key.decode(), size, 0.0)
    assert kept.find(b"a", 1.0) == "a"
    assert kept.put(b"i", "i", size, 1.0)
    assert kept.find(b"b", 1.0) is None
    assert kept.find(b"a", 1.0) == "a"
    assert (len(kept), kept.tally.evicted) == (8, 1)


def test_what_is_too_old_goes_before_what_is_still_good() -> None:
    kept = cache(8 * 8 * OVERHEAD)
    size = kept.largest
    kept.put(b"old", "old", size, 0.0)
    for key in (b"a", b"b", b"c", b"d", b"e", b"f", b"g"):
        kept.put(key, "good", size, 5.0)
    kept.find(b"old", 6.0)  # asked for last
    kept.put(b"new", "new", size, 11.0)
    assert kept.find(b"a", 11.0) == "good"
    assert (kept.tally.expired, kept.tally.evicted) == (1, 0)


def test_one_takes_a_part_at_most_and_what_is_larger_moves_nobody() -> None:
    kept = cache()
    kept.put(b"k", "it", kept.largest, 0.0)
    assert not kept.put(b"large", "it", kept.largest + 1, 0.0)
    assert kept.find(b"k", 0.0) == "it"
    assert kept.tally.too_large == 1


def test_another_one_with_the_same_key_takes_its_place_and_begins_anew() -> None:
    kept = cache()
    kept.put(b"k", "before", 2000, 0.0)
    kept.put(b"k", "after", 10, 5.0)
    assert kept.find(b"k", 14.0) == "after"
    assert (len(kept), kept.size) == (1, 10 + OVERHEAD)


def test_what_is_in_the_making_takes_half_of_it_at_most_and_moves_what_is_kept() -> None:
    kept = cache()
    while kept.tally.evicted == 0:
        kept.put(b"%d" % len(kept), "it", 2000, 0.0)
    assert kept.promise(BOUND // IN_THE_MAKING, 0.0)
    assert not kept.promise(1, 0.0)
    assert kept.size + kept.making <= BOUND
    kept.give_back(BOUND // IN_THE_MAKING)
    assert kept.making == 0


@given(st.integers(1, 8 * OVERHEAD))
def test_a_bound_that_is_too_small_keeps_nothing_and_breaks_nothing(max_bytes: int) -> None:
    kept = cache(max_bytes)
    kept.put(b"k", "it", 1, 0.0)
    kept.promise(1, 0.0)
    assert kept.size + kept.making <= max_bytes


class Model(RuleBasedStateMachine):
    """Against a plain dictionary that is walked each time."""

    @initialize()
    def begin(self) -> None:
        self.cache = cache()
        self.model: OrderedDict[bytes, tuple[int, int, float]] = OrderedDict()  # number, size, until
        self.now, self.number, self.making = 0.0, 0, list[int]()

    @rule(seconds=st.floats(0, 6))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=KEYS, size=SIZES)
    def put(self, key: bytes, size: int) -> None:
        self.number += 1
        fits = size + OVERHEAD <= BOUND // ONE_PART
        assert self.cache.put(key, str(self.number), size, self.now) == fits
        if fits:
            self.model.pop(key, None)
            self.make_room(size + OVERHEAD)
            self.model[key] = (self.number, size + OVERHEAD, self.now + 10.0)

    @rule(key=KEYS)
    def find(self, key: bytes) -> None:
        number, _, until = self.model.get(key, (0, 0, 0.0))
        if self.now >= until:
            self.model.pop(key, None)
            assert self.cache.find(key, self.now) is None
        else:
            self.model.move_to_end(key)
            assert self.cache.find(key, self.now) == str(number)

    @rule(size=SIZES)
    def promise(self, size: int) -> None:
        if self.cache.promise(size, self.now):
            self.make_room(size)
            self.making.append(size)

    @precondition(lambda self: self.making)
    @rule()
    def give_back(self) -> None:
        self.cache.give_back(self.making.pop())

    def make_room(self, size: int) -> None:
        for key, (_, _, until) in list(self.model.items()):
            if self.now >= until:
                del self.model[key]
        while sum(each[1] for each in self.model.values()) + sum(self.making) + size > BOUND:
            self.model.popitem(last=False)

    @invariant()
    def is_as_large_as_it_says_and_within_its_bound(self) -> None:
        assert self.cache.size == sum(each[1] for each in self.model.values())
        assert self.cache.making == sum(self.making)
        assert self.cache.size + self.cache.making <= BOUND
        assert len(self.cache) == len(self.model)


TestCache = Model.TestCase
TestCache.settings = settings(max_examples=examples(40), stateful_step_count=30, deadline=None)
