"""Parts of limits and budgets on several nodes, whatever becomes of what they say to Redis: sums that must hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import hypothesis.strategies as st
from hypothesis import given, settings

from infermux.actors.purse import Purse, PurseKey
from infermux.actors.share import Share
from infermux.actors.shared_bucket import SharedBucket
from infermux.actors.shared_purse import MICRO, SharedPurse
from infermux.shared.scripts import Call
from tests._properties import examples
from tests.shared._mirror import TOKEN, Limit, Mirror

NODES = 3
LIMIT = 60
LEFT = 40  # of it, as Redis has it when they begin
BUDGET = 1000  # micro-dollars
FATES = ("answered", "answered", "answered", "answer lost", "lost", "late")

nodes = st.integers(0, NODES - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(0, 5000), st.just(0)),
        st.tuples(st.just("take"), nodes, st.integers(1, 30)),
        st.tuples(st.just("settle"), nodes, st.integers(0, 30)),
        st.tuples(st.just("round"), nodes, st.sampled_from(range(len(FATES)))),
        st.tuples(st.just("want"), nodes, st.integers(1, 30)),  # and get it, if it is there
        st.tuples(st.just("want"), nodes, st.integers(1, 30)),
        st.tuples(st.just("lose"), nodes, st.just(0)),
    ),
    max_size=40,
)


@attrs.define(eq=False)
class Redis:
    """A mirror with a wire to it that loses and delays; `at` is the time in ms."""

    at: int = 0
    mirror: Mirror = attrs.field(init=False)
    late: list[Call] = attrs.field(factory=list[Call])

    def __attrs_post_init__(self) -> None:
        self.mirror = Mirror(lambda: self.at)
        self.mirror.limits["k"] = Limit(LEFT * TOKEN, LEFT * TOKEN, 0)
        self.mirror.nodes.update({f"n{place}": 0 for place in range(NODES)})

    @property
    def now(self) -> float:
        return self.at / 1000

    def say(self, node: Any, fate: str) -> None:
        """One round of a node. What is late comes after whatever is said next."""
        self.attempt(node, fate)
        if fate != "late":
            self.arrive()

    def attempt(self, node: Any, fate: str, *, telling: bool = False) -> None:
        """One round of a node. What is late comes with `arrive`."""
        call = node.call(self.now, telling=telling)
        if fate == "late":
            self.late.append(call)
            return
        answer = None if fate == "lost" else self.mirror.call(call)
        if answer is not None and fate == "answered":
            node.answered(answer, self.now)

    def arrive(self) -> None:
        for waiting in self.late:
            self.mirror.call(waiting)
        self.late.clear()


def buckets(redis: Redis) -> list[SharedBucket]:
    made = [SharedBucket("k", f"n{place}", LIMIT, lambda _: None) for place in range(NODES)]
    for place, bucket in enumerate(made):
        bucket.share = Share(place, NODES)
    return made


def want(redis: Redis, bucket: SharedBucket, much: int) -> None:
    """Ask for it, take it, and be idle until the next."""
    if not bucket.can_take(much, redis.now):
        redis.say(bucket, "answered")
    bucket.take(much, redis.now)
    bucket.used_at = -math.inf
    redis.say(bucket, FATES[much % len(FATES)])


def end(redis: Redis, made: Sequence[Any]) -> None:
    """All come back, are idle, and give back what they have."""
    for _ in range(3):
        redis.at += 5000
        for node in made:
            node.keeps = False
            redis.say(node, "answered")


@settings(max_examples=examples(100), deadline=None)
@given(steps=steps)
def test_no_more_is_taken_than_one_bucket_would_give_and_nothing_is_lost(
    steps: list[tuple[str, int, int]],
) -> None:
    redis = Redis()
    made = buckets(redis)
    reserved: list[list[int]] = [[] for _ in made]
    for what, which, much in steps:
        match what:
            case "wait":
                redis.at += which
            case "take":
                if made[which].take(much, redis.now):
                    reserved[which].append(much)
            case "want":
                want(redis, made[which], much)
            case "settle" if reserved[which]:
                taken = reserved[which].pop()
                made[which].settle(taken, min(much, taken), redis.now)
            case "round":
                redis.say(made[which], FATES[much])
            case _:
                pass  # without Redis nodes refill by themselves: the next test
        assert sum(bucket.used for bucket in made) <= LEFT + LIMIT * redis.now / 60
    end(redis, made)
    kept = redis.mirror.limits["k"]
    assert sum(granted for granted, _ in kept.nodes.values()) == sum(bucket.used for bucket in made)


@settings(max_examples=examples(100), deadline=None)
@given(steps=steps)
def test_what_is_used_without_redis_is_fair_shares_and_told_in_the_end(steps: list[tuple[str, int, int]]) -> None:
    redis = Redis()
    made = buckets(redis)
    lost, before, since = False, 0, 0.0
    for what, which, much in steps:
        match what:
            case "wait":
                redis.at += which
            case "take":
                made[which].take(much, redis.now)
            case "want" if not lost:
                want(redis, made[which], much)
            case "round" if not lost:
                redis.say(made[which], FATES[much])
            case "lose" if not lost:
                lost, before, since = True, sum(max(bucket.granted, bucket.used) for bucket in made), redis.now
                for place, bucket in enumerate(made):
                    bucket.lose(Share(place, NODES), redis.now, redis.now)
            case _:
                pass
        if lost:
            refilled = LIMIT * (redis.now - since) / 60
            assert sum(bucket.used for bucket in made) <= before + refilled
    end(redis, made)
    kept = redis.mirror.limits["k"]
    assert sum(granted for granted, _ in kept.nodes.values()) == sum(bucket.used for bucket in made)


@settings(max_examples=examples(100), deadline=None)
@given(steps=steps)
def test_a_budget_is_not_exceeded_and_what_is_spent_is_counted_once(steps: list[tuple[str, int, int]]) -> None:
    redis = Redis()
    made: list[SharedPurse] = []
    for place in range(NODES):
        purse = Purse(PurseKey("all", "", "day"), 0.0, 86_400.0)
        lease = SharedPurse(
            purse,
            key="k",
            nodes="nodes",
            node=f"n{place}.1",
            ask=lambda _: None,
            known=lambda: True,
            store=lambda: "",
            clock=lambda: redis.now,
            wall=lambda: redis.now,
        )
        lease.share = Share(place, NODES)
        lease.allow(BUDGET * MICRO)
        made.append(lease)
    promised: list[list[int]] = [[] for _ in made]
    for what, which, much in steps:
        lease, purse = made[which % NODES], made[which % NODES].purse
        amount = much * 20 * MICRO + much
        match what:
            case "wait":
                redis.at += which
            case "take":
                if purse.left(BUDGET * MICRO) >= amount:
                    purse.reserved += amount
                    lease.took(amount)
                    promised[which].append(amount)
                else:
                    lease.lacks(amount)
            case "want":
                lease.lacks(amount)
                redis.say(lease, FATES[much % len(FATES)])
            case "settle" if promised[which]:
                taken = promised[which].pop()
                cost = min(amount, taken)
                purse.reserved -= taken
                purse.spent += cost
                purse.own += cost
            case "round":
                redis.say(lease, FATES[much])
            case _:
                pass
        assert sum(each.purse.own + each.purse.promised for each in made) <= BUDGET * MICRO
    end(redis, made)
    kept = redis.mirror.purses["k"]
    own = sum(-(-each.purse.own // MICRO) for each in made)
    assert kept.spent == own
    assert kept.total == sum(each.used for each in made)
    end(redis, made)
    assert len({each.purse.spent // MICRO // 10 for each in made}) == 1


@attrs.define(eq=False)
class Ledger:
    """What the nodes with this store have saved."""

    name: str
    total: int = 0

    def save(self, purse: Purse) -> None:
        more = purse.ready
        self.total += more
        purse.is_kept(more)

    def look(self, purse: Purse) -> None:
        purse.kept = self.total


def lease_of(redis: Redis, place: int, ledger: Ledger) -> SharedPurse:
    lease = SharedPurse(
        Purse(PurseKey("all", "", "day"), 0.0, 86_400.0),
        key="k",
        nodes="nodes",
        node=f"n{place}.1",
        ask=lambda _: None,
        known=lambda: True,
        store=lambda: ledger.name,
        clock=lambda: redis.now,
        wall=lambda: redis.now,
    )
    lease.purse.lease = lease
    lease.share = Share(place, NODES)
    lease.allow(BUDGET * MICRO)
    return lease


WHAT = ("spend", "spend", "save", "save", "look", "look", "say", "say", "say", "go", "arrive", "flush", "kill")


@settings(max_examples=examples(150), deadline=None)
@given(
    owners=st.sampled_from([(0, 0, 0), (0, 1, 2), (0, 0, 1)]),
    steps=st.lists(st.tuples(st.sampled_from(WHAT), nodes, st.integers(0, len(FATES) - 1)), max_size=40),
)
def test_whichever_nodes_have_one_ledger_what_they_spend_is_counted_once_whatever_redis_loses(
    owners: tuple[int, ...], steps: list[tuple[str, int, int]]
) -> None:
    """Calls may reach Redis long after their node has given them up, and after others told what its ledger has. Of one
    that is killed what its ledger has is known where another has it too.
    """
    redis = Redis()
    ledgers = [Ledger(f"ledger {owner}") for owner in range(NODES)]
    made = [lease_of(redis, place, ledgers[owners[place]]) for place in range(NODES)]
    alive = dict(enumerate(made))
    for what, which, much in steps:
        if which in alive:
            step(redis, what, alive[which], ledgers[owners[which]], much)
        if what == "kill" and which:
            alive.pop(which, None)
    for what in ("arrive", "say", "save", "look", "say", "say"):
        for place, lease in alive.items():
            step(redis, what, lease, ledgers[owners[place]], 0)
    told = sum(lease.purse.own for lease in alive.values())
    kept = sum(made[dead].purse.sent for dead in {*range(NODES)} - {*alive} if owners[dead] == 0)
    spent = redis.mirror.purses["k"].spent
    assert (told + kept) // MICRO <= spent <= sum(each.purse.own for each in made) // MICRO
    assert {each.purse.spent for each in alive.values()} == {spent * MICRO}


def step(redis: Redis, what: str, lease: SharedPurse, ledger: Ledger, much: int) -> None:
    purse = lease.purse
    match what:
        case "spend":
            purse.spent += much * MICRO
            purse.own += much * MICRO
        case "save":
            ledger.save(purse)
        case "look":
            ledger.look(purse)
        case "go":
            lease.lose(lease.share, 0.0, redis.now)
        case "arrive":
            redis.arrive()
        case "flush":
            redis.mirror.purses.clear()
        case "say":
            redis.attempt(lease, FATES[much], telling=much == 1)
            if FATES[much] != "answered":
                lease.lose(lease.share, 0.0, redis.now)
        case _:
            pass


def test_a_call_that_reaches_redis_after_others_told_what_it_tells_is_counted_once() -> None:
    redis, ledger = Redis(), Ledger("one")
    one, other = (lease_of(redis, place, ledger) for place in range(2))
    step(redis, "spend", other, ledger, 5)
    step(redis, "say", other, ledger, FATES.index("late"))
    for what, lease in (("save", other), ("look", one), ("say", one)):
        step(redis, what, lease, ledger, 0)
    assert redis.mirror.purses["k"].spent == 5  # as the ledger told it
    redis.arrive()
    step(redis, "say", other, ledger, 0)
    assert redis.mirror.purses["k"].spent == 5
    step(redis, "say", one, ledger, 0)
    assert one.purse.spent == other.purse.spent == 5 * MICRO
