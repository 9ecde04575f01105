"""How a key is declared."""

from __future__ import annotations

from typing import Any

import pytest

from infermux.errors import InvalidRequest
from infermux.key_declaration import read_declaration, read_keep_old
from infermux.keys import Allowance, KeyBudget


def test_a_name_is_enough() -> None:
    declared = read_declaration({"name": "team-a"})
    assert (declared.name, declared.allows, declared.lifetime) == ("team-a", Allowance(), None)


def test_everything_a_key_can_have() -> None:
    declared = read_declaration(
        {
            "name": "team/a@example.org",
            "models": ["gpt-*", "gpt-*", "claude-*"],
            "groups": ["fast"],
            "requests_per_minute": 60,
            "tokens_per_minute": 100_000,
            "max_concurrent": 4,
            "budget": "12.5/week",
            "expires": "90d",
            "priority": "batch",
            "names_callers": True,
        }
    )
    assert declared.lifetime == 90 * 86_400
    assert declared.allows == Allowance(
        models=("gpt-*", "claude-*"),
        groups=("fast",),
        requests_per_minute=60,
        tokens_per_minute=100_000,
        max_concurrent=4,
        budget=KeyBudget(limit_usd=12.5, period="week"),
        priority="batch",
        names_callers=True,
    )
    assert str(declared.allows.budget) == "12.5/week"


def test_a_whole_number_is_one_however_json_writes_it() -> None:
    allows = read_declaration({"name": "a", "requests_per_minute": 60.0, "tokens_per_minute": 1e5}).allows
    assert (allows.requests_per_minute, allows.tokens_per_minute) == (60, 100_000)
    assert isinstance(allows.requests_per_minute, int)


def test_null_is_not_given() -> None:
    assert read_declaration({"name": "a", "budget": None, "models": None}).allows == Allowance()


WRONG: dict[str, tuple[Any, ...]] = {
    "name": ("", " a", "a b", "a\nb", "-a", "x" * 101, 5, "é", "infermux"),
    "models": ("gpt-4o", [], [""], [5], ["x" * 201], ["m"] * 101, {}),
    "groups": ("fast", [], [None]),
    "requests_per_minute": (0, -1, 1.5, "60", True, 2**54, 1e300, float("inf"), float("nan")),
    "tokens_per_minute": (0,),
    "max_concurrent": (0,),
    "budget": ("50", "50/year", "0/day", "-1/day", "much/day", "inf/day", "nan/day", 50, "1e999/day"),
    "expires": ("0d", "90", "-1d", "soon", "0s", "100000d", 90),
    "priority": ("urgent", 1, None.__class__),
    "names_callers": ("yes", 1),
}
CASES = [(field, value) for field, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("field", "value"), CASES)
def test_what_is_wrong_is_named_with_its_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        read_declaration({"name": "a", field: value})
    assert wrong.value.param == field
    assert wrong.value.message.startswith((f"{field} must be ", f"{field} must not be "))


def test_what_is_not_known_is_refused_and_a_name_is_required() -> None:
    with pytest.raises(InvalidRequest, match=r"unknown field 'rpm'; there are: name, models"):
        read_declaration({"name": "a", "rpm": 5})
    with pytest.raises(InvalidRequest, match="name is required"):
        read_declaration({})


def test_the_overlap_of_a_rotation() -> None:
    assert read_keep_old({}) == 0
    assert read_keep_old({"keep_old": "1h"}) == 3600
    for wrong in ({"keep_old": "0s"}, {"keep_old": 5}, {"keep": "1h"}):
        with pytest.raises(InvalidRequest):
            read_keep_old(wrong)
