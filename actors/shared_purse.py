"""The part of a budget that this node was granted, where nodes share it by way of Redis.

As with a `SharedBucket` blocks are asked for ahead, everything is counted in totals since the node began, and what is
not used goes back. Redis counts in micro-dollars, rounded up; the purse goes on counting in nano-dollars.

What a node has spent may be told twice: by itself, and by a store that has it too. So that it is counted once a store
is given only what Redis has heard before, as long as there is a Redis: what it tells beyond that is of nodes that have
gone, or are cut off. These tell how much of it is their own when they are back, and save nothing more until they are
answered.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from infermux.shared.scripts import Call

from .share import WHOLE, Share

if TYPE_CHECKING:
    from .purse import Purse
    from .supply import Leased

MICRO: Final = 1000  # nano-dollars
HORIZON: Final = 1.0  # seconds of its spending that a node holds
REQUESTS: Final = 4  # promises' worth that a node holds at least
OF_WHAT_IS_LEFT: Final = 8  # that part of its fair share of what is left is the most it holds
IDLE: Final = 2.0
REFRESH: Final = 2.0  # seconds after which Redis is asked what others have spent ...
SELDOM: Final = 30.0  # ... of what was not used here for a while:
IN_USE: Final = 10.0  # seconds
PAUSE: Final = 0.1  # seconds between two rounds that brought less than was needed
KEPT_AFTER: Final = 86_400_000  # ms that a purse is kept after its period
GAIN: Final = 0.3


class SharedPurse:
    """The lease on one purse. `known` tells whether the purse has what a store says was spent before, `store` which one
    that is: others may have another one.

    `key` is Redis's for the purse, `nodes` that of the heartbeats, `node` the name under which this part is known.
    """

    def __init__(
        self,
        purse: Purse,
        *,
        key: str,
        nodes: str,
        node: str,
        ask: Callable[[Leased], None],
        known: Callable[[], bool],
        store: Callable[[], str],
        clock: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.purse, self.node, self.ask = purse, node, ask
        self.keys = (key, nodes)
        self.known, self.store, self.clock, self.wall = known, store, clock, wall
        self.share: Share = WHOLE
        self.supplied: Callable[[], None] = _nobody
        self.keeps = True
        self.ahead = False
        self.limit = 0
        self.granted = self.number = 0
        self.next_at = 0.0
        self.used_at = -math.inf
        self._need = self._short = self._low = 0  # the first two since the last round
        self._asked = (0, 0)  # what these were in the round that is under way
        self._lost = True
        self._away = False  # Redis has been gone, or slow
        self._tells = False
        self._heard_at = -math.inf
        self._beyond = 0  # what is ours beyond what was granted, while Redis is gone
        self._total = 0  # granted to all, and spent by those who are gone, as Redis told last
        self._book = ""  # what each has, as Redis told last; none: it was never there
        self._booked = 0  # of our spending, in that
        self._others = 0  # what all others with our store have spent, in that
        self._said = 0
        self._apart = True  # there is no Redis, or it was not told yet
        self._under_way = False  # a call is
        self._leaves = False
        self._own = 0  # what was ours when it was made, in nano-dollars
        self._settled = 0  # of ours, in nano-dollars, what the store may have while there is a Redis
        self._rate = self._unit = 0.0
        self._before = (0.0, 0)

    # Requests.

    def allow(self, limit: int) -> None:
        """`limit`, in nano-dollars, is the lowest hard one from now on."""
        if limit // MICRO != self.limit:
            self.limit = limit // MICRO
            self.purse.limit = limit
            self._divide()
            self.ask(self)

    def took(self, amount: int) -> None:
        """`amount` was promised."""
        self.used_at = self.clock()
        self._unit += (amount / MICRO - self._unit) * GAIN
        if self.held < self._low:
            self.ask(self)

    def lacks(self, amount: int) -> None:
        """There was no room for `amount`."""
        self.used_at = self.clock()
        more = max(-(-amount // MICRO), 1)
        self._need = max(self._need, more)
        if not (self._lost and self._away):  # else nobody waits for it
            self._short += more
        self.ask(self)

    # The store.

    def may_keep(self) -> int:
        """Of what we have spent since we began, in nano-dollars, how much the store may be given now."""
        is_heard = self._under_way or (self.known() and not self._apart)
        return min(self.purse.own, self._settled) if is_heard and not self._leaves else self.purse.own

    def leave(self) -> None:
        """We are about to end, and have told Redis what we could: the store may have all."""
        self._leaves = True

    def looked(self) -> None:
        """The store has told what others have spent. What Redis has not heard from them it is told at once."""
        if self._is_behind and not self._apart:
            self.ask(self)

    @property
    def _is_behind(self) -> bool:
        """Others have told the store what they, or anybody, have not told Redis."""
        return self.purse.theirs // MICRO > self._others

    # The supplier.

    @property
    def used(self) -> int:
        """Spent and promised since we began; micro-dollars."""
        return -(-(self.purse.own + self.purse.promised) // MICRO)

    @property
    def is_waiting(self) -> bool:
        """Something was lacking that Redis has not answered to."""
        return self._need > 0 or self._asked[0] > 0

    @property
    def held(self) -> int:
        return self.granted - self.used

    def wanted(self, now: float) -> int:
        """How much beyond what is used this node is to hold now."""
        most = max(0, self.limit - self._total) // (OF_WHAT_IS_LEFT * self.share.of)
        if most < self._unit:
            return 0  # parts that no request fits into would lie on all nodes
        if now - self.used_at > IDLE:
            return min(most, math.ceil(self._unit)) if self.keeps else 0
        return min(most, math.ceil(max(self._rate * HORIZON, REQUESTS * self._unit)))

    def _wanted_now(self, now: float) -> tuple[int, int]:
        """What it is to hold, with all that was lacking since the last round, and what it needs at least.

        Where there seems not to be so much it is not asked for: parts too small for anybody would lie on all nodes.
        """
        need, short = self._asked = max(self._need, self._asked[0]), self._short + self._asked[1]
        self._need = self._short = 0
        want = self.wanted(now)
        return max(want, short) if short <= self.limit - self._total else want, need

    def is_due(self, now: float) -> bool:
        if now < self.next_at or not self.known():
            return False
        held, want = self.held, self.wanted(now)
        unbooked = -(-self.purse.own // MICRO) > self._booked
        refresh = REFRESH if now - self.used_at < IN_USE else SELDOM
        told = self._lost or unbooked or self._is_behind or now - self._heard_at > refresh
        return told or self.is_waiting or held < min(self._low, want) or held < 0 or held > 2 * want

    def is_low(self, now: float) -> bool:
        return now >= self.next_at and self.known() and 4 * self.held < 3 * self.wanted(now)

    def call(self, now: float, *, telling: bool = False) -> Call:
        """What Redis is told and asked. `telling`: nothing is asked for."""
        self._tells = telling
        used, spending = self.used, -(-self.purse.own // MICRO)
        want, need = (0, 0) if telling else self._wanted_now(now)
        at, before = self._before
        if now > at:
            self._rate += (max(0, used - before) / (now - at) - self._rate) * GAIN
            self._before = now, used
        if not self._lost and self.granted > used + max(want, need):
            self.granted = used + max(want, need)
            self._divide()
        self.number += 1
        purse = self.purse
        kept = purse.sent + purse.sending
        self._said, self._own, self._under_way = spending, purse.own, True
        self._settled = max(self._settled, kept)
        # Others may be about to tell that themselves: until all had their turn it is not compared.
        theirs = purse.theirs // MICRO if self.known() and not telling else -1
        ends = round(max(0.0, purse.end - self.wall()) * 1000) + KEPT_AFTER
        numbers = (
            self.number,
            self.limit,
            used,
            want,
            need,
            self.granted,
            spending,
            self._booked,
            ends,
            theirs,
            -(-kept // MICRO),
        )
        return Call("purse", self.keys, (self.node, *numbers, self.store(), self._book))

    def answered(self, answer: Sequence[Any], now: float) -> bool:
        self.granted, self._total, spent, restored, self._others, self._book = answer
        self._booked, self._settled = self._said, max(self._settled, self._own)
        self._apart = self._under_way = False
        if self._tells:
            return bool(restored)
        lacked, _ = self._asked
        self._lost, self._asked = False, (0, 0)
        self._low = self.wanted(now) // 2
        self.purse.spent = (spent - self._said) * MICRO + self.purse.own
        self._heard_at = now
        self._divide()
        self.next_at = now + (PAUSE if lacked and self.held < lacked else 0.002)
        if lacked:
            self.supplied()
        return bool(restored)

    def lose(self, share: Share, since: float, now: float) -> None:
        """Redis is gone: our part of what was left for all is ours."""
        del since, now
        self.share = share
        self._apart, self._under_way = True, False
        self.fall_back()

    def fall_back(self) -> None:
        """Redis takes its time: until it answers our part of what was left for all is ours.

        That is what Redis told last, long ago where nobody has used it here since, less what the store has told.
        """
        if not self._lost:
            left = max(0, self.limit - max(self._total, -(-self.purse.spent // MICRO)))
            # Others may have been granted a block each since it was seen.
            self._beyond = self.share.part(left - left // OF_WHAT_IS_LEFT)
            self._lost = True
        self._away, self._short, self._asked = True, 0, (self._asked[0], 0)
        self._divide()

    def _divide(self) -> None:
        """The purse promises what is granted; while Redis is gone, beyond that our part of what nobody has."""
        purse, ours = self.purse, self.granted
        if not self._book:  # it was never there
            spent = -(-(purse.spent - purse.own) // MICRO)
            ours += self.share.part(max(0, self.limit - spent)) if self._away else 0
        elif self._lost:
            ours += self._beyond
        purse.leave(self.limit * MICRO - (purse.spent - purse.own) - ours * MICRO)


def _nobody() -> None:
    """Nobody waits."""
