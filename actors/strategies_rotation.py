"""Strategies that look at weights, load, order and price: round_robin, random, priority, least_busy, cost_weighted."""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Sequence

from infermux.config.settings import Price
from infermux.providers.prices import price_of_prompt

from .messages import Want
from .penalty import decayed
from .strategy import Choice, Option

EXPECTED_COMPLETION = 1024
ROTATIONS_KEPT = 1024
_SPARE = 16

# Two scores, the place in the file and the place in the options; the last is unique, so options are never compared.
Ranked = tuple[float, float, int, int, Option]


def share(option: Option, now: float) -> float:
    """How busy a provider is for its weight: (in flight + penalty) / weight.

    A second of penalty weighs as much as a request in flight, or a provider that fails at once would look idle.
    """
    if option.weight <= 0:
        return math.inf
    standing = option.standing
    if standing.penalty:
        return (option.load + decayed(standing.penalty, standing.penalty_at, now)) / option.weight
    return option.load / option.weight


class Rotation:
    """Smooth weighted round robin (the algorithm of nginx's upstream module), one rotation per key.

    Each turn every option gains its weight, the one with most is first and pays what all gained together. Over any
    stretch each is first in proportion to its weight, evenly interleaved. An option that is away neither gains nor
    loses; what it left with is limited to the sum of weights, so that it neither starves nor floods on its return.
    At most `ROTATIONS_KEPT` keys are remembered (callers can invent model names), the least recently used goes first.
    """

    __slots__ = ("_credits",)

    def __init__(self) -> None:
        self._credits: OrderedDict[str, dict[str, float]] = OrderedDict()

    def turn(self, options: Sequence[Option], key: str) -> list[Option]:
        """All options, the one whose turn it is first, the others by what they have saved up; ties by declaration."""
        credits = self._of(key, options)
        total = 0.0
        for option in options:
            if option.weight > 0:
                total += option.weight
        ranked: list[tuple[float, int, int, Option]] = []
        for at, option in enumerate(options):
            saved = credits.get(option.provider, 0.0)
            if saved > total:
                saved = total
            elif saved < -total:
                saved = -total
            if option.weight > 0:
                saved += option.weight
            credits[option.provider] = saved
            ranked.append((-saved, option.index, at, option))
        ranked.sort()
        credits[ranked[0][3].provider] -= total
        return [entry[3] for entry in ranked]

    def _of(self, key: str, options: Sequence[Option]) -> dict[str, float]:
        credits = self._credits.get(key)
        if credits is None:
            credits = self._credits[key] = {}
            if len(self._credits) > ROTATIONS_KEPT:
                self._credits.popitem(last=False)
        else:
            self._credits.move_to_end(key)
            if len(credits) > 2 * len(options) + _SPARE:
                # Providers that were removed, or are away for long: forget them before they pile up.
                here = {option.provider for option in options}
                for gone in credits.keys() - here:
                    del credits[gone]
        return credits

    def __len__(self) -> int:
        return len(self._credits)


def rotate_head(ranked: list[Ranked], rotation: Rotation, key: str) -> list[Choice]:
    """Sort by both scores, and let those that tie for the first place take turns there. The first score is shown."""
    ranked.sort()
    if len(ranked) < 2 or ranked[0][1] != ranked[1][1] or ranked[0][0] != ranked[1][0]:
        return [Choice(entry[4], entry[0]) for entry in ranked]
    score, second = ranked[0][:2]
    tied = [entry[4] for entry in ranked if entry[1] == second and entry[0] == score]
    choices = [Choice(option, score) for option in rotation.turn(tied, key)]
    choices += [Choice(entry[4], entry[0]) for entry in ranked[len(tied) :]]
    return choices


class RoundRobin:
    """Smooth weighted round robin per model. A choice's score is its place."""

    def __init__(self) -> None:
        self._rotation = Rotation()

    def order(self, options: Sequence[Option], want: Want, now: float) -> list[Choice]:
        if len(options) < 2:
            return [Choice(option) for option in options]
        return [Choice(option, place) for place, option in enumerate(self._rotation.turn(options, want.model))]


class Random:
    """Weighted at random without replacement: first with probability weight / sum of weights, and so on with the rest.

    Sorting by exponential variates whose rates are the weights gives just that (Efraimidis and Spirakis, 2006).
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def order(self, options: Sequence[Option], want: Want, now: float) -> list[Choice]:
        draw = self._rng.expovariate
        choices = [Choice(option, draw(option.weight) if option.weight > 0 else math.inf) for option in options]
        choices.sort(key=_score)
        return choices


class Priority:
    """Declaration order. A choice's score is its place in the file."""

    def order(self, options: Sequence[Option], want: Want, now: float) -> list[Choice]:
        choices = [Choice(option, option.index) for option in options]
        choices.sort(key=_score)
        return choices


class LeastBusy:
    """Fewest requests in flight for the weight, recent failures counted as load; ties take turns by weight."""

    def __init__(self) -> None:
        self._rotation = Rotation()

    def order(self, options: Sequence[Option], want: Want, now: float) -> list[Choice]:
        ranked = [(share(option, now), 0.0, option.index, at, option) for at, option in enumerate(options)]
        return rotate_head(ranked, self._rotation, want.model)


class CostWeighted:
    """Lowest estimated cost of this request in US dollars; unknown prices last, ties to the least busy, then in turns.

    The estimate is the prompt's tokens at the input price, and `max_tokens` (1024 when the caller set none) at the
    output price. The score is that cost, inf when unknown.
    """

    def __init__(self) -> None:
        self._rotation = Rotation()

    def order(self, options: Sequence[Option], want: Want, now: float) -> list[Choice]:
        ranked: list[Ranked] = []
        for at, option in enumerate(options):
            cost = price_of_request(option.price, want)
            ranked.append((cost, share(option, now), option.index, at, option))
        return rotate_head(ranked, self._rotation, want.model)


def price_of_request(price: Price | None, want: Want) -> float:
    """US dollars that a request is expected to cost at a price; inf where nobody knows that."""
    if price is None:
        return math.inf
    prompt = want.prompt_tokens
    completion = EXPECTED_COMPLETION if want.max_tokens is None else want.max_tokens
    if price.above:
        price = price_of_prompt(price, prompt)
    return (prompt * price.input_per_million + completion * price.output_per_million) / 1e6 + price.per_request


def _score(choice: Choice) -> float:
    return choice.score
