"""What this node has of the limits that nodes share, and what it asks Redis for: the synchronous part.

Nothing here waits for Redis: rounds of calls are made and their answers taken. While there are no answers, every limit
is held by this node's fair share of it.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Protocol

import attrs
import trio

from infermux.shared.scripts import VERSION, Call

from .purse import Purse
from .share import WHOLE, Share
from .shared_bucket import SharedBucket
from .shared_purse import SharedPurse

log = logging.getLogger("infermux.state")

BEAT_EVERY: Final = 1.0  # seconds
NODE_GONE_AFTER: Final = 5.0  # seconds without a heartbeat
FORGET_AFTER: Final = 600.0  # seconds after which a limit that nobody uses keeps nothing
BEATS_UNTIL_KNOWN: Final = 3  # heartbeats after which every other node has seen one that is new
FEW: Final = 64  # limits that are looked through with each round, whether one of them can go along
PER_ROUND: Final = 256  # limits that are spoken of at a time
LOOKED_AT: Final = 500  # limits that are looked at with a heartbeat
REQUEST_WAITS: Final = 0.005  # seconds a request waits for what was asked for, at most
TOKENS_OF_REQUEST: Final = 2000.0  # that a request takes, as long as nobody knows
NOT_YET: Final = "not reached yet"


class Leased(Protocol):
    """A limit that is shared, or a budget: what of it is this node's. All times are trio's.

    `number` counts the rounds it took part in, `held` is granted and not used. `keeps`: it may keep a little while it
    is not used, which it was at `used_at` last; `ahead`: it always may. `next_at` is when it may be spoken of again.
    """

    share: Share
    number: int
    keeps: bool
    ahead: bool
    used_at: float
    next_at: float

    @property
    def held(self) -> int: ...

    def is_due(self, now: float) -> bool:
        """Whether there is something to tell or to ask."""
        ...

    def is_low(self, now: float) -> bool:
        """Whether it can go along with others that are asked for."""
        ...

    def call(self, now: float, *, telling: bool = False) -> Call:
        """What Redis is told and asked. `telling`: only told; it goes on by its part of the whole."""
        ...

    def answered(self, answer: Sequence[int], now: float) -> bool:
        """The answer to the last call. Returns whether Redis had lost something that was written back."""
        ...

    def lose(self, share: Share, since: float, now: float) -> None:
        """Redis is gone since then: go on by this part. Idempotent."""
        ...


def _ignore(share: Share) -> None:
    """Nothing is dealt by parts."""


def _never() -> bool:
    return False


def _nobody() -> None:
    """Nobody waits."""


def _has_news(leased: Leased) -> bool:
    """Redis was told of it before, or something was used of it without Redis."""
    return leased.number > 0 or leased.held < 0


@attrs.define(eq=False)
class Numbers:
    """For the metrics and the status."""

    rounds: int = 0
    calls: int = 0
    failures: int = 0  # rounds without an answer
    outages: int = 0
    written_back: int = 0  # limits that Redis had lost
    slowest: float = 0.0  # seconds a round took, in this minute or so


@attrs.define(eq=False, kw_only=True)
class Supply:
    """The shared limits of one node. `prefix` begins the keys; `node` is this process's name, another with each start.

    `lost_at`: since when Redis is gone, on trio's clock. A node begins without it, and with nothing: starting anew
    refills no limit. `share`: what this node may go on with then. `trouble` is why, in words.
    """

    prefix: str
    node: str = attrs.field(factory=lambda: secrets.token_hex(6))
    numbers: Numbers = attrs.field(factory=Numbers)
    share: Share = WHOLE
    place: str = ""
    dealt: Callable[[Share], None] = _ignore  # told which part of what may run at once is ours
    last_dealt: Share = WHOLE
    is_over: Callable[[], bool] = _never  # whether more runs at once than that
    under_way: Callable[[], int] | None = None  # we are about to end, and no more than so many will run at once
    lost_at: float | None = attrs.field(factory=trio.current_time)
    trouble: str = NOT_YET
    heard: trio.Event = attrs.field(factory=trio.Event)  # once Redis has answered, or said that it does not
    wanted: trio.Event = attrs.field(factory=trio.Event)
    answered: trio.Event = attrs.field(factory=trio.Event)
    epoch: str = ""
    news: int = 0  # the number of the last news that Redis has
    clock_ahead: float = 0.0  # seconds that Redis's clock is ahead of trio's
    _active: dict[Leased, None] = attrs.field(factory=dict[Leased, None])  # that hold or want something
    _pending: dict[Leased, None] = attrs.field(factory=dict[Leased, None])
    _beat_at: float = 0.0
    _made: int = 0
    _beats: int = 0
    _beats_here: int = 0  # since Redis came
    _is_late: bool = True

    @property
    def is_degraded(self) -> bool:
        return self.lost_at is not None

    @property
    def has_used(self) -> bool:
        """Whether Redis was there before, and limits were in use."""
        return any(map(_has_news, self._active))

    def key(self, *parts: str) -> str:
        return ":".join((self.prefix, VERSION, *parts))

    def as_json(self) -> dict[str, Any]:
        """For the status."""
        numbers = self.numbers
        return {
            "place": self.place,
            "degraded": self.is_degraded,
            "trouble": self.trouble if self.is_degraded else None,
            "node": self.node,
            "nodes": self.share.of,
            "rounds": numbers.rounds,
            "failures": numbers.failures,
            "outages": numbers.outages,
            "written_back": numbers.written_back,
        }

    # Limits.

    def bucket(self, limit_per_minute: int, *parts: str, unit: float = 1.0) -> SharedBucket:
        """A bucket of the limit of that name. Redis takes each for a node of its own."""
        self._made += 1
        made = SharedBucket(self.key("limit", *parts), f"{self.node}.{self._made}", limit_per_minute, self.ask, unit)
        made.share = self.share
        return made

    def purse(self, purse: Purse, known: Callable[[], bool], store: Callable[[], str]) -> SharedPurse:
        """The lease on a purse, once `known`: that what was spent of it before is in it, as `store` has it."""
        self._made += 1
        key = self.key("purse", *purse.key, str(int(purse.start)))
        made = SharedPurse(
            purse,
            key=key,
            nodes=self.key("nodes"),
            node=f"{self.node}.{self._made}",
            ask=self.ask,
            known=known,
            store=store,
            clock=trio.current_time,
        )
        made.share = self.share
        return made

    def of_provider(self, name: str, supplied: Callable[[], None]) -> Limits:
        """The limits of a provider. `supplied` is told when what was lacking may be there. They are filled ahead."""
        return Limits(self, ("provider", name), supplied, ahead=True)

    def of_key(self, key: str) -> Limits:
        """The limits of a key, filled once it is used."""
        return Limits(self, ("key", key))

    def ask(self, bucket: Leased) -> None:
        """There is something to ask for `bucket`."""
        if bucket in self._pending:
            return
        self._pending[bucket] = None
        if bucket not in self._active:
            self._active[bucket], bucket.share = None, self.share
            if self.lost_at is not None:
                bucket.lose(self.share, self.lost_at, trio.current_time())
        self.wanted.set()

    async def coming(self, deadline: float) -> bool:
        """Wait for the next answer; False: there is none before `deadline`, or nobody to give it."""
        if self.lost_at is not None:
            return False
        with trio.CancelScope(deadline=deadline):
            await self.answered.wait()
            return self.lost_at is None
        return False

    async def filled(self) -> None:
        """Wait until all that was asked for has been answered, or there is nobody who answers."""
        while self.lost_at is None and self._pending:
            await self.answered.wait()

    # Rounds.

    def next_at(self) -> float:
        """When the next round is due."""
        return min([self._beat_at, *(bucket.next_at for bucket in self._pending)])

    def round(self, now: float) -> tuple[list[Call], list[Leased]]:
        """What Redis is to be told and asked now: the calls of these buckets and, last, the heartbeat if it is due."""
        beats = now >= self._beat_at
        if beats:
            self._look(now)
        due: list[Leased] = []
        for bucket in [each for each in self._pending if now >= each.next_at][:PER_ROUND]:
            del self._pending[bucket]
            if bucket.is_due(now):
                due.append(bucket)
        if due and len(self._active) <= FEW:
            due.extend(each for each in self._active if each not in due and each.is_low(now))
        calls = [each.call(now) for each in due]
        if beats:
            self._beat_at = now + BEAT_EVERY
            calls.append(self._beat(leaves=False))
        return calls, due

    def _beat(self, *, leaves: bool) -> Call:
        keys = (self.key("nodes"), self.key("epoch"), self.key("news", "number"))
        gone, epoch = round(NODE_GONE_AFTER * 1000), f"{self.node}.{self._beats}"
        self._let_go()
        ours = self.last_dealt
        ends = "" if ours.most is None else f"{ours.index} {ours.of} {ours.most}"
        return Call("beat", keys, (self.node, gone, epoch, int(leaves), int(self.is_over()), ends))

    def leave(self, under_way: Callable[[], int]) -> None:
        """We are about to end: what requests under way do not need of what may run at once goes to the others."""
        self.under_way = under_way
        self._beat_at = 0.0
        self.wanted.set()

    def _let_go(self) -> None:
        """Before the others hear of it, what they may have is not used here any more."""
        if self.under_way is None:
            return
        most, former = self.under_way(), self.last_dealt.most
        if former is None or most < former:
            self.last_dealt = attrs.evolve(self.last_dealt, most=most)
            self.dealt(self.last_dealt)

    def _look(self, now: float) -> None:
        """Some of the limits that nobody asked for may have something to give back. Those without are left alone."""
        for bucket in list(islice(self._active, LOOKED_AT)):
            del self._active[bucket]
            bucket.keeps = bucket.ahead or now - bucket.used_at < FORGET_AFTER
            if bucket.is_due(now):
                self._pending[bucket] = None
            if bucket.held or bucket.keeps or bucket in self._pending:
                self._active[bucket] = None

    def take(self, calls: Sequence[Call], buckets: Sequence[Leased], answers: Sequence[Any], began: float) -> None:
        """The answers to a round that began at that time. Redis is there."""
        now, numbers = trio.current_time(), self.numbers
        numbers.rounds += 1
        numbers.calls += len(calls)
        numbers.slowest = max(numbers.slowest * 0.99, now - began)
        written_back = 0
        for bucket, answer in zip(buckets, answers, strict=False):
            written_back += bucket.answered(answer, now)
        numbers.written_back += written_back
        if written_back:
            log.warning("Redis had lost what it knew of %d limits; it was written back", written_back)
        if len(answers) > len(buckets):
            self._heard(answers[-1], now)
        self._announce()

    def _heard(self, answer: Sequence[Any], now: float) -> None:
        at, self.epoch, self.news, others_over, *nodes = answer
        self.clock_ahead = at / 1000 - now
        there = {name: ends for name, _, ends in (str(each).partition(" ") for each in nodes)}
        names = sorted(there)
        share = Share(names.index(self.node) if self.node in names else 0, max(1, len(names)))
        self._beats += 1
        if share != self.share:
            self.share = share
            for bucket in self._active:
                bucket.share = share
        # Those who were here before us hold all that may run at once, until they have seen us and have let go of it.
        self._is_late = self._is_late and share.of > 1 and (self._beats <= BEATS_UNTIL_KNOWN or bool(others_over))
        self._beats_here += 1
        if self.last_dealt.most is not None:
            return  # we keep what we had, and let go of that
        dealt = self._slots(there)
        if self._beats_here <= BEATS_UNTIL_KNOWN and share.of < self.last_dealt.of + len(self.last_dealt.leaving):
            return  # the others are about to be heard of
        if dealt != self.last_dealt:
            self.last_dealt = dealt
            self.dealt(dealt)

    def _slots(self, there: Mapping[str, str]) -> Share:
        """Our part of what may run at once: of what those who are about to end have no need of any more."""
        staying = sorted(name for name, ends in there.items() if not ends or name == self.node)
        leaving = sorted(tuple(map(int, ends.split())) for name, ends in there.items() if ends and name != self.node)
        return Share(
            staying.index(self.node) if self.node in staying else 0,
            max(1, len(staying)),
            self._is_late,
            leaving=tuple(Share(index, of, most=most) for index, of, most in leaving),
        )

    def farewell(self, now: float) -> list[Call]:
        """The last round: what is not used goes back."""
        calls: list[Call] = []
        for bucket in self._active:
            if bucket.number:
                bucket.keeps, bucket.used_at = False, -math.inf
                calls.append(bucket.call(now))
        return [*calls, self._beat(leaves=True)]

    # Redis goes and comes.

    def lose(self, why: str) -> bool:
        """Redis is gone: go on by fair shares. Returns whether that is news: it was there, or never asked before."""
        first, self.trouble = self.trouble == NOT_YET, why
        self.heard.set()
        self._is_late = False
        if self.last_dealt.late:  # for as long as Redis is gone nobody would say that others have let go
            self.last_dealt = attrs.evolve(self.last_dealt, late=False)
            self.dealt(self.last_dealt)
        now = trio.current_time()
        is_news, since = self.lost_at is None, now if self.lost_at is None else self.lost_at
        self.lost_at = since
        for bucket in self._active:
            bucket.lose(self.share, since, now)
        if is_news:
            self.numbers.outages += 1
            self._announce()
        return is_news or first

    def _announce(self) -> None:
        self.heard.set()
        self.answered.set()
        self.answered = trio.Event()

    def account(self, now: float) -> tuple[list[Call], list[Leased]]:
        """What is used is told, and nothing asked for."""
        active = [each for each in self._active if _has_news(each)]
        return [*(each.call(now, telling=True) for each in active), self._beat(leaves=False)], active

    def find(self) -> None:
        """Redis is there: every limit tells what was used meanwhile, and goes on by what it is granted."""
        self._beat_at, self._beats_here = 0.0, 0
        for bucket in self._active:
            bucket.next_at = 0.0
            self._pending[bucket] = None


@attrs.frozen
class Limits:
    """Makes the buckets of one provider or key; see `bucket.Buckets`."""

    supply: Supply
    name: tuple[str, ...]
    supplied: Callable[[], None] = _nobody
    ahead: bool = False

    def requests(self, limit_per_minute: int) -> SharedBucket:
        return self._ready(self.supply.bucket(limit_per_minute, *self.name, "requests"))

    def tokens(self, limit_per_minute: int) -> SharedBucket:
        unit = min(TOKENS_OF_REQUEST, limit_per_minute / 4)
        return self._ready(self.supply.bucket(limit_per_minute, *self.name, "tokens", unit=unit))

    def _ready(self, bucket: SharedBucket) -> SharedBucket:
        bucket.supplied = self.supplied
        if self.ahead:
            bucket.fill()
        return bucket
