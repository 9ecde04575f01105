"""Metrics for Prometheus, written by `metric_text`.

What is known of the process and of the garbage collector, and which format a scraper asks for, prometheus_client tells,
which is imported when metrics are first asked for.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import attrs
import trio

from infermux.watchdog import Watchdog

from .inference import Inference
from .live_values import Value, live_values
from .loop_delay import LoopDelay
from .metric_text import COUNTER, HISTOGRAM, Family, labelled, text_of
from .metrics import Counts

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

More = Callable[[], Iterable[Value]]
"""Further values, read when metrics are asked for. What it raises fails the whole answer."""

REQUEST_LABELS = ("endpoint", "model", "provider", "ending", "status", "code", "fault")
TIME_LABELS = ("endpoint", "provider", "model")
USED_LABELS = ("provider", "model")
OPENMETRICS_END = "# EOF\n"
SHORT = 64 * 1024
"""Bytes of a page that is rendered in the event loop. That takes a millisecond or two, for which a thread would hold
the interpreter as well; and waking it up costs half of that.
"""


@attrs.define(eq=False)
class Metrics:
    """All that is exposed. `more` are values of other parts of the router."""

    inference: Inference
    watchdog: Watchdog
    counts: Counts
    delay: LoopDelay = attrs.field(factory=LoopDelay)
    more: list[More] = attrs.field(factory=list[More])
    _length: float = math.inf  # of the last page, once there is one: imports are for a thread

    async def page(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type, in the format that `accept` asks for.

        Rendered beside the event loop, unless the last one was `SHORT`: they grow slowly.
        """
        live = await live_values(self.inference, self.watchdog, self.delay)
        for more in self.more:
            live.extend(more())
        if self._length <= SHORT:
            page = _rendered(self.counts, live, accept)
        else:
            page = await trio.to_thread.run_sync(_rendered, self.counts.copy(), live, accept)
        self._length = len(page[0])
        return page


Page = Callable[[str], Awaitable[tuple[bytes, str]]]


def _rendered(counts: Counts, live: list[Value], accept: str) -> tuple[bytes, str]:
    from prometheus_client.exposition import choose_encoder

    _, content_type = choose_encoder(accept)
    openmetrics = content_type.startswith("application/openmetrics-text")
    text = text_of([*_of_requests(counts), *_of_values(live), *_of_process()], openmetrics=openmetrics)
    return (text + OPENMETRICS_END if openmetrics else text).encode(), content_type


def _of_process() -> Iterator[Family]:
    for metric in _process().collect():
        family = Family(metric.name, metric.documentation, metric.type)
        for sample in metric.samples:
            family.add(tuple(sample.labels.items()), sample.value)
        yield family


@lru_cache(maxsize=1)
def _process() -> CollectorRegistry:
    """What asks the system. Made once: it begins with reading when the machine was started."""
    from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector

    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def _of_requests(counts: Counts) -> Iterator[Family]:
    requests = Family("infermux_requests", "Requests that have ended.", COUNTER)
    for key, count in counts.requests.items():
        requests.add(labelled(REQUEST_LABELS, key), count)
    yield requests
    attempts = Family("infermux_attempts", "Attempts that have ended.", COUNTER)
    for tried, count in counts.attempts.items():
        attempts.add(labelled(("provider", "outcome", "fault"), tried), count)
    yield attempts
    rescues = Family("infermux_rescues", "Answers that another provider went on with.", COUNTER)
    rescues.add((), counts.rescues)
    yield rescues
    cache = Family("infermux_cache", "Requests by what the cache did for them.", COUNTER)
    for result, count in counts.cache.items():
        cache.add((("result", result),), count)
    yield cache
    yield from _of_times(counts)
    yield from _of_money(counts)


def _of_times(counts: Counts) -> Iterator[Family]:
    duration = Family("infermux_request_duration_seconds", "Time of whole answers.", HISTOGRAM)
    first = Family("infermux_first_token_seconds", "Time to the first token of streams.", HISTOGRAM)
    gap = Family("infermux_token_gap_seconds", "Mean time between the tokens of a stream.", HISTOGRAM)
    for key, times in counts.times.items():
        labels = labelled(TIME_LABELS, key)
        for family, values in ((duration, times.duration), (first, times.first_token), (gap, times.gap)):
            if values.count:
                family.distribute(labels, values.bounds, values.counts, values.sum)
    yield from (duration, first, gap)
    overhead = Family("infermux_overhead_seconds", "Time of requests that went by in the router itself.", HISTOGRAM)
    for endpoint, each in counts.overhead.items():
        if each.count:
            overhead.distribute((("endpoint", endpoint),), each.bounds, each.counts, each.sum)
    yield overhead
    waited = Family("infermux_waited_seconds", "Time of requests that waited for a provider.", HISTOGRAM)
    waited.distribute((), counts.waited.bounds, counts.waited.counts, counts.waited.sum)
    yield waited


def _of_money(counts: Counts) -> Iterator[Family]:
    tokens = Family("infermux_tokens", "Tokens used, by OpenTelemetry's type.", COUNTER)
    parts = Family("infermux_tokens_part", "Tokens that are a part of those, by kind.", COUNTER)
    cost = Family("infermux_cost_dollars", "US dollars of all attempts whose price is known.", COUNTER)
    unpriced = Family("infermux_unpriced", "Attempts that used tokens at a price nobody knows.", COUNTER)
    for which, used in counts.used.items():
        labels = labelled(USED_LABELS, which)
        tokens.add((*labels, ("gen_ai_token_type", "input")), used.input)
        tokens.add((*labels, ("gen_ai_token_type", "output")), used.output)
        for kind in ("cache_read", "cache_creation", "reasoning", "estimated"):
            parts.add((*labels, ("kind", kind)), getattr(used, kind))
        cost.add(labels, used.cost)
        unpriced.add(labels, used.unpriced)
    yield from (tokens, parts, cost, unpriced)


def _of_values(live: list[Value]) -> Iterable[Family]:
    families: dict[str, Family] = {}
    for value in live:
        family = families.get(value.name)
        if family is None:
            family = families[value.name] = Family(value.name, value.said, value.kind)
        family.add(tuple(value.labels.items()), value.value)
    return families.values()
