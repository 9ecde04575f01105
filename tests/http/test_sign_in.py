"""Cookies of the dashboard's page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermux.http.sign_in import LASTS, Visits


class Clock:
    now = 1_800_000_000.5

    def __call__(self) -> float:
        return self.now


def test_a_visit_lasts_as_long_as_it_is_said_to_and_no_longer() -> None:
    clock = Clock()
    visits = Visits(clock)
    cookie = visits.begun()
    clock.now += LASTS - 1
    assert visits.lasts(cookie)
    clock.now += 1
    assert not visits.lasts(cookie)


def test_another_process_does_not_know_it() -> None:
    assert not Visits(Clock()).lasts(Visits(Clock()).begun())


def test_what_makes_it_is_not_shown() -> None:
    visits = Visits(Clock(), key=b"k" * 32)
    assert "kkk" not in repr(visits)


@given(st.text())
@pytest.mark.filterwarnings("error")
def test_nothing_else_is_one(text: str) -> None:
    assert not Visits(Clock()).lasts(text)
