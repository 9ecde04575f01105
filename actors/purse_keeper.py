"""What was spent of budgets, in a store: read where a budget begins to count, written twice a second while it does.

Several routers may have one store. Each adds to it what its own requests have spent, and looks every second at what
that of the others comes to.

Nothing that the store does ends the treasury: what cannot be read is asked again, what cannot be written is kept.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import attrs
import trio

from infermux.config.settings import Budget
from infermux.database.budgets import Batch, Looked, Spent, Term
from infermux.errors import DatabaseUnavailable

from .beat import BEAT, next_beat
from .budget_rules import ANYBODY, scope_of
from .purse import Purse, PurseKey, bounds
from .purses import Purses

log = logging.getLogger("infermux.budgets")

SAVE_EVERY: Final = BEAT  # seconds
LOOK_EVERY: Final = 1.0  # seconds
STORE_PATIENCE: Final = 5.0  # seconds the store may take, before requests and at the end
PATIENCE_AWAY: Final = 1.0  # the same at the end, where it could not be asked before
PERIODS: Final = ("day", "week", "month")

Pair = tuple[str, str]  # scope and period: what the store is asked about


class BudgetStore(Protocol):
    """Where spent amounts are kept. Every call may raise DatabaseUnavailable."""

    async def identity(self) -> str:
        """Its name: routers of which each has a store of its own have to tell them apart."""
        ...

    async def load(self, terms: Sequence[Term], at: float) -> Sequence[Spent]:
        """What was spent before `at` in these periods, which are running then."""
        ...

    async def add(self, batch: Batch) -> None:
        """Add these amounts to what is kept; nothing, where that batch was added before."""
        ...

    async def look(self, since: float) -> Looked:
        """What has changed since the look that told `since`, and perhaps some that has not; 0: everything."""
        ...


@attrs.frozen(eq=False)
class Gap:
    """What purses do not have: all that was spent before `until`, seconds since 1970.

    `until` None: they have a part of what was spent up to now, so that the larger amount counts.
    """

    until: float | None


@attrs.frozen(eq=False)
class _Sending:
    """A batch of which it is not known whether the store has it. In the order of its rows, `purses`."""

    batch: Batch
    purses: Sequence[Purse]


@attrs.define(eq=False, kw_only=True)
class PurseKeeper:
    """Keeps `purses` in `store`. `flush`, bounded in time, has written down what has ended: the store shall find it."""

    purses: Purses
    store: BudgetStore | None
    clock: Callable[[], float]
    flush: Callable[[], Awaitable[object]] | None = None
    identity: str = ""  # of the store; known as soon as any purse is
    _watched: dict[Pair, frozenset[str]] = attrs.field(factory=dict[Pair, frozenset[str]])
    _gaps: dict[Pair, Gap] = attrs.field(factory=dict[Pair, Gap])
    _asking: trio.Lock = attrs.field(factory=trio.Lock)
    _trouble: str | None = None
    _unkept: set[PurseKey] = attrs.field(factory=set[PurseKey])
    _writer: int = attrs.field(factory=lambda: secrets.randbits(62))
    _batches: int = 0
    _waiting: deque[Sequence[Purse]] = attrs.field(factory=deque[Sequence[Purse]])
    _doubt: _Sending | None = None  # sent, perhaps not kept
    _saving: trio.Lock = attrs.field(factory=trio.Lock)
    _looked: float = -math.inf  # when, by the clock of trio
    _seen: float = 0.0  # what the last look told
    _starts: dict[Pair, int] = attrs.field(factory=dict[Pair, int])
    _stirred: trio.Event = attrs.field(factory=trio.Event)
    _ends: bool = False

    def __attrs_post_init__(self) -> None:
        self.purses.told = lambda: self._stirred.set()

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
        if self._gaps:
            self._stirred.set()

    def knows(self, purse: Purse) -> bool:
        """Whether what was spent of it before is in it: until then nobody else should hear of it."""
        return self.store is None or _pair(purse) not in self._gaps

    def expects(self, key: PurseKey) -> bool:
        """Whether what was spent of it is still to be read, now or where its budget begins to count."""
        pair = (key.scope, key.period)
        return self.store is not None and (pair in self._gaps or pair not in self._watched)

    async def run(self) -> None:
        """Read what is not known yet, keep what is spent, see what others spend. For ever; it sleeps while no budget is
        looked after.
        """
        while self.store is not None:
            known = await self._all_known()
            if known:
                await self._wait()
            now = trio.current_time()
            await trio.sleep_until(next_beat(now) if known else now + STORE_PATIENCE)
            await self.save()
            if trio.current_time() > self._looked + LOOK_EVERY - SAVE_EVERY / 2:  # at the second beat, late or not
                await self.look()

    async def _wait(self) -> None:
        """Return when there is something to read or to keep, or it is nearly time to look at what others have spent."""
        self._stirred = trio.Event()
        if self.purses.changed or self._gaps or self._waiting or self._doubt is not None:
            return
        with trio.move_on_after(LOOK_EVERY - SAVE_EVERY if self._watched else math.inf):
            await self._stirred.wait()

    async def ready(self) -> None:
        """Wait until the store has told what was spent, for a moment at most: one that is away stops no router."""
        if self._gaps and self.store is not None:
            with trio.move_on_after(STORE_PATIENCE):
                await self._all_known()

    async def save(self) -> None:
        """Keep what has changed. What cannot be kept now is tried again the next time."""
        if self.store is None:
            return
        async with self._saving:
            if self._doubt is not None and not await self._send(self.store, self._doubt):
                return
            self._take_changed()
            while self._waiting:
                self._doubt = self._batch(self._waiting.popleft())
                if not await self._send(self.store, self._doubt):
                    return

    def _take_changed(self) -> None:
        # Before it is known what was spent before, nothing is added: it would be told as spent before.
        unknown = self._unknown()
        taken = self.purses.take_changed()
        self.purses.changed.update(dict.fromkeys(purse for purse in taken if _pair(purse) in unknown))
        known = [purse for purse in taken if _pair(purse) not in unknown]
        self.purses.hold_back(known, ends=self._ends)
        ready = [purse for purse in known if purse.ready]
        if ready:
            self._waiting.append(ready)

    def _batch(self, purses: Sequence[Purse]) -> _Sending:
        self._batches += 1
        self.purses.sends(purses)
        return _Sending(Batch(self._writer, self._batches, [purse.row for purse in purses]), purses)

    def _unknown(self) -> set[Pair]:
        return {pair for pair, gap in self._gaps.items() if gap.until is not None}

    async def look(self) -> None:
        """See what others have spent. While it is not known what the store has of ours, that cannot be told apart."""
        if self.store is None or not self._watched:
            return
        async with self._saving, self._asking:
            if self._doubt is not None:
                return
            self._looked = trio.current_time()
            try:
                looked = await self.store.look(self._seen)
            except DatabaseUnavailable as trouble:
                self._say("what others have spent is not known now: %s", trouble)
            except Exception as bug:
                self._say("what others have spent cannot be read: %s", bug, exc_info=True)
            else:
                self._catch_up(looked)

    def _catch_up(self, looked: Looked) -> None:
        """What is still to be read from its begin is not for now. Then, and with a new period, the next look is at all.

        A router whose clock is ahead has begun the period before, and what it spent was passed over here.
        """
        at, unknown = self.clock(), self._unknown()
        starts = {pair: int(bounds(pair[1], at)[0]) for pair in self._watched if pair not in unknown}
        self.purses.catch_up((row for row in looked.rows if starts.get((row.scope, row.period)) == row.start), at)
        self._seen = 0.0 if unknown or starts != self._starts else looked.at
        self._starts = starts
        if not self._gaps:  # else there is something that cannot be read
            self._trouble = None

    async def aclose(self) -> None:
        """Keep what is not kept yet, all of it. Bounded in time, and more so where the store is away already."""
        self._ends = True
        with trio.move_on_after(STORE_PATIENCE if self._trouble is None else PATIENCE_AWAY):
            await self.save()
            while self._doubt is not None:
                await trio.sleep(PATIENCE_AWAY / 4)
                await self.save()

    async def _all_known(self) -> bool:
        """Whether the store has told all that it was to be asked, now or before."""
        if not self._gaps:
            return True
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
        if not self.identity:
            self.identity = await self.store.identity()
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

    async def _send(self, store: BudgetStore, sending: _Sending) -> bool:
        """Whether the store has it, or never will. A purse that no store takes must not keep the others out."""
        purses = sending.purses
        try:
            await store.add(sending.batch)
        except DatabaseUnavailable as trouble:
            self._say("what was spent cannot be kept now: %s", trouble)
            return False
        except Exception:
            self._doubt = None
            for purse in purses:
                purse.sending = 0
            if len(purses) > 1:
                half = len(purses) // 2
                self._waiting.extendleft([purses[half:], purses[:half]])
            elif purses[0].key not in self._unkept:
                self._unkept.add(purses[0].key)
                log.exception("what was spent of %s cannot be kept", purses[0].key)
            return True
        self._doubt = None
        self._trouble = None
        for purse, row in zip(purses, sending.batch.rows, strict=True):
            purse.is_kept(row.more)
        return True

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
