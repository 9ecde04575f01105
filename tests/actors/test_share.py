"""Parts of limits: together they never admit more than one limit of the whole would."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from infermux.actors.bucket import TokenBucket, resized
from infermux.actors.gate import Gate
from infermux.actors.key_limits import KeyLimits, Overrun
from infermux.actors.key_table import KeyTable
from infermux.actors.lease import Grant
from infermux.actors.messages import Reason, Want
from infermux.actors.plan import Refusal
from infermux.actors.purse import Claim
from infermux.actors.purses import Purses, Ticket
from infermux.actors.share import WHOLE, Share
from infermux.config.settings import Budget, HealthCheck, ProviderSettings, RateLimits
from infermux.keys import Allowance
from tests._properties import examples
from tests.actors._key_store import MemoryKeys
from tests.actors._scripted import provider, world

NOW = 1_780_000_000.0


@given(st.integers(0, 10**6), st.integers(1, 40))
def test_the_parts_add_up_to_the_limit_and_differ_by_one_at_most(limit: int, of: int) -> None:
    parts = [Share(index, of).part(limit) for index in range(of)]
    assert sum(parts) == limit
    assert max(parts) - min(parts) <= 1
    assert parts == sorted(parts, reverse=True)


@given(st.integers(0, 1000), st.integers(2, 40), st.data())
def test_where_one_goes_nobody_elses_part_shrinks(limit: int, of: int, data: st.DataObject) -> None:
    gone = data.draw(st.integers(0, of - 1))
    for index in range(of):
        if index != gone:
            left = Share(index - (index > gone), of - 1)
            assert left.part(limit) >= Share(index, of).part(limit)


@pytest.mark.parametrize(("index", "of"), [(1, 1), (-1, 2), (2, 2), (1, 0)])
def test_there_are_no_others(index: int, of: int) -> None:
    with pytest.raises(ValueError, match="there is no router"):
        Share(index, of)


def test_who_comes_late_has_no_slots_yet() -> None:
    assert Share(0, 2, late=True).slots(10) == 0
    assert Share(0, 2).slots(11) == 6
    assert not Share(late=True).is_whole
    assert WHOLE.is_whole


@given(st.integers(0, 200), st.integers(1, 8), st.lists(st.integers(0, 60), max_size=5))
def test_of_what_those_who_are_about_to_end_do_not_need_the_others_have_parts(
    limit: int, staying: int, most: list[int]
) -> None:
    before = staying + len(most)
    leaving = tuple(Share(index, before, most=each) for index, each in enumerate(most))
    kept = [each.slots(limit) for each in leaving]
    assert all(each <= need for each, need in zip(kept, most, strict=True))
    assert sum(Share(index, staying, leaving=leaving).slots(limit) for index in range(staying)) + sum(kept) == limit


# Buckets. A crew is what a supervisor does: survivors take over at once, who comes is let in once all have shrunk.


class Crew:
    """Some routers with a bucket each, against one bucket of the whole."""

    def __init__(self, limit: int, of: int) -> None:
        self.limit = limit
        self.now = 0.0
        self.buckets: list[TokenBucket | None] = [resized(None, limit, 0.0, Share(index, of)) for index in range(of)]
        self.whole = TokenBucket(limit)

    def dies(self, place: int) -> None:
        if len(self.buckets) > 1:
            del self.buckets[place % len(self.buckets)]
            self._deal(range(len(self.buckets)))

    def comes(self, place: int) -> None:
        place %= len(self.buckets) + 1
        of = len(self.buckets) + 1
        self._deal([index + (index >= place) for index in range(len(self.buckets))], of)
        self.buckets.insert(place, resized(None, self.limit, self.now, Share(place, of, late=True)))

    def _deal(self, places: Sequence[int], of: int | None = None) -> None:
        for place, bucket in zip(places, self.buckets, strict=True):
            resized(bucket, self.limit, self.now, Share(place, of or len(self.buckets)))

    def takes(self, place: int, tokens: int) -> bool:
        bucket = self.buckets[place % len(self.buckets)]
        assert bucket is not None
        return bucket.take(tokens, self.now)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 90, allow_nan=False)),
        st.tuples(st.sampled_from(["dies", "comes"]), st.integers(0, 7)),
        st.tuples(st.sampled_from(["take", "take", "drain"]), st.integers(0, 7)),
    ),
    max_size=40,
)


@given(limit=st.integers(1, 50), of=st.integers(1, 5), script=steps)
@settings(max_examples=examples(60), deadline=None)
def test_whoever_comes_and_goes_what_they_admit_one_bucket_of_the_whole_would_admit(
    limit: int, of: int, script: list[tuple[str, float]]
) -> None:
    crew = Crew(limit, of)
    for what, number in script:
        if what == "wait":
            crew.now += number
        elif what == "dies":
            crew.dies(int(number))
        elif what == "comes":
            crew.comes(int(number))
        else:
            for _ in range(1 if what == "take" else limit):
                if crew.takes(int(number), 1):
                    assert crew.whole.take(1, crew.now)
        saved = sum(bucket.available(crew.now) for bucket in crew.buckets if bucket is not None)
        assert saved <= crew.whole.available(crew.now) + 1e-6


def test_whoever_comes_later_begins_with_nothing_and_is_refilled() -> None:
    late = resized(None, 60, 10.0, Share(1, 2, late=True))
    assert late is not None
    assert not late.take(1, 10.0)
    resized(late, 60, 12.0, Share(1, 2))
    assert late.take(1, 12.0)
    assert not late.take(1, 12.0)


# Gates and keys.


def gate(**limits: int) -> Gate:
    return Gate(
        ProviderSettings(
            name="a",
            type="openai",
            models=("m",),
            rate_limits=RateLimits(**limits),
            health_check=HealthCheck(disabled=True),
        )
    )


def admitted(by: Gate, times: int, now: float = 0.0) -> int:
    return sum(isinstance(by.admit(Want("m"), "m", now), Grant) for _ in range(times))


def test_a_gate_admits_by_its_part() -> None:
    half = gate(requests_per_minute=7)
    half.adopt_share(Share(1, 2), 0.0)
    assert admitted(half, 10) == 3
    half.adopt_share(WHOLE, 0.0)
    assert admitted(half, 10) == 0
    assert admitted(half, 10, now=60.0) == 7


def test_a_gate_without_a_part_says_why_and_is_not_probed() -> None:
    none = gate(requests_per_minute=1)
    none.adopt_share(Share(1, 2), 0.0)
    refusal = none.admit(Want("m"), "m", 0.0)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.REQUEST_LIMIT
    assert "no part" in refusal.detail
    assert none.reserve_probe(16, 0.0) == float("inf")
    none.adopt_share(Share(0, 2), 0.0)
    assert not none.has_no_part
    assert admitted(none, 1, now=60.0) == 1


def test_a_gate_without_a_part_of_the_tokens_admits_nothing() -> None:
    none = gate(tokens_per_minute=3)
    none.adopt_share(Share(3, 4), 0.0)
    assert isinstance(none.admit(Want("m", prompt_tokens=500), "m", 1.0), Refusal)


def test_a_gate_that_comes_late_lets_nothing_through_at_once() -> None:
    late = gate(max_concurrent=4)
    late.adopt_share(Share(1, 2, late=True), 0.0)
    assert admitted(late, 1) == 0
    late.adopt_share(Share(1, 2), 0.0)
    assert late.max_concurrent == 2
    assert not late.is_over


def test_the_limits_of_a_key_are_divided_and_told_whole() -> None:
    limits = KeyLimits()
    limits.adopt(Allowance(requests_per_minute=5, max_concurrent=9), 0.0)
    limits.adopt_share(Share(1, 2), 0.0)
    assert [limits.admit(1, 0.0) for _ in range(2)] == [0, 0]
    assert limits.admit(1, 0.0) == Overrun("requests_per_minute", 5, 30.0)
    limits.adopt_share(Share(3, 4), 0.0)
    assert not limits.is_over
    limits.adopt(Allowance(requests_per_minute=5, max_concurrent=4), 0.0)
    assert limits.is_over


def test_a_key_without_a_part_admits_nothing() -> None:
    limits = KeyLimits()
    limits.adopt(Allowance(tokens_per_minute=1), 0.0)
    limits.adopt_share(Share(1, 2), 0.0)
    assert limits.admit(5, 0.0) == Overrun("tokens_per_minute", 1, None)


def test_keys_that_are_read_later_are_divided_too() -> None:
    _, stored = MemoryKeys().made(requests_per_minute=4)
    table = KeyTable()
    table.adopt_share(Share(0, 2), 0.0)
    table.adopt([stored], 0.0)
    (known,) = table.keys.values()
    assert known.limits.levels(0.0)["requests_left"] == 2.0
    assert not table.is_over


# Budgets.


def budget(dollars: float) -> tuple[Claim, ...]:
    return (Claim.of(Budget(caller="a", limit_usd=dollars, period="day"), "caller", "a"),)


def crew(of: int) -> list[Purses]:
    made = [Purses() for _ in range(of)]
    for index, purses in enumerate(made):
        purses.adopt_share(Share(index, of))
    return made


@given(
    of=st.integers(2, 4),
    script=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["take", "settle", "dies", "more"]), st.integers(0, 60)),
        max_size=40,
    ),
)
@settings(max_examples=examples(60), deadline=None)
def test_whoever_goes_a_known_budget_is_not_overspent(of: int, script: list[tuple[int, str, int]]) -> None:
    """Nobody knows what one spent who went without a word: whoever has the purse leaves it that, until one is alone.

    Workers, who have a bank, need neither; see `bank`.
    """
    limit, purses = 100, crew(of)
    for each in purses:
        ticket = each.reserve(_claims(limit), 0, NOW)
        assert isinstance(ticket, Ticket)
        each.settle(ticket, 0)
    open_tickets: list[tuple[Purses, Ticket]] = []
    spent = 0
    for place, what, number in script:
        mine = purses[place % len(purses)]
        if what == "take":
            ticket = mine.reserve(_claims(limit), number, NOW)
            if isinstance(ticket, Ticket):
                open_tickets.append((mine, ticket))
        elif what == "settle" and open_tickets:
            holder, ticket = open_tickets.pop(number % len(open_tickets))
            used = min(number, ticket.amount)
            spent += used
            if holder in purses:
                holder.settle(ticket, used)
        elif what == "dies" and len(purses) > 2:
            purses.remove(mine)
            for index, each in enumerate(purses):
                each.adopt_share(Share(index, len(purses)))
        elif what == "more":
            limit += number
        assert spent + sum(ticket.amount for holder, ticket in open_tickets if holder in purses) <= limit


_CLAIMS: dict[int, tuple[Claim, ...]] = {}


def _claims(limit: int) -> tuple[Claim, ...]:
    """`limit` in nano-dollars."""
    (claim,) = budget(1.0)
    return _CLAIMS.setdefault(limit, (claim._replace(limit=limit),))


def test_who_is_alone_again_has_all_that_is_left() -> None:
    (mine, _) = crew(2)
    claims = budget(1.0)
    assert isinstance(mine.reserve(claims, 500_000_000, NOW), Ticket)
    assert not isinstance(mine.reserve(claims, 1, NOW), Ticket)
    mine.adopt_share(WHOLE)
    assert isinstance(mine.reserve(claims, 500_000_000, NOW), Ticket)


async def test_a_fleet_gives_its_part_to_all_it_has(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", rate_limits=RateLimits(requests_per_minute=10))) as w:
        table = KeyTable()
        w.fleet.sharers.append(table)
        w.fleet.adopt_share(Share(0, 2))
        assert w.fleet.members["a"].gate.requests is not None
        assert w.fleet.members["a"].gate.requests.capacity == 5
        assert table.share == w.fleet.treasury.purses.share == Share(0, 2)
        assert not w.fleet.is_over
