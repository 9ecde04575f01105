"""How many workers there are, and what is said of limits that are too small for them."""

from __future__ import annotations

import os
import sys

import pytest

from infermux.config import load_text
from infermux.config.loader import load_text_checked
from infermux.config.workers import processors, workers_of
from infermux.errors import ConfigError

ONE = "providers: [{name: a, type: ollama, rate_limits: {requests_per_minute: 3, max_concurrent: auto}}]\n"


def test_auto_is_as_many_as_there_are_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_text("workers: auto\n" + ONE)

    def three(_pid: int) -> set[int]:
        return {1, 5, 6}

    monkeypatch.setattr(os, "sched_getaffinity", three, raising=False)
    for quota, found in ((None, 3), (2.5, 2), (0.5, 1), (64.0, 3)):
        monkeypatch.setattr("infermux.config.workers.quota", lambda quota=quota: quota)
        assert workers_of(config) == processors() == found
    assert workers_of(load_text(ONE)) == 1


def test_a_limit_smaller_than_the_workers_is_warned_about() -> None:
    _, warnings = load_text_checked("workers: 4\n" + ONE)
    (warning,) = warnings
    assert warning.path == "providers[0].rate_limits.requests_per_minute"
    assert "1 of them have no part" in warning.message
    assert load_text_checked("workers: 3\n" + ONE)[1] == []


def warned(text: str) -> list[tuple[str, str]]:
    return [(warning.path, warning.message) for warning in load_text_checked(text)[1]]


def test_with_redis_only_what_runs_at_once_has_parts() -> None:
    limits = "{requests_per_minute: 3, tokens_per_minute: 1, max_concurrent: 3}"
    providers = f"providers: [{{name: a, type: ollama, rate_limits: {limits}}}]\n"
    path = "providers[0].rate_limits.max_concurrent"
    [(where, said)] = warned("workers: 4\nstate: {url: 'redis://h', nodes: 1}\n" + providers)
    assert where == path
    assert "(4 workers): where so many run, 1 of them have no part" in said
    [(where, said)] = warned("workers: 2\nstate: {url: 'redis://h', nodes: 5}\n" + providers)
    assert where == path
    assert "(state.nodes x workers = 10): where so many run, 7 of them" in said
    assert warned("workers: 3\nstate: {url: 'redis://h', nodes: 1}\n" + providers) == []


def test_a_hard_budget_of_which_a_worker_s_part_pays_for_no_request_is_warned_about() -> None:
    budgets = "budgets: [{limit_usd: 0.03, period: day}, {limit_usd: 0.03, period: week, hard: false}]\n"
    [(where, said)] = warned("workers: 4\nproviders: [{name: a, type: ollama}]\n" + budgets)
    assert where == "budgets[0].limit_usd"
    assert "is dealt out to 4 workers, less than $0.01 for each" in said
    assert warned("workers: 3\nproviders: [{name: a, type: ollama}]\n" + budgets) == []


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_would_be_each_worker_s_own(url: str) -> None:
    ledger = f"ledger: {{url: '{url}'}}\n"
    with pytest.raises(ConfigError, match=r"ledger\.url: is in memory, where each of several workers would"):
        load_text("workers: 3\n" + ledger + ONE)
    assert load_text(ledger + ONE).workers == 1
    assert load_text("workers: 3\nledger: {url: null}\n" + ONE).ledger.url is None


def test_where_ports_are_not_shared_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ConfigError, match="must be 1 on this system"):
        load_text("workers: 2\n" + ONE)
    with pytest.raises(ConfigError, match="must be 1024 at most"):
        load_text("workers: 5000\n" + ONE)
