"""What is counted of ended requests: plain numbers in dictionaries, since prometheus_client's take a lock for each.

Labels are bounded. Models are named by callers, so a model has a label of its own only where it is declared, or has
answered, is a plain word, and is among the first `MOST_LEARNED` that have, or `MOST_LISTED` where its provider itself
lists it: names that callers make up, and a provider answers for all the same, leave room for those. Providers name
their own error codes, of which `MOST_LEARNED` count.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Final, TypeVar

import attrs

from infermux.actors.catalogue import Catalogue
from infermux.actors.fleet import Fleet
from infermux.actors.record import Ending, Record, Tried
from infermux.errors import FailureKind, Fault
from infermux.providers.interface import Usage

OTHER: Final = "other"
MOST_LEARNED: Final = 100
MOST_LISTED: Final = 500
MOST_SERIES: Final = 1000

SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
GAPS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)
OURS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

_PLAIN: Final = re.compile(r"[!-~]{1,128}")  # the ARN of a profile at Bedrock has some 110 characters
_PROVIDERS: Final = Fault.PROVIDER.value
_FAULTS: Final = {
    "ok": "",
    "cancelled": "",
    FailureKind.CALLER.value: Fault.CALLER.value,
    FailureKind.CREDENTIALS.value: Fault.POLICY.value,  # of whoever configured them
}


_Key = TypeVar("_Key")


class Distribution:
    """How many values were at most each of `bounds`, and above the last; and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def note(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self.counts)

    def copy(self) -> Distribution:
        made = Distribution(self.bounds)
        made.counts, made.sum = self.counts[:], self.sum
        return made


class Times:
    """The distributions of one endpoint, provider and model."""

    __slots__ = ("duration", "first_token", "gap")

    def __init__(self) -> None:
        self.duration = Distribution(SECONDS)
        self.first_token = Distribution(SECONDS)
        self.gap = Distribution(GAPS)


class Used:
    """Of one provider and model: tokens by kind, and US dollars."""

    __slots__ = ("cache_creation", "cache_read", "cost", "estimated", "input", "output", "reasoning", "unpriced")

    def __init__(self) -> None:
        self.input = self.output = self.cache_read = self.cache_creation = self.reasoning = self.estimated = 0
        self.cost = 0.0
        self.unpriced = 0

    def note(self, usage: Usage, cost: float | None) -> None:
        self.input += usage.prompt_tokens
        self.output += usage.completion_tokens
        if usage.cached_tokens:
            self.cache_read += usage.cached_tokens
        if usage.cache_write_tokens:
            self.cache_creation += usage.cache_write_tokens
        if usage.reasoning_tokens:
            self.reasoning += usage.reasoning_tokens
        if usage.estimated:
            self.estimated += usage.total
        if cost is None:
            self.unpriced += 1
        else:
            self.cost += cost


@attrs.define(eq=False)
class Alone:
    """The attempts that were the only ones of their requests, and alike. `count` of them are not in `Counts` yet."""

    provider: str
    model: str
    outcome: str
    key: tuple[str, str, str]
    used: Used | None = None
    count: int = 0


@attrs.define(eq=False)
class Series:
    """What is counted of requests that are alike: made once for them, found by one look.

    `count` of them are not in `Counts.requests` yet: a key of so many parts is dear to look up.
    """

    request: RequestKey
    overhead: Distribution
    times: Times | None  # where they are whole answers
    count: int = 0
    alone: Alone | None = None


RequestKey = tuple[str, str, str, str, int, str, str]
"""Endpoint, model, provider, ending, status, code, fault."""


