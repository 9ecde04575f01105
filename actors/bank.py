"""Budgets of several workers: who may spend how much of what is left, and what all of them have spent.

Pure state in the process that leads. Each worker tells at its every turn what it has spent and promised of the purses
that have moved, and is told what everybody has spent and its cap: what it may at most have spent and promised itself,
all in all. A cap is raised only by what is free, and counts as given from then on; one that is to fall counts until
the worker says that it has. So spent and caps together never exceed the limit, whoever is slow to hear of it:

    spent by all + sum over workers (cap - own) <= limit

What a worker spent after its last turn is lost with it if it is killed, as everything of the last half second is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from .purse import Purse, PurseKey, bounds
from .purses import Purses

KEPT_AFTER = 3600.0  # seconds a period is kept after its end: requests that began in it go on
FORGET_EVERY = 60.0


@attrs.frozen(kw_only=True)
class Account:
    """A purse, as one worker has it; see `Purse`. Amounts in nano-dollars, `start` in seconds since 1970.

    `stored` is the most that a database may have of what the worker has spent.
    """

    key: PurseKey
    start: int
    own: int
    promised: int
    spent: int
    stored: int
    theirs: int
    cap: int
    limit: int | None

    @classmethod
    def of(cls, purse: Purse) -> Account:
        return cls(
            key=purse.key,
            start=int(purse.start),
            own=purse.own,
            promised=purse.promised,
            spent=purse.spent,
            stored=purse.sent + purse.sending,
            theirs=purse.theirs,
            cap=purse.cap,
            limit=purse.limit,
        )


@attrs.frozen(kw_only=True)
class Grant:
    """What a worker is told of a purse: `spent` by all, at least; `others` by all but itself; its cap below `limit`."""

    key: PurseKey
    start: int
    spent: int
    others: int
    limit: int | None
    cap: int


@attrs.define(eq=False)
class _Line:
    """One purse. `changed` counts what others have to hear of.

    `gone` was spent by workers that have ended, `outside` before there were any and by other routers, at least: that is
    what a worker has seen in a database, less what the others have put there. How much that is, is known when each of
    them has had a turn after the one in which it was told: until then it is in `sights`, with the number of that turn.
    `seen` is the most that any worker knew of. The period ends at `end`.
    """

    end: float
    seen: int = 0
    outside: int = 0
    gone: int = 0
    changed: int = 0
    accounts: dict[int, Account] = attrs.field(factory=dict[int, Account])
    heard: dict[int, int] = attrs.field(factory=dict[int, int])
    sights: dict[int, tuple[int, int]] = attrs.field(factory=dict[int, tuple[int, int]])

    @property
    def limit(self) -> int | None:
        """The lowest that any of them goes by: while they reload they may differ."""
        return min((each.limit for each in self.accounts.values() if each.limit is not None), default=None)

    @property
    def own(self) -> int:
        """What the workers have spent themselves."""
        return self.gone + sum(each.own for each in self.accounts.values())

    @property
    def spent(self) -> int:
        """At least."""
        return max(self.seen, self.outside + self.own)

    @property
    def feared(self) -> int:
        """What may have been spent, if nothing that was seen is by others of us who have not told of it yet."""
        return max([self.spent, *(self.own + self._left(place, theirs) for place, (theirs, _) in self.sights.items())])

    def _left(self, place: int, theirs: int) -> int:
        """What is not ours of what the worker there has seen of others."""
        return theirs - self.gone - sum(each.stored for at, each in self.accounts.items() if at != place)

    def sees(self, place: int, turn: int) -> None:
        theirs = self.accounts[place].theirs
        if place not in self.sights and self._left(place, theirs) > self.outside:
            self.sights[place] = theirs, turn

    def look(self, turns: Mapping[int, int], turn: int) -> None:
        """Settle what was seen before the latest turns of all others."""
        for place, (theirs, at) in list(self.sights.items()):
            if all(latest > at for other, latest in turns.items() if other != place):
                del self.sights[place]
                if (left := self._left(place, theirs)) > self.outside:
                    self.outside = left
                    self.changed += 1
                self.sees(place, turn)


@attrs.define(eq=False)
class Bank:
    """`workers` are the places of those that live, `turns` of those that have had one since somebody came last.

    `clock` is that of the machine, which the workers go by as well: seconds since 1970.
    """

    workers: set[int] = attrs.field(factory=set[int])
    turns: set[int] = attrs.field(factory=set[int])
    clock: Callable[[], float] = time.time
    _forgets_at: float = 0.0
    _latest: dict[int, int] = attrs.field(factory=dict[int, int])  # the number of each worker's last turn
    _number: int = 0
    _lines: dict[tuple[PurseKey, int], _Line] = attrs.field(factory=dict[tuple[PurseKey, int], _Line])

    def comes(self, place: int) -> None:
        """A worker is about to be let in there. What the others have taken up to now, they tell in their next turn."""
        self.workers.add(place)
        self._latest.pop(place, None)
        self.turns.clear()
        self._all_changed()

    def goes(self, place: int) -> None:
        """It has ended: what it had not spent is free."""
        self.workers.discard(place)
        self.turns.discard(place)
        self._latest.pop(place, None)
        for line in self._lines.values():
            account = line.accounts.pop(place, None)
            line.gone += 0 if account is None else account.own
            line.sights.pop(place, None)
            line.heard.pop(place, None)
        self._all_changed()

    def turn(self, place: int, accounts: Sequence[Account]) -> list[Grant] | None:
        """A worker tells of purses that have moved, or that it was told of, and is told of those that others have.

        None: it is not let in yet, and nothing was heard.
        """
        if place not in self.workers:
            return None
        self.turns.add(place)
        self._number += 1
        for account in accounts:
            self._note(place, account)
        self._latest[place] = self._number
        for line in self._lines.values():
            if line.sights:
                line.look({each: self._latest.get(each, 0) for each in self.workers}, self._number)
        told = {(account.key, account.start) for account in accounts}
        self._forget_periods(self.clock())
        return [
            self._grant(place, key, start, line)
            for (key, start), line in self._lines.items()
            if (key, start) in told or line.heard.get(place, -1) < line.changed
        ]

    def _note(self, place: int, account: Account) -> None:
        line = self._lines.get((account.key, account.start))
        if line is None:
            line = self._lines[account.key, account.start] = _Line(bounds(account.key.period, account.start)[1])
        before = line.accounts.get(place)
        if before == account:
            return
        if place not in self._latest:  # before it was let in its spending was taken for somebody's outside
            line.outside = max(line.outside - account.own, 0)
        line.accounts[place] = account
        line.seen = max(line.seen, account.spent)
        line.changed += 1
        line.sees(place, self._number)

    def _grant(self, place: int, key: PurseKey, start: int, line: _Line) -> Grant:
        limit = line.limit
        line.heard[place] = line.changed
        account = line.accounts.get(place)
        if limit is None:
            others = line.outside + line.own - (0 if account is None else account.own)
            return Grant(key=key, start=start, spent=line.spent, others=others, limit=None, cap=0)
        first = self._first_part(limit)
        if account is None:
            account = Account(key=key, start=start, own=0, promised=0, spent=0, stored=0, theirs=0, cap=0, limit=None)
        if account.limit is None:  # it may have begun to spend its part, which it has not told of yet
            account = line.accounts[place] = attrs.evolve(account, cap=max(first, account.own), limit=limit)
        siblings = [each for at, each in line.accounts.items() if at != place and each.limit is not None]
        silent = len(self.workers) - 1 - len(siblings)
        mine = max(account.cap - account.own, 0)
        left = limit - line.spent - sum(each.promised for each in line.accounts.values())
        free = limit - line.feared - mine - silent * first
        free -= sum(max(each.cap - each.own, 0) for each in siblings)
        wanted = account.promised + max(left, 0) // max(len(self.workers), 1)
        room = min(wanted, mine + max(free, 0))
        if room > mine:
            line.accounts[place] = attrs.evolve(account, cap=account.own + room)
        others = line.outside + line.own - account.own
        return Grant(key=key, start=start, spent=line.spent, others=others, limit=limit, cap=account.own + max(room, 0))

    def _first_part(self, limit: int) -> int:
        """The most that one who has told nothing of a purse may take to be its part."""
        return -(-limit // max(len(self.workers), 1))

    def _all_changed(self) -> None:
        for line in self._lines.values():
            line.changed += 1

    def _forget_periods(self, now: float) -> None:
        """Names are callers' own: those of a day are many, and of most nothing is ever heard again."""
        if abs(now - self._forgets_at) >= FORGET_EVERY:
            self._forgets_at = now
            self._lines = {at: line for at, line in self._lines.items() if now < line.end + KEPT_AFTER}


