"""A decision in words and numbers: each candidate with its score or the reason against it, and each attempt."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from .decisions import Decision
from .plan import Look
from .record import HIT, Record, Tried
from .strategies import SCORES
from .strategy import Choice, Option

FROM_CACHE = "answered from the cache"


def explained(decision: Decision, *, running: bool = False) -> dict[str, Any]:
    """What JSON says of a decision. Times in seconds since the request came, money in US dollars."""
    record = decision.record
    scores = {look.strategy: SCORES.get(look.strategy, "the plugin's own score") for look in decision.looks}
    return {
        **brief(record),
        "state": "running" if running else "ended",
        **({"ending": "", "status": None} if running else {}),
        "message": FROM_CACHE if record.cache == HIT else record.message,
        "tags": dict(record.who.tags),
        "waited": round(record.waited, 6),
        "overhead": round(record.overhead, 6),
        "scores": scores,
        "candidates": [row for look in enumerate(decision.looks, 1) for row in _candidates(*look, decision, running)],
        "attempts": [_attempt(tried) for tried in record.attempts],
    }


def brief(record: Record) -> dict[str, Any]:
    """One line of a listing."""
    usage, fault = record.usage, record.fault
    return {
        "id": record.id,
        "at": round(record.at, 3),
        "endpoint": record.endpoint,
        "stream": record.stream,
        "caller": record.who.caller,
        "key": record.who.key,
        "requested": record.requested,
        "provider": record.provider,
        "model": record.model,
        "group": record.group,
        "strategy": record.strategy,
        "ending": record.ending.value,
        "status": record.status,
        "code": record.code,
        "fault": "" if fault is None else fault.value,
        "tried": len(record.attempts),
        "latency": round(record.latency, 6),
        "first_token": _rounded(record.first_token),
        "prompt_tokens": None if usage is None else usage.prompt_tokens,
        "completion_tokens": None if usage is None else usage.completion_tokens,
        "cost": record.cost,
        "cache": record.cache,
    }


def _attempt(tried: Tried) -> dict[str, Any]:
    return {
        "provider": tried.provider,
        "model": tried.model,
        "started": round(tried.started, 6),
        "ended": round(tried.ended, 6),
        "first_token": _rounded(tried.first_token),
        "outcome": tried.outcome,
        "status": tried.status,
        "usage": None if tried.usage is None else msgspec.to_builtins(tried.usage),
        "cost": tried.cost,
        "probe": tried.probe,
    }


def _candidates(number: int, look: Look, decision: Decision, running: bool) -> Iterator[dict[str, Any]]:
    """Those of one order: first those that were put in order, then those that were not."""
    seen: set[tuple[str, str]] = set()
    place = 0
    for choice in look.steps:
        option = choice.option
        pair = (option.provider, option.model)
        if pair not in seen:  # a provider without samples may be offered twice
            seen.add(pair)
            place += 1
            yield {
                **_named(number, look, *pair),
                "place": place,
                "score": _score(choice) if len(look.steps) > 1 or not look.whole else None,
                "explore": choice.explore,
                "known": _known(option),
                **_verdict(decision, *pair, ordered=True, running=running),
            }
    for candidate in look.candidates:
        pair = (candidate.entry.settings.name, candidate.model)
        if pair not in seen:
            nothing: dict[str, Any] = {"place": None, "score": None, "explore": False, "known": {}}
            yield {
                **_named(number, look, *pair),
                **nothing,
                **_verdict(
                    decision, *pair, ordered=not look.whole, running=running, unsuited=look.unsuited.get(pair, "")
                ),
            }


def _named(number: int, look: Look, provider: str, model: str) -> dict[str, Any]:
    return {"tier": number, "strategy": look.strategy, "group": look.group, "provider": provider, "model": model}


def _verdict(
    decision: Decision, provider: str, model: str, *, ordered: bool, running: bool, unsuited: str = ""
) -> dict[str, Any]:
    """What became of a candidate, and why."""
    outcomes = [
        tried.outcome for tried in decision.record.attempts if (tried.provider, tried.model) == (provider, model)
    ]
    if outcomes:
        return {"verdict": "asked", "reason": outcomes[-1], "detail": ""}
    if unsuited:
        return {"verdict": "left_out", "reason": "unsuited", "detail": unsuited}
    passed_over = decision.passed_over.get((provider, model))
    if passed_over is not None:
        return {"verdict": "refused", "reason": "not_carried", "detail": passed_over.message}
    refusal = decision.refusals.get(provider)
    if refusal is not None:
        return {"verdict": "refused", "reason": refusal.reason.value, "detail": refusal.detail}
    if not ordered:
        why = "the request's own `provider` object leaves it out, or a reload took it away"
        return {"verdict": "left_out", "reason": "not_allowed", "detail": why}
    return {"verdict": "not_asked", "reason": "not_yet" if running else "not_needed", "detail": ""}


def _known(option: Option) -> dict[str, Any]:
    """What was known of an option when it was put in order. The averages are the provider's: those by model go on."""
    standing, price = option.standing, option.price
    response, first = standing.response, standing.first_token
    return {
        "latency": round(response.value, 6) if response.samples else None,
        "first_token": round(first.value, 6) if first.samples else None,
        "samples": response.samples,
        "penalty": round(standing.penalty, 6),
        "load": option.load,
        "weight": option.weight,
        "input_per_million": None if price is None else price.input_per_million,
        "output_per_million": None if price is None else price.output_per_million,
    }


def _score(choice: Choice) -> float | None:
    return round(choice.score, 9) if math.isfinite(choice.score) else None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
