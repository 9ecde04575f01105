"""What one caller, key, tag or group spends in one period. Pure: time is passed in, nothing waits.

Amounts are whole nano-dollars (10**-9 US dollars): a token of the cheapest models costs some, and sums are exact.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import attrs

from infermux.config.settings import Budget
from infermux.config.values import MOST_DOLLARS
from infermux.database.budgets import MOST_NANO, NANO, Added

from .share import Share

if TYPE_CHECKING:
    from .shared_purse import SharedPurse

_DAY = timedelta(days=1)


def nano(dollars: float) -> int:
    """Dollars as nano-dollars, to the nearest; at most `MOST_DOLLARS`, so that a store can keep it."""
    return round((dollars if dollars < MOST_DOLLARS else MOST_DOLLARS) * NANO)  # noqa: FURB136 - a call more


def bounds(period: str, at: float) -> tuple[float, float]:
    """Begin and end of the day, week (from Monday) or month (UTC) in which `at` lies; seconds since 1970."""
    day = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match period:
        case "day":
            start, end = day, day + _DAY
        case "week":
            start = day - day.weekday() * _DAY
            end = start + 7 * _DAY
        case "month":
            start = day.replace(day=1)
            end = (start + 31 * _DAY).replace(day=1)
        case _:
            raise ValueError(f"{period!r} is not day, week or month")
    return start.timestamp(), end.timestamp()


class PurseKey(NamedTuple):
    """Whose money: `scope` is caller, key, tag, group or all, `name` who of them ("" for all)."""

    scope: str
    name: str
    period: str

    def __str__(self) -> str:
        whose = self.scope if self.scope == "all" else f"{self.scope}:{self.name}"
        return f"{whose}/{self.period}"

    @property
    def said(self) -> str:
        """For a sentence: those who name no caller have a word too."""
        return str(self) if self.name or self.scope == "all" else f"{self.scope} (unnamed)/{self.period}"


class Claim(NamedTuple):
    """A budget that a request is under, and the purse it is about. `limit` in nano-dollars."""

    budget: Budget
    key: PurseKey
    limit: int
    hard: bool

    @classmethod
    def of(cls, budget: Budget, scope: str, name: str) -> Claim:
        return cls(budget, PurseKey(scope, name, budget.period), nano(budget.limit_usd), budget.hard)


@attrs.define(eq=False)
class Purse:
    """One period of a purse. `unpriced` counts answers whose price nobody knows: they are in no amount.

    `spent` is by everybody, as far as is known here, and `own` the part of it that we have spent since we run. The
    store has `kept` of what all have, and `sent` of our own; `sending` is on its way there. `reserved` has our promises
    and `elsewhere`: what others who share the purse may spend beyond what is known of them, out of the room below
    `limit`, its lowest hard limit (None: there is none, or nobody else).
    """

    key: PurseKey
    start: float
    end: float
    spent: int = 0
    reserved: int = 0
    unpriced: int = 0
    own: int = 0
    kept: int = 0
    sent: int = 0
    sending: int = 0
    elsewhere: int = 0
    lease: SharedPurse | None = None
    limit: int | None = None
    _told: set[int] = attrs.field(factory=set[int])  # limits whose crossing was told

    @property
    def row(self) -> Added:
        """What is to be kept of it now: what others have spent, they tell themselves."""
        more = self.ready
        return Added(*self.key, int(self.start), min(more, MOST_NANO), min(self.kept + more, MOST_NANO))

    @property
    def unsent(self) -> int:
        """What we have spent and the store does not have, as far as is known."""
        return self.own - self.sent

    @property
    def ready(self) -> int:
        """How much of that it may be given now: the rest is to be told to Redis first."""
        return self.unsent if self.lease is None else max(self.lease.may_keep() - self.sent, 0)

    def is_kept(self, more: int) -> None:
        """The store has so much more of our own."""
        self.sent += more
        self.kept += more
        self.sending = 0

    @property
    def theirs(self) -> int:
        """What the store has of all but us, as last seen."""
        return self.kept - self.sent

    def left(self, limit: int) -> int:
        """What may still be promised; below zero where more was spent."""
        return limit - self.spent - self.reserved

    @property
    def promised(self) -> int:
        """What we have promised."""
        return self.reserved - self.elsewhere

    @property
    def cap(self) -> int:
        """What we may at most have spent and promised, all in all, as things stand."""
        return (self.limit or 0) - (self.spent - self.own) - self.elsewhere

    def leave(self, elsewhere: int) -> None:
        """So much belongs to others."""
        self.reserved += elsewhere - self.elsewhere
        self.elsewhere = elsewhere

    def divide(self, limit: int, share: Share) -> None:
        """`limit` is its lowest hard one. Of room that is new our part is ours; of room that is gone, all is."""
        if self.limit is None:
            self.limit = limit
            self.claim(share)
        elif limit != self.limit:
            more = max(limit - self.limit, 0)
            self.limit = limit
            self.leave(self.elsewhere + more - share.part(more))

    def claim(self, share: Share) -> None:
        """Ours is our part of what nobody else has spent: less of it what we have spent ourselves."""
        if self.limit is not None:
            left = max(self.limit - self.spent, 0)
            ours = share.part(left + self.own) - self.own if not share.late else 0
            self.leave(left - max(ours, 0))

    def crossed(self, limit: int) -> bool:
        """Whether `limit` is used up and nobody was told yet."""
        if self.spent < limit or limit in self._told:
            return False
        self._told.add(limit)
        return True
