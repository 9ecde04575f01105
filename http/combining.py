"""What several workers say of themselves as one answer: pure functions over decoded JSON and metrics.

Numbers are summed and lists joined, unless the key says otherwise; of states the worst counts, of the rest the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

Json = dict[str, Any]
Said = Sequence[tuple[int, Any]]
"""The places of those who answered, each with what it said."""

_LARGEST: Final = frozenset(
    {"uptime_seconds", "longest_ms", "ms", "consecutive_failures", "spent_usd", "at", "since", "until", "last", "nodes"}
)
_FIRST: Final = frozenset(
    {
        "version",
        "strategy",
        "default_model",
        "limit_usd",
        "ttl_seconds",
        "largest_answer",
        "models",
        "aliases",
        "hit_rate",
    }
)
_ALL: Final = frozenset({"draining"})  # true where it is of everyone; other truths where they are of anyone
_MEANS: Final = frozenset({"error_rate", "slow_start"})
_WORST: Final = {
    "health": ("unhealthy", "config_error", "unknown", "healthy", "unchecked"),
    "state": ("unhealthy", "open", "config_error", "half_open", "unknown", "healthy", "unchecked", "closed"),
    "circuit": ("open", "half_open", "closed"),
}


def combined(values: Sequence[Any], key: str = "") -> Any:
    """One value out of those that workers gave for `key`."""
    given = [value for value in values if value is not None]
    if not given:
        return None
    first = given[0]
    if key in _WORST and isinstance(first, str):
        order = _WORST[key]
        return min(given, key=lambda each: order.index(each) if each in order else len(order))
    if key in _FIRST or isinstance(first, str):
        return first
    if isinstance(first, bool):
        return all(given) if key in _ALL else any(given)
    if isinstance(first, int | float):
        return _number(given, key)
    if isinstance(first, list):
        return [row for each in given for row in each]
    return _mapping(given)


def _number(given: list[Any], key: str) -> Any:
    if key in _LARGEST:
        return max(given)
    total = sum(given)
    if key in _MEANS:
        return round(total / len(given), 4)
    return round(total, 6) if isinstance(total, float) else total


def _mapping(given: Sequence[Json]) -> Json:
    if given[0].keys() == {"seconds", "samples"}:  # a moving average
        samples = sum(each["samples"] for each in given)
        seconds = sum(each["seconds"] * each["samples"] for each in given) / samples if samples else 0.0
        return {"seconds": round(seconds, 6), "samples": samples}
    keys = dict.fromkeys(key for each in given for key in each)
    return {key: combined([each.get(key) for each in given], key) for key in keys}


def by_name(rows: Iterable[tuple[int, Json]], of: str = "name") -> dict[str, list[tuple[int, Json]]]:
    """Rows of several workers about the same thing, in the order of their first coming."""
    found: dict[str, list[tuple[int, Json]]] = {}
    for place, row in rows:
        found.setdefault(row[of], []).append((place, row))
    return found


def marked(said: Said, key: str) -> list[Json]:
    """The rows below `key`, each with the worker that it is from."""
    return [{**row, "worker": place} for place, each in said for row in each[key]]


_DETAIL: Final = ("routable", "reason", "health", "circuit", "in_flight")


def provider(rows: Said) -> Json:
    """One provider, as all workers together see it; `workers` has how each does."""
    whole: Json = combined([row for _, row in rows])
    if whole["routable"]:
        whole["reason"] = None
        if "blocked_for" in whole:
            whole["blocked_for"] = None
    if "blocked_for" in whole and not whole["routable"]:
        left = [row["blocked_for"] for _, row in rows if row["blocked_for"] is not None]
        whole["blocked_for"] = min(left) if left else None
    if "transitions" in whole:
        found = marked(rows, "transitions")
        whole["transitions"] = sorted(found, key=lambda each: -each["seconds_ago"])
    whole["workers"] = [{"worker": place, **{key: _word(row[key]) for key in _DETAIL}} for place, row in rows]
    return whole


def _word(value: Any) -> Any:
    return cast("Json", value)["state"] if isinstance(value, dict) else value


def providers(said: Said) -> list[Json]:
    """All of them."""
    rows = [(place, row) for place, each in said for row in each["providers"]]
    return [provider(same) for same in by_name(rows).values()]


def status(said: Said) -> Json:
    """`GET status`."""
    whole: Json = combined([{**each, "providers": None} for _, each in said])
    whole["providers"] = providers(said)
    whole["routable"] = sum(row["routable"] for row in whole["providers"])
    told = ("uptime_seconds", "ready", "draining", "in_flight", "routable", "event_loop")
    whole["workers"] = [{"worker": place, **{key: each[key] for key in told}} for place, each in said]
    return whole


def requests(said: Said, most: int) -> Json:
    """`GET requests`: the oldest first."""
    rows = sorted(marked(said, "requests"), key=lambda row: -row["age"])
    return {"running": sum(each["running"] for _, each in said), "requests": rows[:most]}


def decisions(said: Said, most: int) -> Json:
    """`GET explain`: the newest first."""
    rows = sorted(marked(said, "decisions"), key=lambda row: -row["at"])
    return {"kept": sum(each["kept"] for _, each in said), "decisions": rows[:most]}


def keys(said: Said) -> Json:
    """`GET keys`: what is left is the sum of what the workers have left."""
    rows = [(place, row) for place, each in said for row in each["keys"]]
    return {"keys": [key(same) for same in by_name(rows, "id").values()]}


def key(said: Said) -> Json:
    """One key."""
    whole: Json = dict(said[0][1])
    whole["use"] = combined([row["use"] for _, row in said])
    whole["spent_usd"] = combined([row["spent_usd"] for _, row in said], "spent_usd")
    return whole


def budgets(said: Said) -> Json:
    """`GET budgets`: what is spent everybody knows, what is promised is each one's own."""
    rows: dict[tuple[str, bool, float], list[Json]] = {}
    for _, each in said:
        for row in each["budgets"]:
            rows.setdefault((row["budget"], row["hard"], row["limit_usd"]), []).append(row)
    return {"budgets": [_budget(same) for same in rows.values()]}


