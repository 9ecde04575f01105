"""Fault scripts: the loader takes what the simulated provider takes."""

from __future__ import annotations

from typing import Any

import pytest

from infermux.config import load_text
from infermux.config.provider_section import STEP
from infermux.config.script import clashes, never_reached
from infermux.providers import simulated_script

GOOD: list[dict[str, Any]] = [
    {"ok": True},
    {"status": 503, "times": 3},
    {"status": 429, "retry_after": 3.0, "code": "slow", "message": "slow down"},
    {"hang": True, "from": 1.0, "to": 2.0},
    {"cut_after": 3, "stall_after": 1, "for": 2.0},
    {"first_token": 0.5, "tokens_per_second": 0},
    {"malformed": True},
    {"refuse": True, "repeat": True},
]
BAD: list[dict[str, Any]] = [
    {},
    {"times": 2},
    {"hang": True, "refuse": True},
    {"ok": True, "retry_after": 1.0},
    {"ok": True, "for": 1.0},
    {"hang": True, "tokens_per_second": 5},
    {"ok": True, "from": 1.0, "times": 2},
    {"ok": True, "times": 2, "repeat": True},
]


@pytest.mark.parametrize("step", GOOD)
def test_good_steps_clash_neither_here_nor_there(step: dict[str, Any]) -> None:
    assert clashes(step) == []
    assert simulated_script.check_script([step]) == []


@pytest.mark.parametrize("step", BAD)
def test_bad_steps_clash_here_and_there(step: dict[str, Any]) -> None:
    assert clashes(step)
    assert simulated_script.check_script([step])


def test_a_step_after_the_last_one_is_never_reached() -> None:
    assert never_reached(({"ok": True, "repeat": True}, {"ok": True})) == 0
    assert never_reached(({"ok": True}, {"ok": True, "repeat": True})) is None
    assert never_reached(({"ok": True, "repeat": True}, {"ok": True, "from": 1.0})) is None


def test_every_key_of_a_step_may_be_written_down() -> None:
    assert {key for step in GOOD for key in step} == set(STEP.by_name)
    text = f"providers: [{{name: a, type: simulated, simulate: {{script: {GOOD}}}}}]".replace("'", "")
    script = load_text(text.replace("True", "true"), environ={}).providers[0].simulate.script
    assert [dict(step) for step in script[:3]] == GOOD[:3]
