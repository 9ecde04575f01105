"""What was spent of budgets, in a store: read where a budget begins to count, written twice a second while it does.

Nothing that the store does ends the treasury: what cannot be read is asked again, what cannot be written is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import attrs
import trio

from infermux.config.settings import Budget
from infermux.database.budgets import Spent, Term
from infermux.errors import DatabaseUnavailable

from .purses import ANYBODY, Purse, PurseKey, Purses, bounds, scope_of

log = logging.getLogger("infermux.budgets")

SAVE_EVERY: Final = 0.5  # seconds
STORE_PATIENCE: Final = 5.0  # seconds the store may take, before requests and at the end
PERIODS: Final = ("day", "week", "month")

Pair = tuple[str, str]  # scope and period: what the store is asked about


class BudgetStore(Protocol):
    """Where spent amounts are kept. Every call may raise DatabaseUnavailable."""

    async def load(self, terms: Sequence[Term], at: float) -> Sequence[Spent]:
        """What was spent before `at` in these periods, which are running then."""
        ...

    async def save(self, rows: Sequence[Spent]) -> None:
        """Keep these amounts, in the place of smaller ones."""
        ...


@attrs.frozen(eq=False)
class Gap:
    """What purses do not have: all that was spent before `until`, seconds since 1970.

    `until` None: they have a part of what was spent up to now, so that the larger amount counts.
    """

    until: float | None


@attrs.define(eq=False, kw_only=True)
class PurseKeeper:
    """Keeps `purses` in `store`. `flush`, bounded in time, has written down what has ended: the store shall find it."""

    purses: Purses
    store: BudgetStore | None
    clock: Callable[[], float]
    flush: Callable[[], Awaitable[object]] | None = None
    _watched: dict[Pair, frozenset[str]] = attrs.field(factory=dict[Pair, frozenset[str]])
    _gaps: dict[Pair, Gap] = attrs.field(factory=dict[Pair, Gap])
    _asking: trio.Lock = attrs.field(factory=trio.Lock)
    _trouble: str | None = None
    _unkept: set[PurseKey] = attrs.field(factory=set[PurseKey])

    def watch(self, wanted: Mapping[Pair, frozenset[str]]) -> None:
        """Purses of these names count from now on, and no others; see `wanted`."""
        now = self.clock()
        for pair, names in wanted.items():
            before = self._watched.get(pair)
            if before is None:
                self._gaps[pair] = Gap(now)
            elif ANYBODY not in before and not names <= before:
                self._gaps.setdefault(pair, Gap(None))
        self._watched = dict.fromkeys(self._watched, frozenset[str]()) | dict(wanted)

    def knows(self, purse: Purse) -> bool:
        """Whether what was spent of a purse before is in it, as far as a store has it."""
        return self.store is None or _pair(purse) not in self._gaps

    async def run(self) -> None:
        """Read what is not known yet, and keep what is spent. For ever."""
        while self.store is not None:
            known = await self._all_known()
            await trio.sleep(SAVE_EVERY if known else STORE_PATIENCE)
            await self.save()

    async def ready(self) -> None:
        """Wait until the store has told what was spent, for a moment at most: one that is away stops no router."""
        if self._gaps and self.store is not None:
            with trio.move_on_after(STORE_PATIENCE):
                await self._all_known()

    async def save(self) -> None:
        """Keep what has changed. What cannot be kept now is tried again the next time."""
        if self.store is None or not self.purses.changed:
            return
        # Before it is known what was spent before, an amount is too small: kept, it would be added twice.
        unknown = {pair for pair, gap in self._gaps.items() if gap.until is not None}
        taken = self.purses.take_changed()
        held = [purse for purse in taken if _pair(purse) in unknown]
        self.purses.changed.update(dict.fromkeys(held))
        if len(held) < len(taken):
            await self._keep(self.store, [purse for purse in taken if _pair(purse) not in unknown])

    async def aclose(self) -> None:
        """Keep what is not kept yet. Bounded in time."""
        with trio.move_on_after(STORE_PATIENCE):
            await self.save()

    async def _all_known(self) -> bool:
        """Whether the store has told all that it was to be asked, now or before."""
        async with self._asking:
            try:
                for gap in dict.fromkeys(self._gaps.values()):
                    await self._ask(gap)
            except DatabaseUnavailable as trouble:
                self._say("what was spent before is not known yet: %s", trouble)
            except Exception as bug:
                self._say("what was spent before cannot be read: %s", bug, exc_info=True)
            return not self._gaps

    async def _ask(self, gap: Gap) -> None:
        assert self.store is not None
        if self.flush is not None:
            await self.flush()
        pairs = [pair for pair, each in self._gaps.items() if each is gap]
        at = self.clock() if gap.until is None else gap.until
        terms = [Term(scope, period, int(bounds(period, at)[0])) for scope, period in sorted(pairs)]
        rows = await self.store.load(terms, at)
        self._trouble = None
        self._close(gap, rows, at)

    def _close(self, gap: Gap, rows: Sequence[Spent], at: float) -> None:
        """A pair may have been told to be watched otherwise while the store was asked: then it is asked again."""
        closed = {pair for pair, each in self._gaps.items() if each is gap}
        found = [row for row in rows if (row.scope, row.period) in closed]
        self.purses.restore(found, at, adding=gap.until is not None)
        for pair in closed:
            del self._gaps[pair]

    async def _keep(self, store: BudgetStore, purses: Sequence[Purse]) -> None:
        """One that no store takes must not keep the others out: it is left out, and logged."""
        kept = False
        try:
            await store.save([purse.row for purse in purses])
            kept = True
            self._trouble = None
        except DatabaseUnavailable as trouble:
            self._say("what was spent cannot be kept now: %s", trouble)
        except Exception:
            kept = True
            if len(purses) > 1:
                half = len(purses) // 2
                await self._keep(store, purses[:half])
                await self._keep(store, purses[half:])
            elif purses[0].key not in self._unkept:
                self._unkept.add(purses[0].key)
                log.exception("what was spent of %s cannot be kept", purses[0].key)
        finally:
            if not kept:  # cancelled, too
                self.purses.changed.update(dict.fromkeys(purses))

    def _say(self, what: str, trouble: Exception, *, exc_info: bool = False) -> None:
        """Once per outage."""
        if self._trouble is None:
            log.warning(what, trouble, exc_info=exc_info)
        self._trouble = what


def wanted(budgets: Iterable[Budget], *, keyed: bool) -> dict[Pair, frozenset[str]]:
    """Whose purses these budgets are about, by scope and period. `keyed`: keys may have budgets of their own."""
    found: dict[Pair, frozenset[str]] = {("key", period): frozenset({ANYBODY}) for period in PERIODS} if keyed else {}
    for budget in budgets:
        scope, name = scope_of(budget)
        pair = (scope, budget.period)
        found[pair] = found.get(pair, frozenset()) | {name}
    return found


def _pair(purse: Purse) -> Pair:
    return purse.key.scope, purse.key.period