# The worker's side.


def accounts(purses: Iterable[Purse]) -> list[Account]:
    """What is told of these."""
    return [Account.of(purse) for purse in purses]


def adopt(
    purses: Purses, grants: Iterable[Grant], at: float, *, expects: Callable[[PurseKey], bool] | None = None
) -> list[Purse]:
    """Go by what was told; returned are the purses that this changed, to be told of in the next turn.

    Of purses that `expects` names nothing is taken: a store is to tell what was spent of them.
    """
    changed: list[Purse] = []
    for grant in grants:
        if expects is not None and expects(grant.key):
            continue
        known = purses.current.get(grant.key)
        if known is None and bounds(grant.key.period, grant.start)[1] <= at:
            continue  # there was none, and none is needed any more
        purse = purses.purse(grant.key, at)
        if int(purse.start) != grant.start or purse.key != grant.key:
            continue  # its period is over, or it shares the purse of all those for whom there is no room
        before = (purse.spent, purse.cap, purse.limit)
        purse.spent = max(purse.spent, grant.spent, grant.others + purse.own)
        if purse.limit is None and grant.limit is not None:  # else it is divided when somebody first wants some of it
            purse.limit = grant.limit if purses.lowest is None else purses.lowest(purse.key)
        if grant.limit is not None and purse.limit is not None:
            cap = max(grant.cap, purse.own + purse.promised)
            purse.leave(max(purse.limit - (purse.spent - purse.own) - cap, 0))
        if before != (purse.spent, purse.cap, purse.limit):
            changed.append(purse)
    return changed


@attrs.define(eq=False)
class Customer:
    """A worker's turns at the bank: what it says, and then hears; None: nobody has listened.

    `knows` tells whether what a store says of a purse is in it, `expects` whether a store will be asked about one.
    """

    purses: Purses
    knows: Callable[[Purse], bool]
    expects: Callable[[PurseKey], bool]
    clock: Callable[[], float]
    _said: list[Purse] = attrs.field(factory=list[Purse])

    def says(self) -> list[Account]:
        purses = self.purses
        taken = purses.take_moved() if purses.banked else ()
        self._said = [purse for purse in taken if self.knows(purse)]
        purses.moved.update(dict.fromkeys(purse for purse in taken if not self.knows(purse)))
        return accounts(self._said)

    def hears(self, grants: Iterable[Grant] | None) -> None:
        changed = self._said if grants is None else adopt(self.purses, grants, self.clock(), expects=self.expects)
        self.purses.moved.update(dict.fromkeys(changed))
