"""Whose budgets, and what they set as limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from infermux.actors.budget_rules import Rules
from infermux.actors.identity import NOBODY, Identity
from infermux.actors.purse import PurseKey, nano
from infermux.config.settings import Budget

TEAM = Identity(caller="team-a", key="k1", tags={"env": "prod", "x": "1"})


def keys(budgets: list[Budget], who: Identity = TEAM, group: str = "fast") -> list[str]:
    return [str(each.key) for each in Rules(tuple(budgets)).claims(who, group)]


@pytest.mark.parametrize(
    ("whose", "claimed"),
    [
        ({"caller": "team-a"}, ["caller:team-a/month"]),
        ({"caller": "team-b"}, []),
        ({"caller": "*"}, ["caller:team-a/month"]),
        ({"key": "k1"}, ["key:k1/month"]),
        ({"tag": "env=prod"}, ["tag:env=prod/month"]),
        ({"tag": "env=dev"}, []),
        ({"tag": "env=*"}, ["tag:env=prod/month"]),
        ({"tag": "other=*"}, []),
        ({"group": "fast"}, ["group:fast/month"]),
        ({"group": "*"}, ["group:fast/month"]),
        ({}, ["all/month"]),
    ],
)
def test_a_budget_is_about_whom_it_names(whose: Mapping[str, Any], claimed: list[str]) -> None:
    assert keys([Budget(limit_usd=1, **whose)]) == claimed


def test_everybody_is_whom_no_other_budget_names() -> None:
    budgets = [Budget(caller="*", limit_usd=1), Budget(caller="team-a", limit_usd=50, period="week")]
    assert keys(budgets) == ["caller:team-a/week"]
    assert keys(budgets, Identity(caller="team-b")) == ["caller:team-b/month"]


def test_who_names_no_caller_is_a_caller_without_a_name() -> None:
    assert keys([Budget(caller="*", limit_usd=1)], NOBODY) == ["caller:/month"]


def test_without_key_tag_or_group_there_is_no_budget_about_them() -> None:
    budgets = [Budget(key="*"), Budget(tag="env=*"), Budget(group="*")]
    assert keys(budgets, NOBODY, "") == []


def test_a_key_may_come_with_a_budget_of_its_own() -> None:
    own = Budget(key="k1", limit_usd=3, period="day")
    assert [str(each.key) for each in Rules(()).claims(TEAM, "", own)] == ["key:k1/day"]


@pytest.mark.parametrize(
    ("scope", "name", "lowest"),
    [
        ("caller", "a", 1),
        ("caller", "b", 3),
        ("tag", "team=x", 4),
        ("tag", "team=y", 5),
        ("tag", "crew=y", None),
        ("all", "", 7),
        ("group", "g", None),
        ("key", "k", None),
    ],
)
def test_the_limit_on_a_purse_is_that_of_the_claims_on_it(scope: str, name: str, lowest: int | None) -> None:
    rules = Rules(
        (
            Budget(caller="a", limit_usd=1),
            Budget(caller="a", limit_usd=2),
            Budget(caller="*", limit_usd=3),
            Budget(tag="team=x", limit_usd=4),
            Budget(tag="team=*", limit_usd=5),
            Budget(limit_usd=6, period="day"),
            Budget(limit_usd=7),
            Budget(group="g", limit_usd=8, hard=False),
        )
    )
    found = rules.lowest(PurseKey(scope, name, "month"))
    assert found == (None if lowest is None else nano(lowest))
    tag, _, value = name.partition("=")
    who = Identity(caller=name if scope == "caller" else "", tags={tag: value} if value else {})
    claims = rules.claims(who, name if scope == "group" else "")
    assert found == min((c.limit for c in claims if c.hard and c.key == (scope, name, "month")), default=None)
