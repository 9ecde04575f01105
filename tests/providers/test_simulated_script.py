"""Fault scripts: what is refused, and in what order steps are used."""

from __future__ import annotations

import math
from typing import Any

import pytest

from infermux.providers.simulated_script import NORMAL, check_script, parse_script


@pytest.mark.parametrize(
    "step",
    [
        {"ok": True},
        {"status": 500},
        {"status": 429, "retry_after": 2},
        {"status": 429, "retry_after": "250ms"},
        {"status": 400, "code": "context_length_exceeded", "message": "too long"},
        {"hang": True},
        {"refuse": True, "times": 3},
        {"malformed": True, "repeat": True},
        {"cut_after": 0},
        {"stall_after": 5, "for": "30s"},
        {"stall_after": 5, "cut_after": 7},
        {"first_token": "3s"},
        {"tokens_per_second": 5},
        {"ok": True, "first_token": "1m30s"},
        {"from": "10s", "to": "20s", "status": 503},
        {"from": 10, "hang": True},
    ],
)
def test_what_the_documentation_shows_is_accepted(step: dict[str, Any]) -> None:
    assert check_script([step]) == []
    parse_script([step])


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("status", "must be a list of steps"),
        ([5], "[0]: must be a mapping"),
        ([{"ok": True}, {"explode": True}], "[1].explode: unknown key"),
        ([{3: True}], "[0].3: unknown key"),
        ([{"status": 200}], "[0].status: must be a status from 400 to 599, not 200"),
        ([{"status": True}], "[0].status"),
        ([{"hang": False}], "[0].hang: must be true"),
        ([{"cut_after": -1}], "[0].cut_after: must be a number of tokens"),
        ([{"cut_after": 1.5}], "[0].cut_after"),
        ([{"first_token": "soon"}], "[0].first_token: must be a duration"),
        ([{"first_token": math.inf}], "[0].first_token: must be a duration"),
        ([{"status": 500, "times": 0}], "[0].times: must be a number of requests"),
        ([{"status": 500, "hang": True}], "[0]: takes one of"),
        ([{"times": 2}], "[0]: says nothing to do"),
        ([dict[str, object]()], "[0]: says nothing to do"),
        ([{"ok": True, "retry_after": 2}], "[0]: `retry_after` needs `status`"),
        ([{"cut_after": 5, "for": "3s"}], "[0]: `for` needs `stall_after`"),
        ([{"hang": True, "tokens_per_second": 1}], "[0]: `tokens_per_second` has no meaning beside `hang`"),
        ([{"status": 500, "from": 1, "times": 2}], "[0]: a window"),
        ([{"status": 500, "times": 2, "repeat": True}], "[0]: takes `times` or `repeat`"),
        ([{"ok": True, "repeat": True}, {"status": 500}], "[0].repeat: the steps after"),
        ([{"status": 500, "from": "20s", "to": "10s"}], "[0].to: must be later than `from`"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(script: object, problem: str) -> None:
    assert any(found.startswith(problem) for found in check_script(script)), check_script(script)


def test_all_problems_are_named_at_once() -> None:
    assert len(check_script([{"status": 1, "hang": 2, "x": 3}, 4])) == 5


def test_steps_come_in_order_as_often_as_they_say_and_then_never_again() -> None:
    script = parse_script([{"status": 500}, {"status": 501, "times": 2}, {"ok": True}])
    assert [script.next_step(0.0).status for _ in range(6)] == [500, 501, 501, None, None, None]
    assert script.next_step(0.0) is NORMAL


def test_a_step_that_repeats_stays() -> None:
    script = parse_script([{"status": 500}, {"status": 503, "repeat": True}])
    assert script.standing(0.0) is NORMAL
    assert [script.next_step(0.0).status for _ in range(4)] == [500, 503, 503, 503]
    assert script.standing(0.0).status == 503


def test_windows_hold_from_their_start_until_their_end() -> None:
    script = parse_script([{"from": "10s", "to": "20s", "status": 503}, {"to": 5, "status": 502}, {"status": 500}])
    assert script.next_step(0.0).status == 502
    assert script.next_step(5.0).status == 500
    assert script.next_step(9.9) is NORMAL
    assert script.next_step(10.0).status == 503
    assert script.standing(19.9).status == 503
    assert script.standing(20.0) is NORMAL


def test_its_repr_says_what_is_left() -> None:
    assert repr(parse_script([{"ok": True}, {"from": 1, "hang": True}])) == "Script(1 steps left, 1 windows)"
