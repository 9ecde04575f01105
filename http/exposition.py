"""Metrics in Prometheus' text format, written by prometheus_client, which is imported when they are first asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import attrs
import trio

from infermux.watchdog import Watchdog

from .inference import Inference
from .live_values import COUNTER, Value, live_values
from .loop_delay import LoopDelay
from .metrics import Counts, Distribution

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

More = Callable[[], Iterable[Value]]
"""Further values, read when metrics are asked for. What it raises fails the whole answer."""

REQUEST_LABELS = ("endpoint", "model", "provider", "ending", "status", "code", "fault")
TIME_LABELS = ("endpoint", "provider", "model")
USED_LABELS = ("provider", "model")


@attrs.define(eq=False)
class Metrics:
    """All that is exposed. `more` are values of other parts of the router."""

    inference: Inference
    watchdog: Watchdog
    counts: Counts
    delay: LoopDelay = attrs.field(factory=LoopDelay)
    more: list[More] = attrs.field(factory=list[More])

    async def page(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type, in the format that `accept` asks for. Rendered beside the event loop."""
        live = await live_values(self.inference, self.watchdog, self.delay)
        for more in self.more:
            live.extend(more())
        counts = self.counts.copy()
        return await trio.to_thread.run_sync(_rendered, counts, live, accept)


Page = Callable[[str], Awaitable[tuple[bytes, str]]]


def _rendered(counts: Counts, live: list[Value], accept: str) -> tuple[bytes, str]:
    from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once([*_of_requests(counts), *_of_values(live)]))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Once:
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Any]:
        return self._families


def _of_requests(counts: Counts) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily as Counter

    requests = Counter("infermux_requests", "Requests that have ended.", labels=REQUEST_LABELS)
    for key, count in counts.requests.items():
        requests.add_metric([str(part) for part in key], count)
    yield requests
    attempts = Counter("infermux_attempts", "Attempts that have ended.", labels=("provider", "outcome", "fault"))
    for tried, count in counts.attempts.items():
        attempts.add_metric(tried, count)
    yield attempts
    yield Counter("infermux_rescues", "Answers that another provider went on with.", value=counts.rescues)
    cache = Counter("infermux_cache", "Requests by what the cache did for them.", labels=("result",))
    for result, count in counts.cache.items():
        cache.add_metric([result], count)
    yield cache
    yield from _of_times(counts)
    yield from _of_money(counts)


def _of_times(counts: Counts) -> Iterator[Metric]:
    from prometheus_client.core import HistogramMetricFamily as Histogram

    duration = Histogram("infermux_request_duration_seconds", "Time of whole answers.", labels=TIME_LABELS)
    first = Histogram("infermux_first_token_seconds", "Time to the first token of streams.", labels=TIME_LABELS)
    gap = Histogram("infermux_token_gap_seconds", "Mean time between the tokens of a stream.", labels=TIME_LABELS)
    for key, times in counts.times.items():
        _add(duration, key, times.duration)
        _add(first, key, times.first_token)
        _add(gap, key, times.gap)
    yield from (duration, first, gap)
    overhead = Histogram(
        "infermux_overhead_seconds", "Time of requests that went by in the router itself.", labels=("endpoint",)
    )
    for endpoint, each in counts.overhead.items():
        _add(overhead, (endpoint,), each)
    yield overhead
    waited = Histogram("infermux_waited_seconds", "Time of requests that waited for a provider.", labels=())
    _add(waited, (), counts.waited)
    yield waited


def _of_money(counts: Counts) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily as Counter

    tokens = Counter(
        "infermux_tokens", "Tokens used, by OpenTelemetry's type.", labels=(*USED_LABELS, "gen_ai_token_type")
    )
    parts = Counter("infermux_tokens_part", "Tokens that are a part of those, by kind.", labels=(*USED_LABELS, "kind"))
    cost = Counter("infermux_cost_dollars", "US dollars of all attempts whose price is known.", labels=USED_LABELS)
    unpriced = Counter("infermux_unpriced", "Attempts that used tokens at a price nobody knows.", labels=USED_LABELS)
    for which, used in counts.used.items():
        tokens.add_metric((*which, "input"), used.input)
        tokens.add_metric((*which, "output"), used.output)
        for kind in ("cache_read", "cache_creation", "reasoning", "estimated"):
            parts.add_metric((*which, kind), getattr(used, kind))
        cost.add_metric(which, used.cost)
        unpriced.add_metric(which, used.unpriced)
    yield from (tokens, parts, cost, unpriced)


def _add(family: Any, labels: tuple[str, ...], values: Distribution) -> None:
    if not values.count and labels:
        return
    total, buckets = 0, list[tuple[str, float]]()
    for bound, count in zip((*map(str, values.bounds), "+Inf"), values.counts, strict=True):
        total += count
        buckets.append((bound, total))
    family.add_metric(labels, buckets, values.sum)


def _of_values(live: list[Value]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    families: dict[str, Any] = {}
    for value in live:
        family = families.get(value.name)
        if family is None:
            made = CounterMetricFamily if value.kind == COUNTER else GaugeMetricFamily
            family = families[value.name] = made(value.name, value.said, labels=tuple(value.labels))
        family.add_metric(tuple(value.labels.values()), float(value.value))
    return iter(families.values())
