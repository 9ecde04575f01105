"""What is said about a key that may not be what its maker means."""

from __future__ import annotations

import pytest

from infermux.config import load_text
from infermux.key_doubts import doubts
from infermux.keys import Allowance

CONFIG = load_text(
    "providers: [{name: a, type: ollama, models: [fast-1, slow-1], model_aliases: {quick: fast-1}}]\n"
    "routing: {groups: [{name: fast, models: ['fast-*', quick]}, {name: slow, models: ['slow-*']}]}\n",
    environ={},
)


@pytest.mark.parametrize(
    ("models", "groups"),
    [((), ()), (("gone",), ()), ((), ("fast",)), (("fast-*",), ("fast",)), (("qu*",), ("slow", "fast"))],
)
def test_nothing_is_said_of_what_allows_something(models: tuple[str, ...], groups: tuple[str, ...]) -> None:
    assert list(doubts(Allowance(models=models, groups=groups), CONFIG)) == []


def test_what_is_in_no_group_that_is_allowed_allows_nothing() -> None:
    [said] = doubts(Allowance(models=("slow-*", "other"), groups=("fast",)), CONFIG)
    assert said.startswith("models and groups both have to allow a request, and no model")
    assert said.endswith("is in fast and matches slow-*, other: it may be that this key allows nothing")


def test_groups_that_nobody_declares_are_named() -> None:
    assert list(doubts(Allowance(models=("m",), groups=("fats", "fast")), CONFIG)) == [
        "the configuration declares no route group named 'fats'"
    ]


def test_a_limit_of_which_some_workers_have_no_part_is_told() -> None:
    config = load_text("workers: 3\nproviders: [{name: a, type: ollama}]\n", environ={})
    assert list(doubts(Allowance(requests_per_minute=3, max_concurrent=1), config)) == [
        "max_concurrent is smaller than the number of workers (3): 2 of them refuse this key"
    ]


def test_limits_a_minute_that_are_shared_through_redis_have_no_parts() -> None:
    text = "workers: 3\nstate: {url: 'redis://h'}\nproviders: [{name: a, type: ollama}]\n"
    said = list(doubts(Allowance(requests_per_minute=1, tokens_per_minute=1, max_concurrent=1), load_text(text)))
    assert [each.partition(" ")[0] for each in said] == ["max_concurrent"]