def _budget(rows: list[Json]) -> Json:
    whole: Json = dict(rows[0])
    whole["spent_usd"] = max(row["spent_usd"] for row in rows)
    whole["reserved_usd"] = sum(row["reserved_usd"] for row in rows)
    whole["left_usd"] = max(0.0, whole["limit_usd"] - whole["spent_usd"] - whole["reserved_usd"])
    whole["exceeded"] = whole["spent_usd"] >= whole["limit_usd"]
    whole["unpriced_answers"] = sum(row["unpriced_answers"] for row in rows)
    return whole


def cache(said: Said) -> Json:
    """`GET` and `DELETE cache`: each worker has one of its own."""
    whole: Json = combined([each for _, each in said])
    if whole.get("hits") is not None:
        asked = whole["hits"] + whole["misses"]
        whole["hit_rate"] = round(whole["hits"] / asked, 4) if asked else None
    return whole


def overview(said: Said) -> Json:
    """`GET overview` and the events that are alike."""
    apart = ("providers", "requests", "history", "decisions")
    whole: Json = combined([{key: value for key, value in each.items() if key not in apart} for _, each in said])
    whole["providers"] = providers(said)
    whole["requests"] = sorted(marked(said, "requests"), key=lambda row: -row["age"])[:100]
    whole["history"] = _history([each["history"] for _, each in said])
    if all("decisions" in each for _, each in said):
        whole["decisions"] = sorted(marked(said, "decisions"), key=lambda row: -row["at"])[:50]
    whole["workers"] = [
        {"worker": place, "in_flight": each["in_flight"], "ready": each["ready"]} for place, each in said
    ]
    return whole


def _history(each: Sequence[Json]) -> Json:
    """Steps are numbered by clocks that began at different times: they are alike by how long ago they were."""
    whole = dict(each[0])
    now, names = whole["now"], dict.fromkeys(name for one in each for name in one["providers"])
    whole["providers"] = {}
    for name in names:
        steps: dict[int, list[list[Any]]] = {}
        for one in each:
            for step in one["providers"].get(name, ()):
                steps.setdefault(now - (one["now"] - step[0]), []).append(step)
        whole["providers"][name] = [_step(number, steps[number]) for number in sorted(steps)]
    return whole


