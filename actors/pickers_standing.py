"""Pickers that look at how fast options are, or at whose conversation it is: least_latency, peak_ewma, sticky."""

from __future__ import annotations

import math
import random
from array import array
from collections import OrderedDict, deque
from collections.abc import Sequence
from heapq import nsmallest
from typing import ClassVar, Final

from infermux.config.settings import LeastLatency as LeastLatencySettings

from .messages import Want
from .pickers import LeastShare
from .ranking import Key, Ranking, Roster
from .strategies_latency import BELIEVED, FRESH, UNMEASURED, Measure, peak_cost, penalty_of
from .strategies_rotation import share
from .strategies_sticky import OVERLOAD, drawn_by, hash_of, room_for
from .strategy import Choice, Option

FIRST_OF_KEY: Final = 6  # who come first for a key, as far as is remembered
KEPT_KEYS: Final = 10_000  # some 200 bytes each
KEPT_HOT: Final = 100  # four bytes for each candidate


class Fastest:
    """`LeastLatency` among many. Where all that are not measured are being explored, an order of all has to tell.

    What an average without new samples is still believed halves with every `BELIEVED` turns for all alike, so which of
    them has lost most stays the same from turn to turn: ranked is what it would have been at the first turn.
    """

    reads: ClassVar[bool] = True

    def __init__(self, settings: LeastLatencySettings) -> None:
        self._measure = Measure(settings)
        self._turn = 0
        self._options: dict[int, Option] = {}
        self._measured, self._unmeasured, self._hopes = Ranking(), Ranking(), Ranking()
        self._sampled: dict[int, tuple[int, int]] = {}  # its samples, and the turn that first saw them
        self._fresh: deque[tuple[int, int, int]] = (
            deque()
        )  # the turn from which it is not, whose, with how many samples

    def put(self, at: int, option: Option, now: float) -> None:
        self._options[at] = option
        ewma, exploring = self._measure.of(option), option.standing.exploring
        penalty, busy = penalty_of(option, now), share(option, now)
        if ewma.samples < self._measure.min_samples:
            self._measured.drop(at)
            self._hopes.drop(at)
            if exploring:
                self._unmeasured.drop(at)
            else:
                self._unmeasured.put(at, (penalty, busy, option.index, at))
            return
        self._unmeasured.drop(at)
        self._measured.put(at, (penalty + ewma.value, busy, option.index, at))
        known = self._sampled.get(at)
        if known is None or known[0] != ewma.samples:
            since = self._turn + 1  # the next turn is the first that sees it
            self._sampled[at] = (ewma.samples, since)
            self._fresh.append((since + FRESH + 1, at, ewma.samples))
            self._hopes.drop(at)
        else:
            self._hope(at, option, self._turn + 1)

    def drop(self, at: int) -> None:
        for ranking in (self._measured, self._unmeasured, self._hopes):
            ranking.drop(at)

    def _hope(self, at: int, option: Option, turn: int) -> None:
        """In that turn it may be looked at again, once its average is old enough and nobody explores it."""
        _, since = self._sampled[at]
        if option.standing.exploring or turn - since <= FRESH:
            self._hopes.drop(at)
        else:
            seconds = self._measure.of(option).value
            believed = math.log2(seconds) if seconds > 0 else -math.inf
            self._hopes.put(at, (believed + since / BELIEVED, option.index, at))

    def pick(self, want: Want, now: float) -> Choice | None:
        self._turn += 1
        while self._fresh and self._fresh[0][0] <= self._turn:
            _, at, samples = self._fresh.popleft()
            if self._sampled[at][0] == samples and at in self._measured:
                self._hope(at, self._options[at], self._turn)
        found: list[tuple[Key, Choice]] = []
        for ranking, explore in ((self._measured, False), (self._unmeasured, True)):
            top = ranking.first()
            if top is not None:
                key, at = top
                found.append((key[:3], Choice(self._options[at], key[0], explore)))
        top = self._hopes.first()
        if top is not None:
            found.append(self._hoped(top[1], now))
        return min(found, key=_rank)[1] if found else None

    def _hoped(self, at: int, now: float) -> tuple[Key, Choice]:
        option = self._options[at]
        age = self._turn - self._sampled[at][1]
        score = penalty_of(option, now) + self._measure.of(option).value * math.exp2(-age / BELIEVED)
        return (score, share(option, now), option.index), Choice(option, score, True)


