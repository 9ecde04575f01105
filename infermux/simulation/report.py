"""What a simulation came to, in numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import attrs

from .engine import Played, Record

# Refused by the router itself: nothing was sent for them, or nothing that is blamed on a provider.
REJECTIONS = frozenset({"rate_limited", "no_healthy_providers", "overloaded", "budget_exceeded", "queue_timeout"})


@attrs.frozen(kw_only=True)
class Spread:
    """Percentiles in milliseconds; None where there was nothing to measure."""

    p50: float | None
    p95: float | None
    p99: float | None


@attrs.frozen(kw_only=True)
class Share:
    """What one provider did with one of its models. `share` is its part of all whole answers, 0 to 1."""

    provider: str
    model: str
    answered: int
    share: float
    prompt_tokens: int
    completion_tokens: int
    cost: float
    latency: Spread


@attrs.frozen(kw_only=True)
class Report:
    """`seconds` on the virtual clock. `success` is answered / (requests - those whose callers left), 0 to 1.

    `cost` in US dollars, of what callers got. `rejected` are the errors that were the router's own refusals; `errors`
    has all by code.
    """

    seed: int
    seconds: float
    requests: int
    answered: int
    left: int
    rejected: int
    success: float
    cost: float
    attempts: float
    latency: Spread
    first_token: Spread
    providers: tuple[Share, ...]
    errors: dict[str, int]


def report(played: Played, *, seed: int) -> Report:
    """The numbers of one play."""
    records = played.records
    whole = [record for record in records if record.code is None]
    errors = Counter(record.code for record in records if record.code is not None)
    left = errors.pop("caller_left", 0)
    counted = len(records) - left
    return Report(
        seed=seed,
        seconds=round(played.seconds, 3),
        requests=len(records),
        answered=len(whole),
        left=left,
        rejected=sum(count for code, count in errors.items() if code in REJECTIONS),
        success=round(len(whole) / counted, 6) if counted else 1.0,
        cost=round(math.fsum(record.cost for record in records), 6),
        attempts=round(sum(record.attempts for record in records) / len(records), 4) if records else 0.0,
        latency=spread([record.latency for record in whole]),
        first_token=spread([r.first_token for r in whole if r.request.stream and r.first_token is not None]),
        providers=_shares(whole),
        errors=dict(sorted(errors.items())),
    )


def spread(seconds: Sequence[float]) -> Spread:
    """Nearest-rank percentiles."""
    ordered = sorted(seconds)
    return Spread(p50=_at(ordered, 50), p95=_at(ordered, 95), p99=_at(ordered, 99))


def _at(ordered: Sequence[float], percent: int) -> float | None:
    if not ordered:
        return None
    return round(ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1] * 1000, 1)


def _shares(whole: Sequence[Record]) -> tuple[Share, ...]:
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in whole:
        groups.setdefault((record.provider or "", record.model or ""), []).append(record)
    return tuple(_share(name, model, records, len(whole)) for (name, model), records in sorted(groups.items()))


def _share(provider: str, model: str, records: Sequence[Record], total: int) -> Share:
    return Share(
        provider=provider,
        model=model,
        answered=len(records),
        share=round(len(records) / total, 4),
        prompt_tokens=sum(r.usage.prompt_tokens for r in records if r.usage is not None),
        completion_tokens=sum(r.usage.completion_tokens for r in records if r.usage is not None),
        cost=round(math.fsum(r.cost for r in records), 6),
        latency=spread([r.latency for r in records]),
    )