def _step(number: int, same: list[list[Any]]) -> list[Any]:
    ok, failed = sum(step[1] for step in same), sum(step[2] for step in same)
    return [number, ok, failed, _mean(same, 3), _mean(same, 4)]


def _mean(steps: list[list[Any]], of: int) -> float | None:
    known = [(step[of], step[1]) for step in steps if step[of] is not None]
    weight = sum(count for _, count in known)
    return round(sum(value * count for value, count in known) / weight, 4) if weight else None


# Metrics.

_MAX: Final = (
    "infermux_draining",
    "infermux_event_loop_",
    "infermux_provider_routable",
    "infermux_provider_blocked",
    "infermux_provider_health",
    "infermux_provider_circuit",
    "infermux_state_degraded",
    "infermux_state_nodes",
    "infermux_state_slowest_seconds",
    "infermux_budget_limit",
    "infermux_budget_spent",
    "process_max_fds",
    "python_info",
)
_MIN: Final = ("infermux_ledger_available", "process_start_time")
_MEAN: Final = ("infermux_provider_latency_seconds", "infermux_provider_first_token_seconds")
_TOTALS: Final = frozenset({"counter", "histogram", "summary"})
_COUNTED: Final = frozenset({"infermux_event_loop_holds"})


How = Callable[[list[float]], float]


def rule(name: str) -> How:
    """How values of a metric become one: summed, unless it is a state, an extreme or an average.

    In whichever order they come: a sum that is a bit less than it was would be a counter that has begun anew.
    """
    if name in _COUNTED:
        return math.fsum
    for rules, how in ((_MAX, max), (_MIN, min), (_MEAN, _average)):
        if name.startswith(rules):
            return how
    return math.fsum


def _average(values: list[float]) -> float:
    return sum(values) / len(values)


def counted(workers: int, answering: int) -> dict[str, tuple[str, float]]:
    """Metrics about the workers themselves: gauges by name, with their help."""
    return {
        "infermux_workers": ("Worker processes there should be.", float(workers)),
        "infermux_workers_answering": ("Worker processes that these numbers are of.", float(answering)),
    }


def metrics(
    pages: Sequence[str], more: Mapping[str, tuple[str, float]], accept: str, former: Sequence[str] = ()
) -> tuple[bytes, str]:
    """Several pages of Prometheus' text as one, in the format that `accept` asks for. `more`: gauges, with their help.

    Of `former` pages only what adds up is taken. Takes its time: for a thread.
    """
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.exposition import choose_encoder

    families = _summed(pages, former)
    families += [GaugeMetricFamily(name, said, value=value) for name, (said, value) in more.items()]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def totals(pages: Sequence[str]) -> bytes:
    """What adds up of these pages, as one that can be put behind another. Takes its time: for a thread."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(_summed((), pages, _at_least)))
    return generate_latest(registry)


def _at_least(values: list[float]) -> float:
    """Their sum, not rounded down: what it is added to later must not be less than if they had been."""
    total = math.fsum(values)
    exact = len(values) == 1 or all(float(value).is_integer() for value in values)
    return total if exact else math.nextafter(total, math.inf)


def _summed(pages: Sequence[str], former: Sequence[str], how: How | None = None) -> list[Metric]:
    """`how` values become one, unless the rule of their metric says that."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, list[Metric]] = {}
    for page in pages:
        for family in text_string_to_metric_families(page):
            found.setdefault(family.name, []).append(family)
    for page in former:
        for family in text_string_to_metric_families(page):
            if family.type in _TOTALS and rule(family.name) is math.fsum:
                found.setdefault(family.name, []).append(family)
    return [_family(same, how or rule(name)) for name, same in found.items()]


class _Families:
    def __init__(self, families: list[Any]) -> None:
        self._families = families

    def collect(self) -> list[Any]:
        return self._families


def _family(same: list[Metric], how: How) -> Metric:
    from prometheus_client.metrics_core import Metric as Made

    first = same[0]
    values: dict[tuple[str, tuple[tuple[str, str], ...]], list[float]] = {}
    for family in same:
        for sample in family.samples:
            values.setdefault((sample.name, tuple(sample.labels.items())), []).append(sample.value)
    whole = Made(first.name, first.documentation, first.type)
    for (name, labels), each in values.items():
        whole.add_sample(name, dict(labels), how(each))
    return whole
