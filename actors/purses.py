"""What may be spent, what was, and what is promised: the pure part of budgets. Time is passed in, nothing waits.

Amounts are whole nano-dollars (10**-9 US dollars): a token of the cheapest models costs some, and sums are exact.
A `Purse` is what one caller, key, tag or group spends in one period; a budget is a limit on a purse, which may have
several.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import attrs
import msgspec

from infermux.database.budgets import Spent

from .purse import Claim, Purse, PurseKey, bounds
from .share import WHOLE, Share

if TYPE_CHECKING:
    from .shared_purse import SharedPurse

MOST_PURSES = 100_000  # callers choose their names, so what is remembered of them is bounded ...
OTHERS = "*"  # ... and whoever comes then shares a purse
SWEEP_EVERY = 60.0  # seconds, where there is no room
CLAIMS_KEPT = 4096
UNLIMITED = 2**52 * 1000  # nano-dollars: of a purse that has soft budgets only


class Held(msgspec.Struct, eq=False):
    """The purses that `of` are about, as they are until `until`, the first end of a period.

    `purses`: each once, however many budgets it has. `hard` and `soft` are the limits on them, the former each purse's
    lowest; `free` the purses without a hard one; `lowest` has for each its lowest limit of either kind.
    `noted` is the `Purses.changed` in which all of them are.
    """

    of: Sequence[Claim]
    claims: Sequence[tuple[Claim, Purse]]
    purses: Sequence[Purse]
    hard: Sequence[tuple[int, Purse]]
    free: Sequence[Purse]
    soft: Sequence[tuple[Claim, Purse]]
    lowest: Sequence[tuple[int, Purse]]
    until: float
    noted: dict[Purse, None] | None = None

    @classmethod
    def by(cls, of: Sequence[Claim], purses: Sequence[Purse]) -> Held:
        claims = list(zip(of, purses, strict=True))
        each = tuple(dict.fromkeys(purses))
        hard, lowest = _lowest(claim for claim in claims if claim[0].hard), _lowest(claims)
        return cls(
            of=of,
            claims=claims,
            purses=each,
            hard=tuple([(limit, purse) for purse, limit in hard.items()]),
            free=tuple([purse for purse in each if purse not in hard]),
            soft=[(claim, purse) for claim, purse in claims if not claim.hard],
            lowest=tuple([(limit, purse) for purse, limit in lowest.items()]),
            until=min([purse.end for purse in purses], default=-math.inf),
        )


class Ticket(msgspec.Struct, frozen=True):
    """A promise of `amount` to one request. It is settled once."""

    amount: int
    held: Held


@attrs.frozen
class Refused:
    """A hard budget has no room. `until` is when it may have, in seconds from now."""

    claim: Claim
    purse: Purse
    amount: int
    until: float


@attrs.define(eq=False)
class Purses:
    """All purses of the running periods. It outlives its actor: a crash must not refill a purse.

    `banked`: others are told of them, see `bank`; and who is the only one by now is told what is left, as before.
    `changed` are those whose amount was not taken by `take_changed` yet, also of periods that are over; `told` is
    called when there is a first one.
    """

    current: dict[PurseKey, Purse] = attrs.field(factory=dict[PurseKey, Purse])
    changed: dict[Purse, None] = attrs.field(factory=dict[Purse, None])
    most: int = MOST_PURSES
    share: Share = WHOLE
    lease: Callable[[Purse], SharedPurse] | None = None  # where nodes share them by way of Redis
    told: Callable[[], None] | None = None
    lowest: Callable[[PurseKey], int | None] | None = None  # the lowest hard limit on a purse, as budgets are now
    banked: bool = False
    moved: dict[Purse, None] = attrs.field(factory=dict[Purse, None])  # what others are to hear of, while it is shared
    _swept: float = -math.inf  # when that made hardly any room
    _kept: dict[int, Held] = attrs.field(factory=dict[int, Held], repr=False)  # by the identity of `Held.of`

    @property
    def is_shared(self) -> bool:
        """Others may spend of them too."""
        return self.banked or not self.share.is_whole

    def purse(self, key: PurseKey, at: float) -> Purse:
        """The purse of the period in which `at` lies. A clock that goes backwards stays in the period it was in."""
        found = self.current.get(key)
        if found is None:
            if len(self.current) >= self.most and key.name != OTHERS:
                if abs(at - self._swept) >= SWEEP_EVERY:
                    self._sweep(at)
                if len(self.current) >= self.most:
                    return self.purse(key._replace(name=OTHERS), at)
        elif at < found.end:
            return found
        start, end = bounds(key.period, at)
        found = self.current[key] = Purse(key, start, end)
        return found

    def _sweep(self, at: float) -> None:
        """Forget purses that say nothing: of a period that is over, or in which nothing was spent.

        To look through all of them takes its time: where there are few such, not for everybody who comes.
        """
        before = len(self.current)
        self.current = {
            key: purse for key, purse in self.current.items() if at < purse.end and (purse.spent or purse.promised)
        }
        if before - len(self.current) < self.most // 100:
            self._swept = at
        self._kept.clear()

    def _hold(self, claims: Sequence[Claim], at: float) -> Held:
        """The purses of `claims`: kept for a tuple, which nobody can change, while they are the current ones."""
        kept = self._kept.get(id(claims))
        if kept is not None and kept.of is claims and at < kept.until:
            return kept
        current = self.current
        held = Held.by(claims, [self.purse(claim.key, at) for claim in claims])
        if self.lease is not None:
            self._lease(held, self.lease)
        elif self.is_shared:
            self._divide(held)
        if isinstance(claims, tuple) and self.current is current:
            if len(self._kept) >= CLAIMS_KEPT:
                self._kept.clear()
            self._kept[id(claims)] = held
        return held

    def reserve(self, claims: Sequence[Claim], amount: int, at: float) -> Ticket | Refused:
        """Promise `amount` out of every purse that is claimed, or out of none where a hard budget has no room."""
        held = self._hold(claims, at)
        least = amount or 1  # see `_is_over`
        for limit, purse in held.hard:
            reserved = purse.reserved
            if limit - purse.spent - reserved < least:
                return self._refuse(held, purse, amount, at)
            purse.reserved = reserved + amount
        for purse in held.free:
            purse.reserved += amount
        if self.lease is not None:
            for purse in held.purses:
                if purse.lease is not None:
                    purse.lease.took(amount)
        return Ticket(amount, held)

    def _refuse(self, held: Held, full: Purse, amount: int, at: float) -> Ticket | Refused:
        """`full` has no room: what the purses before it were to promise is taken back. Asking for more may bring it."""
        for _, purse in held.hard:
            if purse is full:
                break
            purse.reserved -= amount
        if full.elsewhere:  # others may have more than they need
            self.moved[full] = None
        self._lack(held, amount)
        refused = _refused(held.claims, amount, at)
        return self.reserve(held.of, amount, at) if refused is None else refused  # it was learned that Redis is gone

    def taken(self, claims: Sequence[Claim], at: float) -> Ticket:
        """For what is spent whatever room there is: a promise of nothing."""
        return Ticket(0, self._hold(claims, at))

    def settle(self, ticket: Ticket, amount: int, *, unpriced: bool = False) -> Sequence[tuple[Claim, Purse]]:
        """In the place of what was promised, `amount` was spent; in the period in which it was promised.

        Returns the budgets that this used up.
        """
        promised, held, is_over = ticket.amount, ticket.held, False
        for limit, purse in held.lowest:
            purse.reserved -= promised
            purse.spent = spent = purse.spent + amount
            purse.own += amount
            if spent >= limit:
                is_over = True
        if amount and held.noted is not self.changed:
            self._note(held)
        if unpriced:
            for purse in held.purses:
                purse.unpriced += 1
        if self.banked or (self.share is not WHOLE and not self.share.is_whole):
            self.moved.update(dict.fromkeys(held.purses))
        return _crossed(held) if is_over else ()

    def _note(self, held: Held) -> None:
        """The purses have changed, and may until they are taken."""
        if not self.changed:
            self._tell()
        held.noted = self.changed
        self.changed.update(dict.fromkeys(held.purses))

    def adopt_share(self, share: Share) -> None:
        """Our part of what is left is another one from now on.

        Where it was shared before, it shrinks at most: others may have spent what we do not know of.
        """
        shared, self.share = self.is_shared, share
        self._kept.clear()
        for purse in self.current.values():
            former = purse.elsewhere
            if not self.is_shared:
                purse.limit = None
                purse.leave(0)
            elif purse.limit is not None:
                purse.claim(share)
                purse.leave(max(purse.elsewhere, former if shared else 0))
                self.moved[purse] = None

    def _divide(self, held: Held) -> None:
        for limit, purse in held.hard:
            if purse.limit != limit:
                purse.divide(limit, self.share)
                self.moved[purse] = None

    def adopt_limits(self) -> None:
        """Budgets have changed: where no request comes that limits are still to be the new ones, for the others."""
        if self.lowest is None or self.lease is not None or not self.is_shared:
            return
        for purse in self.current.values():
            limit = self.lowest(purse.key)
            if purse.limit is None or purse.limit == limit or purse.key.name == OTHERS:
                continue
            if limit is None:
                purse.limit = None
                purse.leave(0)
            else:
                purse.divide(limit, self.share)
            self.moved[purse] = None

    def take_moved(self) -> tuple[Purse, ...]:
        """Those that others are to hear of; `moved` is empty then."""
        taken, self.moved = self.moved, {}
        return tuple(taken)

    def _lease(self, held: Held, lease: Callable[[Purse], SharedPurse]) -> None:
        lowest = {purse: limit for limit, purse in held.hard}
        for purse in held.purses:
            if purse.lease is None:
                purse.lease = lease(purse)
            purse.lease.allow(lowest.get(purse, UNLIMITED))

    def _lack(self, held: Held, amount: int) -> None:
        """A budget has no room on this node: it may have where it is shared."""
        for limit, purse in held.hard:
            if purse.lease is not None and _is_over(purse.left(limit), amount):
                purse.lease.lacks(amount)

    def take_changed(self) -> tuple[Purse, ...]:
        """Those whose amount is to be kept; `changed` is empty then. What cannot be kept goes back into it."""
        taken, self.changed = self.changed, {}
        return tuple(taken)

    def sends(self, purses: Iterable[Purse]) -> None:
        """What these have is on its way to the store: others may see it there from now on, and need to hear of it."""
        for purse in purses:
            purse.sending = purse.ready
            if self.is_shared:
                self.moved[purse] = None

    def hold_back(self, purses: Iterable[Purse], *, ends: bool = False) -> None:
        """What of these Redis has to hear of first is told to it, and kept later; not where it `ends`."""
        for purse in purses:
            if purse.lease is not None and ends:
                purse.lease.leave()
            elif purse.lease is not None and purse.ready < purse.unsent:
                self.changed[purse] = None
                purse.lease.ask(purse.lease)

    def restore(self, rows: Iterable[Spent], at: float, *, adding: bool) -> None:
        """What was kept of the running periods. `adding`: all that we have spent came later, and is not in it.

        What more a purse has than both, others have told, who keep it themselves.
        """
        for row in rows:
            purse = self.purse(PurseKey(row.scope, row.name, row.period), at)
            if int(purse.start) != row.start:
                continue
            kept = row.amount if adding else row.amount - purse.unsent
            if adding and purse.key.name == OTHERS:
                kept += purse.kept  # one after the other
            more = kept + purse.unsent - purse.spent
            purse.kept = max(purse.kept, kept)
            if more > 0:
                purse.spent += more
                self.changed[purse] = None
                self._tell()
            self._shrink(purse, max(more, 0))

    def _shrink(self, purse: Purse, more: int) -> None:
        """So much more was spent before: ours is our part of what is left, unless it is less already."""
        if self.is_shared:
            former = purse.elsewhere - more
            purse.claim(self.share)
            purse.leave(max(purse.elsewhere, former))
            self.moved[purse] = None

    def catch_up(self, rows: Iterable[Spent], at: float) -> None:
        """The store has these amounts now, with all that we have sent; what is more than before, others spent."""
        for row in rows:
            purse = self.purse(PurseKey(row.scope, row.name, row.period), at)
            if purse.key.name == row.name and int(purse.start) == row.start:
                if row.amount > purse.kept:
                    purse.kept = row.amount
                    if self.is_shared:
                        self.moved[purse] = None
                more = row.amount + purse.unsent - purse.spent
                if more > 0:
                    purse.spent += more
                    purse.leave(max(purse.elsewhere - more, 0))
                if purse.lease is not None:
                    purse.lease.looked()

    def _tell(self) -> None:
        if self.told is not None:
            self.told()


def _lowest(claims: Iterable[tuple[Claim, Purse]]) -> dict[Purse, int]:
    """The lowest limit of each purse."""
    lowest: dict[Purse, int] = {}
    for claim, purse in claims:
        lowest[purse] = min(claim.limit, lowest.get(purse, claim.limit))
    return lowest


def _crossed(held: Held) -> list[tuple[Claim, Purse]]:
    """The budgets that are used up, of which nobody was told yet."""
    return [(claim, purse) for claim, purse in held.claims if purse.crossed(claim.limit)]


def _refused(held: Sequence[tuple[Claim, Purse]], amount: int, at: float) -> Refused | None:
    """The one of the budgets without room that has it last; None: all have it."""
    full = [each for each in held if each[0].hard and _is_over(each[1].left(each[0].limit), amount)]
    refused = [Refused(claim, purse, amount, _until(claim, purse, amount, at)) for claim, purse in full]
    return max(refused, key=lambda each: each.until, default=None)


def _is_over(left: int, amount: int) -> bool:
    """A budget that is used up has no room even for what costs nothing: what it will cost is an estimate."""
    return left <= 0 or amount > left


def _until(claim: Claim, purse: Purse, amount: int, at: float) -> float:
    """Where requests under way hold what is missing, it may come back when they end; otherwise with the next period."""
    return 1.0 if not _is_over(claim.limit - purse.spent, amount) else max(1.0, math.ceil(purse.end - at))