def _rank(found: tuple[Key, Choice]) -> Key:
    return found[0]


class BetterOfTwo:
    """`PeakEwma` among many: the average of the fastest is kept, two are drawn."""

    reads: ClassVar[bool] = True

    def __init__(self, settings: LeastLatencySettings, rng: random.Random) -> None:
        self._measure = Measure(settings)
        self._rng = rng
        self._options: dict[int, Option] = {}
        self._roster = Roster()
        self._averages = Ranking()

    def put(self, at: int, option: Option, now: float) -> None:
        self._options[at] = option
        self._roster.add(at)
        ewma = self._measure.of(option)
        if ewma.samples:
            self._averages.put(at, (ewma.value, at))
        else:
            self._averages.drop(at)

    def drop(self, at: int) -> None:
        self._roster.drop(at)
        self._averages.drop(at)

    def pick(self, want: Want, now: float) -> Choice | None:
        if len(self._roster) < 2:
            return None
        top = self._averages.first()
        fastest = UNMEASURED if top is None else top[0][0]
        one, other = (self._costed(at, fastest, now) for at in self._roster.draw_two(self._rng))
        return one if one.score <= other.score else other

    def _costed(self, at: int, fastest: float, now: float) -> Choice:
        option = self._options[at]
        ewma = self._measure.of(option)
        return Choice(option, peak_cost(option, ewma.value if ewma.samples else fastest, now))


class Stuck:
    """`Sticky` among many: the first few of a key are remembered, as they do not depend on who is there or busy.

    A key that is new is drawn for by all: nothing less tells who comes first for it. So is, for the few hot keys whose
    first ones are all too busy, their whole order. Where nobody in that has room, an order of all has to tell.
    """

    reads: ClassVar[bool] = True

    def __init__(self) -> None:
        self._least = LeastShare()
        self._options: dict[int, Option] = {}
        self._drawing: dict[int, Option] = {}  # all that ever were there
        self._first: OrderedDict[int, Sequence[int]] = OrderedDict()
        self._hot: OrderedDict[int, Sequence[int]] = OrderedDict()
        self._requests = 0
        self._weights = 0.0

    def put(self, at: int, option: Option, now: float) -> None:
        self._forget(at)
        drawing = self._drawing.get(at)
        if drawing is None or drawing.weight != option.weight:
            self._drawing[at] = option
            self._first.clear()
            self._hot.clear()
        self._options[at] = option
        self._requests += option.load
        self._weights += option.weight
        self._least.put(at, option, now)

    def drop(self, at: int) -> None:
        self._forget(at)
        self._least.drop(at)

    def _forget(self, at: int) -> None:
        option = self._options.pop(at, None)
        if option is not None:
            self._requests -= option.load
            self._weights -= option.weight

    def pick(self, want: Want, now: float) -> Choice | None:
        if not want.affinity:
            return self._least.pick(want, now)
        key = hash_of(want.affinity)
        per_weight = OVERLOAD * (self._requests + 1) / self._weights if self._weights > 0 else 0.0
        return self._with_room(key, self._ranked(self._first, KEPT_KEYS, key, FIRST_OF_KEY), per_weight) or (
            self._with_room(key, self._ranked(self._hot, KEPT_HOT, key, len(self._drawing)), per_weight)
        )

    def _with_room(self, key: int, ranked: Sequence[int], per_weight: float) -> Choice | None:
        for at in ranked:
            option = self._options.get(at)
            if option is not None and room_for(option, per_weight):
                return Choice(option, drawn_by(key, option))
        return None

    def _ranked(self, kept: OrderedDict[int, Sequence[int]], most: int, key: int, count: int) -> Sequence[int]:
        """The places of those who come first for a key, so many of them."""
        ranked = kept.get(key)
        if ranked is not None:
            kept.move_to_end(key)
            return ranked
        drawn = [(drawn_by(key, option), at) for at, option in self._drawing.items()]
        kept[key] = ranked = array("I", [at for _, at in nsmallest(count, drawn)])
        if len(kept) > most:
            kept.popitem(last=False)
        return ranked
