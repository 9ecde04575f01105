"""The strategies among many: who is first, kept up while options come, go and change, so that nobody looks at all.

Each picks what its strategy's `order` would put first, or tells where it differs. A picker's options are known by their
place in the field that keeps it. `put` is called for an option that is new or has changed, `drop` for one that is gone
for now; `pick` gives None where only an order of all can tell.
"""

from __future__ import annotations

import math
import random
from typing import ClassVar, Protocol

from infermux.config.settings import Price

from .messages import Want
from .ranking import Ranking, Roster
from .strategies_rotation import price_of_request, share
from .strategy import Choice, Option


class Picker(Protocol):
    """One strategy's way to the first of a field's options.

    `reads`: it depends on how they stand, on more than that they are there. Where it does not, what it is given may be
    out of date.
    """

    reads: ClassVar[bool]

    def put(self, at: int, option: Option, now: float) -> None: ...
    def drop(self, at: int) -> None: ...
    def pick(self, want: Want, now: float) -> Choice | None: ...


class Turns:
    """Smooth weighted round robin, as `Rotation` has it. The score is 0: the place of the first.

    All options of one weight gain the same in each turn, so what they gained is kept once for all of them, and only the
    richest of each weight are compared: a turn takes as many steps as there are different weights. What an option has
    saved is limited to the sum of the weights when it comes, and for all of them when that sum has halved.
    """

    reads: ClassVar[bool] = False

    def __init__(self) -> None:
        self._options: dict[int, Option] = {}
        self._saved: dict[int, float] = {}  # less what its weight has gained, for those that are there
        self._gained: dict[float, float] = {}  # by weight
        self._ranked: dict[float, Ranking] = {}
        self._total = self._limit = 0.0

    def put(self, at: int, option: Option, now: float) -> None:
        weight = max(option.weight, 0.0)
        known = self._options.get(at)
        self._options[at] = option
        if known is not None and known.weight == option.weight:
            return
        if known is not None:
            self._leave(at, known)
            self._options[at] = option
        self._total += weight
        self._limit = max(self._limit, self._total)
        if weight not in self._ranked:
            self._ranked[weight], self._gained[weight] = Ranking(), 0.0
        saved = min(max(self._saved.get(at, 0.0), -self._total), self._total)
        self._rank(at, option, saved - self._gained[weight])

    def drop(self, at: int) -> None:
        option = self._options.get(at)
        if option is not None:
            self._leave(at, option)
            if 2 * self._total < self._limit:
                self._limit_all()

    def _leave(self, at: int, option: Option) -> None:
        weight = max(option.weight, 0.0)
        del self._options[at]
        self._ranked[weight].drop(at)
        self._saved[at] += self._gained[weight]
        self._total -= weight
        if not self._ranked[weight]:
            del self._ranked[weight], self._gained[weight]

    def _rank(self, at: int, option: Option, saved: float) -> None:
        self._saved[at] = saved
        self._ranked[max(option.weight, 0.0)].put(at, (-saved, option.index, at))

    def _limit_all(self) -> None:
        total = self._limit = self._total
        for at, saved in self._saved.items():
            option = self._options.get(at)
            gained = 0.0 if option is None else self._gained[max(option.weight, 0.0)]
            limited = min(max(saved + gained, -total), total) - gained
            if limited != saved:
                if option is None:
                    self._saved[at] = limited
                else:
                    self._rank(at, option, limited)

    def pick(self, want: Want, now: float) -> Choice | None:
        best: tuple[float, float, int] | None = None
        for weight, ranking in self._ranked.items():
            gained = self._gained[weight] = self._gained[weight] + weight
            top = ranking.first()
            assert top is not None
            (owed, index, _), at = top
            rank = (owed - gained, index, at)
            if best is None or rank < best:
                best = rank
        if best is None:
            return None
        at = best[2]
        option = self._options[at]
        self._rank(at, option, self._saved[at] - self._total)
        return Choice(option)


