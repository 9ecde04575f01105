"""Budgets of several workers: who may spend how much of what is left, and what all of them have spent.

Pure state in the process that leads. Each worker tells at its every turn what it has spent and promised of the purses
that have moved, and is told what everybody has spent and its cap: what it may at most have spent and promised itself,
all in all. A cap is raised only by what is free, and counts as given from then on; one that is to fall counts until
the worker says that it has. So spent and caps together never exceed the limit, whoever is slow to hear of it:

    spent by all + sum over workers (cap - own) <= limit

What a worker spent after its last turn is lost with it if it is killed, as everything of the last half second is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from .purses import Purse, PurseKey, Purses


@attrs.frozen(kw_only=True)
class Account:
    """A purse, as one worker has it; see `Purse`. Amounts in nano-dollars, `start` in seconds since 1970."""

    key: PurseKey
    start: int
    own: int
    promised: int
    spent: int
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
            cap=purse.cap,
            limit=purse.limit,
        )


@attrs.frozen(kw_only=True)
class Grant:
    """What a worker is told of a purse: `spent` by all, when it had spent `own` itself; and its cap below `limit`."""

    key: PurseKey
    start: int
    spent: int
    own: int
    limit: int | None
    cap: int


@attrs.define(eq=False)
class _Line:
    """One purse. `changed` counts what others have to hear of."""

    spent: int = 0
    changed: int = 0
    accounts: dict[int, Account] = attrs.field(factory=dict[int, Account])
    heard: dict[int, int] = attrs.field(factory=dict[int, int])

    @property
    def limit(self) -> int | None:
        """The lowest that any of them goes by: while they reload they may differ."""
        return min((each.limit for each in self.accounts.values() if each.limit is not None), default=None)


@attrs.define(eq=False)
class Bank:
    """`workers` are the places of those that live, `turns` of those that have had one since somebody came last."""

    workers: set[int] = attrs.field(factory=set[int])
    turns: set[int] = attrs.field(factory=set[int])
    _lines: dict[tuple[PurseKey, int], _Line] = attrs.field(factory=dict[tuple[PurseKey, int], _Line])

    def comes(self, place: int) -> None:
        """A worker is about to be let in there. What the others have taken up to now, they tell in their next turn."""
        self.workers.add(place)
        self.turns.clear()
        self._all_changed()

    def goes(self, place: int) -> None:
        """It has ended: what it had not spent is free."""
        self.workers.discard(place)
        self.turns.discard(place)
        for line in self._lines.values():
            line.accounts.pop(place, None)
            line.heard.pop(place, None)
        self._all_changed()

    def turn(self, place: int, accounts: Sequence[Account]) -> list[Grant] | None:
        """A worker tells of purses that have moved, or that it was told of, and is told of those that others have.

        None: it is not let in yet, and nothing was heard.
        """
        if place not in self.workers:
            return None
        self.turns.add(place)
        for account in accounts:
            self._note(place, account)
        told = {(account.key, account.start) for account in accounts}
        self._forget_periods(told)
        return [
            self._grant(place, key, start, line)
            for (key, start), line in self._lines.items()
            if (key, start) in told or line.heard.get(place, -1) < line.changed
        ]

    def _note(self, place: int, account: Account) -> None:
        line = self._lines.setdefault((account.key, account.start), _Line())
        before = line.accounts.get(place)
        known = 0 if before is None else before.own
        spent = max(line.spent + account.own - known, account.spent)
        if spent != line.spent or before != account:
            line.spent = spent
            line.changed += 1
        line.accounts[place] = account

    def _grant(self, place: int, key: PurseKey, start: int, line: _Line) -> Grant:
        limit = line.limit
        line.heard[place] = line.changed
        account = line.accounts.get(place)
        if limit is None:
            own = 0 if account is None else account.own
            return Grant(key=key, start=start, spent=line.spent, own=own, limit=None, cap=0)
        if account is None:  # it may have begun to spend its part, which it has not told of yet
            first = self._first_part(limit)
            account = line.accounts[place] = Account(
                key=key, start=start, own=0, promised=0, spent=0, cap=first, limit=limit
            )
        others = [each for at, each in line.accounts.items() if at != place]
        silent = len(self.workers - line.accounts.keys())
        mine = max(account.cap - account.own, 0)
        left = limit - line.spent - sum(each.promised for each in (*others, account))
        free = limit - line.spent - mine - silent * self._first_part(limit)
        free -= sum(max(each.cap - each.own, 0) for each in others)
        wanted = account.promised + max(left, 0) // max(len(self.workers), 1)
        room = min(wanted, mine + max(free, 0))
        if room > mine:
            line.accounts[place] = attrs.evolve(account, cap=account.own + room)
        return Grant(
            key=key, start=start, spent=line.spent, own=account.own, limit=limit, cap=account.own + max(room, 0)
        )

    def _first_part(self, limit: int) -> int:
        """The most that one who has told nothing of a purse may take to be its part."""
        return -(-limit // max(len(self.workers), 1))

    def _all_changed(self) -> None:
        for line in self._lines.values():
            line.changed += 1

    def _forget_periods(self, told: Iterable[tuple[PurseKey, int]]) -> None:
        """A purse has begun anew: what it was before is over once every worker has told that of itself."""
        for key, start in told:
            for other in [at for at in self._lines if at[0] == key and at[1] < start]:
                if self._lines[other].accounts.keys() <= self._lines[key, start].accounts.keys():
                    del self._lines[other]


# The worker's side.


def accounts(purses: Iterable[Purse]) -> list[Account]:
    """What is told of these."""
    return [Account.of(purse) for purse in purses]


def adopt(purses: Purses, grants: Iterable[Grant], at: float) -> list[Purse]:
    """Go by what was told; returned are the purses that this changed, to be told of in the next turn."""
    changed: list[Purse] = []
    for grant in grants:
        purse = purses.purse(grant.key, at)
        if int(purse.start) != grant.start or purse.key != grant.key:
            continue  # its period is over, or it shares the purse of all those for whom there is no room
        before = (purse.spent, purse.cap, purse.limit)
        purse.spent = max(purse.spent, grant.spent + purse.own - grant.own)
        if grant.limit is not None:
            purse.limit = grant.limit if purse.limit is None else purse.limit
            cap = max(grant.cap, purse.own + purse.promised)
            purse.leave(max(purse.limit - (purse.spent - purse.own) - cap, 0))
        if before != (purse.spent, purse.cap, purse.limit):
            changed.append(purse)
    return changed
