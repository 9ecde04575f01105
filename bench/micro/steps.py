"""The pure steps of a provider's gate and of the books: each is taken once or twice a request."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count
from typing import Final

from infermux.actors.averages import Averages
from infermux.actors.breaker import Breaker
from infermux.actors.bucket import TokenBucket
from infermux.actors.budget_rules import Rules
from infermux.actors.identity import Identity
from infermux.actors.key_limits import KeyLimits, Overrun
from infermux.actors.key_table import KeyTable, Known
from infermux.actors.ledger import Ledger, Numbered
from infermux.actors.purse import nano
from infermux.actors.purses import Purses, Refused
from infermux.actors.record import Record, Tried
from infermux.bench.callers import MODEL
from infermux.config.settings import Budget, CircuitBreaker, Config
from infermux.http.access import HostRule
from infermux.http.exchange import Head
from infermux.keys import Allowance, KeyBudget, new_key
from infermux.providers.interface import Usage

from .case import Act, plain

USAGE: Final = Usage(prompt_tokens=350, completion_tokens=48)
ALLOWS: Final = Allowance(
    models=("bench-*",),
    requests_per_minute=1_000_000_000,
    tokens_per_minute=1_000_000_000_000,
    max_concurrent=10_000,
    budget=KeyBudget(limit_usd=1e6, period="month"),
)
"""Everything a key can be bound by, and never is here."""


def _bucket() -> Act:
    """One request of a bucket: is there room, take it, settle it."""
    bucket, clock = TokenBucket(1_000_000_000), count(1)

    def act() -> None:
        now = next(clock) * 0.001
        if bucket.can_take(600, now) and bucket.take(600, now):
            bucket.settle(600, 400, now + 0.0005)

    return act


def _breaker() -> Act:
    """One request of a closed circuit."""
    breaker, clock = Breaker(CircuitBreaker()), count(1)

    def act() -> None:
        now = next(clock) * 0.001
        breaker.record_success(now, 0.5, epoch=breaker.admit(now).epoch)

    return act


def _averages() -> Act:
    averages = Averages()
    return lambda: averages.observe(MODEL, 0.5, 0.1, 0.1)


def _admission() -> Act:
    """The Host, the key of `auth.mode: keys` among a thousand, and its limits."""
    table = KeyTable()
    made = [new_key(name=f"team-{at}", allows=ALLOWS, now=time.time()) for at in range(1000)]
    table.adopt([stored for _, stored in made], 0.0)
    key = made[500][0].reveal().encode()
    rule, clock, wall = HostRule.made(Config(), ["127.0.0.1"]), count(1), time.time()

    def act() -> None:
        head = Head(b"POST", b"/v1/chat/completions", b"", [(b"host", b"localhost"), (b"authorization", key)])
        rule.check(head)
        known: Known = table.find(key, wall)
        limits: KeyLimits = known.limits
        now = next(clock) * 0.001
        reserved = limits.admit(600, now)
        if not isinstance(reserved, Overrun):
            limits.settle(reserved, 400, now)

    return act


def _purses() -> Act:
    """Three budgets: what a request may cost is promised, and what it has cost is settled."""
    budgets = (Budget(limit_usd=1e6, period="month"), Budget(caller="*", limit_usd=1e6, period="day"))
    own = Budget(key="k1", limit_usd=1e6, period="month")
    purses, rules, wall, who = Purses(), Rules(budgets), time.time(), Identity(caller="team", key="k1")
    amount = nano(0.003)

    def act() -> None:
        ticket = purses.reserve(rules.claims(who, "", own), amount, wall)
        if not isinstance(ticket, Refused):
            purses.settle(ticket, amount)

    return act


def record() -> Record:
    """A request as it usually ends."""
    tried = Tried(provider="p0", model=MODEL, started=0.0001, ended=0.5, status=200, usage=USAGE, cost=0.0013)
    return Record(
        id="req-1",
        at=time.time(),
        who=Identity(caller="team", key="k1"),
        endpoint="chat",
        requested=MODEL,
        strategy="round_robin",
        provider="p0",
        model=MODEL,
        attempts=(tried,),
        usage=USAGE,
        cost=0.0013,
        latency=0.5,
        overhead=0.0002,
    )


class _Away:
    """A shelf that is never asked."""

    async def open(self) -> None:
        pass

    async def keep(self, rows: Sequence[Numbered]) -> int:
        return len(rows)


def _ledger() -> Act:
    """A record is put into the queue, which is full: so it stays as long as it is."""
    ledger, ended = Ledger(_Away(), bound=512), record()
    return lambda: ledger.note(ended)


CASES: Final = (
    plain("bucket, taken and settled", _bucket),
    plain("breaker, admitted and succeeded", _breaker),
    plain("averages, observed", _averages),
    plain("admission by key, 1000 keys", _admission),
    plain("purses of 3 budgets, promised and settled", _purses),
    plain("ledger, record enqueued", _ledger),
)