@attrs.define(eq=False)
class Counts:
    """A listener of the journal, for the life of the process: `note` is called for each record."""

    fleet: Fleet
    _requests: dict[RequestKey, int] = attrs.field(factory=dict[RequestKey, int])
    times: dict[tuple[str, str, str], Times] = attrs.field(factory=dict[tuple[str, str, str], Times])
    overhead: dict[str, Distribution] = attrs.field(factory=dict[str, Distribution])
    waited: Distribution = attrs.field(factory=lambda: Distribution(SECONDS))
    _attempts: dict[tuple[str, str, str], int] = attrs.field(factory=dict[tuple[str, str, str], int])
    used: dict[tuple[str, str], Used] = attrs.field(factory=dict[tuple[str, str], Used])
    rescues: int = 0
    cache: dict[str, int] = attrs.field(factory=dict[str, int])
    _series: dict[tuple[object, ...], Series] = attrs.field(factory=dict[tuple[object, ...], Series])
    _models: set[str] = attrs.field(factory=set[str])
    _learned: set[str] = attrs.field(factory=set[str])
    _listed: int = 0  # of the learned
    _codes: set[str] = attrs.field(factory=set[str])
    _catalogue: Catalogue | None = None

    @property
    def requests(self) -> dict[RequestKey, int]:
        """How many there were of each."""
        self._sum_up()
        return self._requests

    @property
    def attempts(self) -> dict[tuple[str, str, str], int]:
        """By provider, outcome and fault."""
        self._sum_up()
        return self._attempts

    def note(self, record: Record) -> None:
        if self.fleet.catalogue is not self._catalogue:
            self._forget_series()
        alike = (
            record.endpoint,
            record.requested,
            record.model,
            record.provider,
            record.ending,
            record.status,
            record.code,
            record.fault,
        )
        series = self._series.get(alike)
        if series is None:
            series = self._new_series(record)
            if len(self._series) >= MOST_SERIES:  # callers choose names
                self._forget_series()
            if series.request[1] != OTHER:  # which it need not be the next time
                self._series[alike] = series
            else:
                _add(self._requests, series.request, 1)
        series.count += 1
        series.overhead.note(record.overhead)
        if series.times is not None:
            _note_times(series.times, record)
        attempts = record.attempts
        if len(attempts) == 1 and series.request[1] != OTHER:
            self._note_alone(series, attempts[0])
        else:
            for tried in attempts:
                _add(self._attempts, _attempt(tried), 1)
                self._note_usage(tried)
        if record.waited:
            self.waited.note(record.waited)
        if record.rescues:
            self.rescues += record.rescues
        if record.cache:
            self.cache[record.cache] = self.cache.get(record.cache, 0) + 1

    def _new_series(self, record: Record) -> Series:
        endpoint, provider, ending = record.endpoint, record.provider, record.ending
        model = self.model(record.model or record.requested, answered=ending is Ending.OK and bool(record.model))
        fault = record.fault
        key = (
            endpoint,
            model,
            provider,
            ending.value,
            record.status,
            self._code(record.code) if record.code else "",
            "" if fault is None else fault.value,
        )
        overhead = self.overhead.get(endpoint)
        if overhead is None:
            overhead = self.overhead[endpoint] = Distribution(OURS)
        if ending is not Ending.OK:  # what was refused or left at once says nothing of how long answers take
            return Series(key, overhead, None)
        which = (endpoint, provider, model)
        times = self.times.get(which)
        if times is None:
            times = self.times[which] = Times()
        return Series(key, overhead, times)

    def _note_alone(self, series: Series, tried: Tried) -> None:
        alone, outcome, model = series.alone, tried.outcome, tried.model
        if alone is None or alone.outcome != outcome or alone.model != model or alone.provider != tried.provider:
            if alone is not None:
                _add(self._attempts, alone.key, alone.count)
            alone = series.alone = Alone(tried.provider, model, outcome, _attempt(tried))
        alone.count += 1
        usage = tried.usage
        if usage is not None:
            used = alone.used
            if used is None:
                used = alone.used = self._used(tried)
            used.note(usage, tried.cost)

    def _sum_up(self) -> None:
        """Count what the series have counted."""
        for series in self._series.values():
            if series.count:
                _add(self._requests, series.request, series.count)
                series.count = 0
            alone = series.alone
            if alone is not None and alone.count:
                _add(self._attempts, alone.key, alone.count)
                alone.count = 0

    def _forget_series(self) -> None:
        self._sum_up()
        self._series.clear()

    def note_probe(self, record: Record) -> None:
        """Of a health probe only what it used: it is no request, and its failures are its provider's health."""
        for tried in record.attempts:
            self._note_usage(tried)

    def _note_usage(self, tried: Tried) -> None:
        usage = tried.usage
        if usage is not None:
            self._used(tried).note(usage, tried.cost)

    def _used(self, tried: Tried) -> Used:
        which = (tried.provider, self.model(tried.model))
        used = self.used.get(which)
        if used is None:
            used = self.used[which] = Used()
        return used

    def model(self, name: str, *, answered: bool = False) -> str:
        """The label of a model."""
        if self.fleet.catalogue is not self._catalogue:
            self._catalogue = self.fleet.catalogue
            aliased = (entry.settings.model_aliases.values() for entry in self._catalogue.entries.values())
            self._models = {"", *self._catalogue.names(), *(name for names in aliased for name in names)}
        if name in self._models or name in self._learned:
            return name
        if answered and self._has_room_for(name):
            self._learned.add(name)
            self._forget_series()
            return name
        return OTHER

    def _has_room_for(self, name: str) -> bool:
        if _PLAIN.fullmatch(name) is None:
            return False
        members = self.fleet.members.values()
        listed = any(name == info.id for member in members for info in member.gate.found_models or ())
        if listed and self._listed < MOST_LISTED:
            self._listed += 1
            return True
        return len(self._learned) - self._listed < MOST_LEARNED

    def _code(self, code: str) -> str:
        if code not in self._codes:
            if len(self._codes) >= MOST_LEARNED:
                return OTHER
            self._codes.add(code)
        return code

    def copy(self) -> Counts:
        """As it is now: to be read in another thread while this one counts on."""
        made = Counts(self.fleet, dict(self.requests), waited=self.waited.copy(), rescues=self.rescues)
        made._attempts, made.cache = dict(self.attempts), dict(self.cache)
        made.overhead = {key: each.copy() for key, each in self.overhead.items()}
        for key, times in self.times.items():
            copied = made.times[key] = Times()
            copied.duration, copied.first_token = times.duration.copy(), times.first_token.copy()
            copied.gap = times.gap.copy()
        for which, used in self.used.items():
            kept = made.used[which] = Used()
            for name in Used.__slots__:
                setattr(kept, name, getattr(used, name))
        return made


def _add(counted: dict[_Key, int], key: _Key, count: int) -> None:
    counted[key] = counted.get(key, 0) + count


def _attempt(tried: Tried) -> tuple[str, str, str]:
    return tried.provider, tried.outcome, _FAULTS.get(tried.outcome, _PROVIDERS)


def _note_times(times: Times, record: Record) -> None:
    times.duration.note(record.latency)
    first, usage = record.first_token, record.usage
    if first is None:
        return
    times.first_token.note(first)
    if usage is not None and usage.completion_tokens > 1:
        times.gap.note(max(0.0, record.latency - first) / (usage.completion_tokens - 1))
