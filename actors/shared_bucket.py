"""A limit a minute that other nodes share: the part of it that this node was granted, taken from as from any bucket.

Redis has the bucket that refills; this one is filled by grants, asked for ahead by the supplier's actor, so that a
request still takes at once. While Redis is gone it refills by itself, by this node's fair share of the limit.
Everything is counted in totals since the node began (`granted`, `used`), so that an answer that is lost, a question
that is asked twice and what was used while Redis was gone are all made good by the next round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from infermux.shared.scripts import Call

from .bucket import TokenBucket
from .share import WHOLE, Share

TOKEN: Final = 60 * 2**30  # parts of the level, as in `bucket`
REDIS_TOKEN: Final = 60_000  # parts of the level that Redis keeps
ROUND_TRIP: Final = 0.005  # seconds until what was asked for is there, as far as one who waits is told
HORIZON: Final = 0.5  # seconds of its use that a node holds
BLOCK: Final = 120  # requests' worth that a node holds at least, where the limit is large
OF_FAIR_SHARE: Final = 12  # that part of its fair share of a minute is the most a node holds: five seconds' worth
IDLE: Final = 2.0  # seconds after which what is not used goes back
LONGEST_PAUSE: Final = 0.5  # seconds between two rounds that brought less than was wanted, at most ...
SHORTEST_PAUSE: Final = 0.002
GAIN: Final = 0.3  # of a new sample, in averages


def _nobody() -> None:
    """Nobody waits."""


class SharedBucket(TokenBucket):
    """`limit` tokens a minute for all nodes together. `ask` is told when there is something to ask Redis for.

    `key` is Redis's for the limit, `node` the name under which this part of it is known there.

    `capacity` is the most one request may reserve: the limit, and while Redis is gone this node's share of it. A node
    that begins has nothing; times are seconds on trio's clock. `unit` is what a request takes, as long as nobody knows.
    """

    __slots__ = (
        "_asked",
        "_before",
        "_eta",
        "_filled",
        "_low",
        "_rate",
        "_refills",
        "_seen",
        "_short",
        "_tells",
        "_unit",
        "ahead",
        "ask",
        "granted",
        "keeps",
        "key",
        "limit",
        "need",
        "next_at",
        "node",
        "number",
        "share",
        "supplied",
        "used",
        "used_at",
    )

    def __init__(
        self, key: str, node: str, limit_per_minute: int, ask: Callable[[SharedBucket], None], unit: float = 1.0
    ) -> None:
        super().__init__(limit_per_minute)
        self.key, self.node, self.limit, self.ask = key, node, limit_per_minute, ask
        self.keeps = True  # one request's worth, while it is not used
        self.ahead = self._filled = False
        self.share: Share = WHOLE
        self.supplied: Callable[[], None] = _nobody  # told when what was lacking may be there
        self.granted = self.used = self.number = self.need = 0
        self.next_at = 0.0  # when it is asked for again at the earliest
        self._level = self._low = 0
        self._refills = self._tells = False
        self._asked = self._short = 0
        self._before = (0.0, 0)  # when it was asked for last, and what had been used by then
        self._seen = (-1, -1)  # level (Redis's parts) and time (ms) as Redis told them last
        self._rate, self._unit = 0.0, unit  # tokens a second, tokens a request
        self.used_at = -math.inf
        self._eta = math.inf

    # Requests.

    def can_take(self, n: int, now: float) -> bool:
        parts = n * TOKEN
        if parts <= self._level or parts <= self._refill(now):
            return True
        self._lacks(n)
        return parts <= self._refill(now)  # it may be learned by asking that Redis is gone

    def take(self, n: int, now: float) -> bool:
        if not self.can_take(n, now):
            return False
        self._level -= n * TOKEN
        self.used += n
        self.used_at = now
        self._unit += (n - self._unit) * 0.05
        if self._level < self._low:
            self.ask(self)
        return True

    def settle(self, reserved: int, used: int, now: float) -> None:
        """Replace a reservation by the true usage. What comes back is kept, or goes back to Redis, whole."""
        self.used += used - reserved
        if self._refills:
            super().settle(reserved, used, now)
            return
        self._level += (reserved - used) * TOKEN
        if self._level < self._low:
            self.ask(self)

    def forgive(self, now: float) -> None:
        """What is owed need not be refilled: not by this node."""
        super().forgive(now)
        self.used = min(self.used, self.granted)

    def resize(self, limit_per_minute: int, now: float) -> None:
        """Go on with another limit; Redis is told it with the next round. One that was let go is used again."""
        self._refill(now)
        self.limit, self.ahead = limit_per_minute, self._filled
        self._hold_to_share(now)
        self.ask(self)

    def is_full(self, now: float) -> bool:
        """True when nothing was used that may not be refilled: that is a minute after the last use."""
        return now - self.used_at >= 60.0 and self._level >= 0

    def ready_at(self, n: int, now: float) -> float:
        if self._refills:
            return super().ready_at(n, now)
        missing = min(n, self.limit) * TOKEN - self._level
        if missing <= 0:
            return now
        soonest = now + ROUND_TRIP
        if self._seen[1] < 0:
            return soonest
        return max(soonest, self._eta + (missing // TOKEN) * 60.0 / self.limit)

    def _refill(self, now: float) -> int:
        return super()._refill(now) if self._refills else self._level

    def _lacks(self, n: int) -> None:
        """A request was not covered."""
        self.need = max(self.need, min(n, self.limit))
        self._short += n
        self.ask(self)

    # The supplier.

    def fill(self) -> None:
        """Have one request's worth there before it is asked for, and from now on, until `let_go`."""
        self.ahead = self._filled = True
        self._low = 1
        self.ask(self)

    def let_go(self) -> None:
        """What it has goes back when it has not been used for long, as nobody will."""
        self.ahead = False

    @property
    def held(self) -> int:
        """Granted and not used; below zero what is owed."""
        return self.granted - self.used

    def wanted(self, now: float) -> int:
        """How much this node is to hold now."""
        if now - self.used_at > IDLE and not self._short:
            return self._reserve()
        most = max(1, self.limit // (OF_FAIR_SHARE * self.share.of))
        return max(min(most, math.ceil(max(self._rate * HORIZON, BLOCK * self._unit))), self._burst(), 1)

    def _burst(self) -> int:
        """What was lacking since the last round, up to a fair share."""
        return min(self._short, max(1, self.limit // (4 * self.share.of)))

    def _reserve(self) -> int:
        """One request's worth or two are kept where that is little: what is kept is nobody else's."""
        one, of = math.ceil(self._unit), self.share.of
        if not self.keeps:
            return 0
        if one * 4 * of > self.limit:
            return int(self.ahead and one > 1)  # a token: that there are some
        return 2 * one if one * 20 * of <= self.limit else one  # the second for a health check

    def is_due(self, now: float) -> bool:
        """Whether there is something to tell or to ask Redis at this time."""
        if now < self.next_at:
            return False
        held, want = self.held, self.wanted(now)
        return self._refills or self._level < self._low or self._short > 0 or held < 0 or held > 2 * want + 1

    def is_low(self, now: float) -> bool:
        """Whether it can go along with others that are asked for."""
        return now >= self.next_at and now - self.used_at < IDLE and 4 * self._level < 3 * self.wanted(now) * TOKEN

    def call(self, now: float, *, telling: bool = False) -> Call:
        """What Redis is told and asked. What is held too much is set aside at once, for it goes back.

        `telling`: nothing is asked for, and it goes on refilling by itself.
        """
        self._tells = telling
        at, used = self._before
        if now > at:
            self._rate += (max(0, self.used - used) / (now - at) - self._rate) * GAIN
            self._before = now, self.used
        want = 0 if telling else self.wanted(now)
        if not self._refills and self.held > want:
            self.granted = self.used + want
            self._level = want * TOKEN
        self.number += 1
        need = 0 if telling else self.need
        self._asked = max(want, need)
        level, seen_at = self._seen
        numbers = (self.number, self.limit, self.used, want, need, self.granted, level, seen_at)
        return Call("limit", (self.key,), (self.node, *numbers))

    def answered(self, answer: Sequence[int], now: float) -> bool:
        """What Redis said to the last order. Returns whether it had lost something that this node has written back."""
        granted, level, at, restored = answer
        was_short = self._short or self.need or self._level < TOKEN
        self.granted, self._seen = granted, (level, at)
        if self._tells:
            return bool(restored)
        self._refills = False
        self.capacity = self.limit
        self._level = self.held * TOKEN
        self._low = self.wanted(now) * TOKEN // 2
        self.need = self._short = 0
        self._eta = now + max(0, REDIS_TOKEN - level) / (1000 * self.limit)
        if self.held < min(self._asked, self.wanted(now)) or (was_short and self.held <= 0):
            self.next_at = now + self._pause(level)
        else:
            self.next_at = now + SHORTEST_PAUSE
        if was_short:
            self.supplied()
        return bool(restored)

    def _pause(self, level: int) -> float:
        """Redis had less than was wanted: until a fair share of what comes is a block, and there is a token at all."""
        per_second = self.limit / 60 / self.share.of
        pause = min(self.wanted(self._before[0]) / per_second, LONGEST_PAUSE)
        first = max(0, REDIS_TOKEN - level) / (1000 * self.limit)
        return max(SHORTEST_PAUSE, pause, first)

    def lose(self, share: Share, since: float, now: float) -> None:
        """Redis is gone since `since`: go on by the fair share, from what is left. Idempotent; the share may change."""
        self._refill(now)
        if not self._refills:
            self._refills = True
            tick = math.ceil(max(since, 0.0) * 2**30)
            self._at = tick
        self.share = share
        self._hold_to_share(now)
        self.need = self._short = 0
        self.supplied()

    def _hold_to_share(self, now: float) -> None:
        part = self.share.part(self.limit) if self._refills else self.limit
        TokenBucket.resize(self, part, now)