class Draws:
    """Weighted at random. The score is the least of the draws of `Random`, whose rate is the sum of their rates."""

    reads: ClassVar[bool] = False

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._options: dict[int, Option] = {}
        self._rosters: dict[float, Roster] = {}

    def put(self, at: int, option: Option, now: float) -> None:
        known = self._options.get(at)
        if known is None or known.weight != option.weight:
            self.drop(at)
            self._rosters.setdefault(max(option.weight, 0.0), Roster()).add(at)
        self._options[at] = option

    def drop(self, at: int) -> None:
        option = self._options.pop(at, None)
        if option is not None:
            self._rosters[max(option.weight, 0.0)].drop(at)

    def pick(self, want: Want, now: float) -> Choice | None:
        total = sum(weight * len(roster) for weight, roster in self._rosters.items())
        if total <= 0:
            return None
        left = self._rng.random() * total
        roster = None
        for weight, each in self._rosters.items():
            if weight > 0 and each:
                roster = each
                left -= weight * len(each)
                if left < 0:
                    break
        assert roster is not None
        return Choice(self._options[roster.draw(self._rng)], self._rng.expovariate(total))


class InOrder:
    """Declaration order."""

    reads: ClassVar[bool] = False

    def __init__(self) -> None:
        self._options: dict[int, Option] = {}
        self._ranked = Ranking()

    def put(self, at: int, option: Option, now: float) -> None:
        self._options[at] = option
        self._ranked.put(at, (option.index, at))

    def drop(self, at: int) -> None:
        self._ranked.drop(at)

    def pick(self, want: Want, now: float) -> Choice | None:
        top = self._ranked.first()
        return None if top is None else Choice(self._options[top[1]], top[0][0])


class LeastShare:
    """The fewest requests in flight for the weight; those that tie take turns by weight.

    Turns by stride scheduling (Waldspurger and Weihl, 1995), whose steps do not depend on who else ties: whoever is
    chosen goes back by the inverse of its weight. Whoever was away, or busy, begins where the others are.
    """

    reads: ClassVar[bool] = True

    def __init__(self) -> None:
        self._options: dict[int, Option] = {}
        self._ranked = Ranking()
        self._turns: dict[int, float] = {}
        self._now = 0.0  # where the last one that was chosen stood

    def __len__(self) -> int:
        return len(self._ranked)

    def put(self, at: int, option: Option, now: float) -> None:
        self._options[at] = option
        turn = self._turns.get(at, 0.0)
        if turn < self._now:
            turn = self._turns[at] = self._now
        self._ranked.put(at, (share(option, now), turn, option.index, at))

    def drop(self, at: int) -> None:
        self._ranked.drop(at)

    def least(self) -> float:
        """The share of the first; inf where there is none."""
        top = self._ranked.first()
        return math.inf if top is None else top[0][0]

    def pick(self, want: Want, now: float) -> Choice | None:
        top = self._ranked.first()
        if top is None:
            return None
        (busy, turn, index, _), at = top
        option = self._options[at]
        self._now = turn
        later = self._turns[at] = turn + (1.0 / option.weight if option.weight > 0 else 1.0)
        self._ranked.put(at, (busy, later, index, at))
        return Choice(option, busy)


class LeastCost:
    """The lowest estimated cost: of each price only the least busy, so as many steps as there are different prices."""

    reads: ClassVar[bool] = True

    def __init__(self) -> None:
        self._tag: dict[int, Tag] = {}
        self._by_tag: dict[Tag, tuple[Price | None, LeastShare]] = {}

    def put(self, at: int, option: Option, now: float) -> None:
        tag = _tag(option.price)
        if self._tag.get(at, tag) != tag:
            self.drop(at)
        self._tag[at] = tag
        if tag not in self._by_tag:
            self._by_tag[tag] = (option.price, LeastShare())
        self._by_tag[tag][1].put(at, option, now)

    def drop(self, at: int) -> None:
        if at in self._tag:
            tag = self._tag.pop(at)
            least = self._by_tag[tag][1]
            least.drop(at)
            if not len(least):
                del self._by_tag[tag]

    def pick(self, want: Want, now: float) -> Choice | None:
        best, first = (math.inf, math.inf), None
        for price, least in self._by_tag.values():
            rank = (price_of_request(price, want), least.least())
            if first is None or rank < best:
                best, first = rank, least
        found = None if first is None else first.pick(want, now)
        return None if found is None else Choice(found.option, best[0])


Tag = tuple[object, ...]


def _tag(price: Price | None) -> Tag:
    """What of a price tells what a request is expected to cost; the same for prices that say the same."""
    if price is None:
        return ()
    own = (price.input_per_million, price.output_per_million, price.per_request)
    return (*own, *((step.prompt_tokens, *_tag(step.price)) for step in price.above))
