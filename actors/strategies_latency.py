"""Strategies that look at how fast providers were: least_latency and peak_ewma."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from infermux.config.settings import LeastLatency as LeastLatencySettings

from .messages import Ewma, Want
from .penalty import decayed
from .strategies_rotation import share
from .strategy import Choice, Option

FIRST_TOKEN = "first_token"
UNMEASURED = 1.0  # seconds: what peak_ewma takes a provider for while it has measured none
BELIEVED = 100  # requests that halve what an average without a new sample counts
FRESH = 20  # requests for which an average is as good as new: those in flight bring no sample either
REMEMBERED = 4096


class Measure:
    """Reads the average to compare: of the provider's model once it has `min_samples`, else of the whole provider."""

    __slots__ = ("first_token", "min_samples")

    def __init__(self, settings: LeastLatencySettings) -> None:
        self.first_token = settings.measure == FIRST_TOKEN
        self.min_samples = settings.min_samples

    def of(self, option: Option) -> Ewma:
        standing = option.standing
        if self.first_token:
            whole, per_model = standing.first_token, standing.model_first_token
        else:
            whole, per_model = standing.response, standing.model_response
        own = per_model.get(option.model)
        return whole if own is None or own.samples < self.min_samples else own


def penalty_of(option: Option, now: float) -> float:
    """Seconds that recent failures weigh now."""
    standing = option.standing
    return decayed(standing.penalty, standing.penalty_at, now) if standing.penalty else 0.0


class LeastLatency:
    """Lowest average latency of successful responses first. The score is that average plus the penalty, in seconds.

    A provider with fewer than `min_samples` counts as 0: it is offered early to one request at a time, which explores
    it (`explore=True`; not offered so while its actor says that it is being explored). Every such provider is offered
    again after the measured ones, the least busy first, for the requests that find it being explored and nothing
    better. Recent failures count as seconds, for unmeasured providers too.

    A provider that was slow gets no requests, so its average would stay what it was for ever. Therefore an average
    loses half of its score with every `BELIEVED` requests that brought it no sample, until one request, and one only,
    explores that provider; what it finds takes the place of the average. One that is ten times slower is looked at with
    one request in 332, whatever the traffic.
    """

    def __init__(self, settings: LeastLatencySettings) -> None:
        self._measure = Measure(settings)
        self._turn = 0
        self._sampled: dict[tuple[str, str], tuple[int, int]] = {}  # its samples, and the turn that first saw them

    def order(self, options: Sequence[Option], want: Want, now: float) -> list[Choice]:
        ranked: list[tuple[float, float, int, int, Choice]] = []
        unmeasured: list[tuple[float, int, int, Choice]] = []
        self._turn += 1
        for at, option in enumerate(options):
            ewma = self._measure.of(option)
            score = penalty_of(option, now)
            busy = share(option, now)
            if ewma.samples >= self._measure.min_samples:
                age = self._age(option, ewma.samples)
                if age > FRESH and not option.standing.exploring:
                    hope = score + ewma.value * math.exp2(-age / BELIEVED)
                    ranked.append((hope, busy, option.index, at + len(options), Choice(option, hope, True)))
                score += ewma.value
                ranked.append((score, busy, option.index, at, Choice(option, score)))
                continue
            unmeasured.append((busy, option.index, at, Choice(option, score)))
            if not option.standing.exploring:
                ranked.append((score, busy, option.index, at, Choice(option, score, True)))
        # `at` is unique, so that two choices are never compared.
        ranked.sort()
        unmeasured.sort()
        return [entry[-1] for entry in ranked] + [entry[-1] for entry in unmeasured]

    def _age(self, option: Option, samples: int) -> int:
        """How many requests were put in order since the option's average changed."""
        key = (option.provider, option.model)
        known = self._sampled.get(key)
        if known is not None and known[0] == samples:
            return self._turn - known[1]
        if len(self._sampled) >= REMEMBERED:
            self._sampled.clear()  # all are as good as new then: callers can invent names of models
        self._sampled[key] = (samples, self._turn)
        return 0


class PeakEwma:
    """Power of two choices: two at random, the one with the lower cost first; then all others by cost.

    The cost (the score) is (average latency + penalty) * (in flight + 1) / weight. A provider without samples is taken
    for the fastest among the options, so that it is tried without drawing everybody.
    See Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001.
    """

    def __init__(self, settings: LeastLatencySettings, rng: random.Random) -> None:
        self._measure = Measure(settings)
        self._rng = rng

    def order(self, options: Sequence[Option], want: Want, now: float) -> list[Choice]:
        averages = [self._measure.of(option) for option in options]
        measured = [ewma.value for ewma in averages if ewma.samples]
        fastest = min(measured) if measured else UNMEASURED
        choices: list[Choice] = []
        for option, ewma in zip(options, averages, strict=True):
            choices.append(Choice(option, peak_cost(option, ewma.value if ewma.samples else fastest, now)))
        if len(choices) < 3:
            choices.sort(key=_score)
            return choices
        first = self._better_of_two(choices)
        rest = sorted((choice for choice in choices if choice is not first), key=_score)
        return [first, *rest]

    def _better_of_two(self, choices: list[Choice]) -> Choice:
        """Two different choices, drawn evenly."""
        n = len(choices)
        i = int(self._rng.random() * n)
        j = int(self._rng.random() * (n - 1))
        one, other = choices[i], choices[j + (j >= i)]
        return one if one.score <= other.score else other


def peak_cost(option: Option, latency: float, now: float) -> float:
    """What peak_ewma compares, where an answer takes `latency` seconds."""
    if option.standing.penalty:
        latency += penalty_of(option, now)
    return latency * (option.load + 1) / option.weight if option.weight > 0 else math.inf


def _score(choice: Choice) -> float:
    return choice.score
