"""Random schedules of faults, reloads, drains and leaving callers: what must hold under all of them holds."""

from __future__ import annotations

import pytest

from tests.campaign._play import play
from tests.campaign._schedule import schedule
from tests.campaign._truth import overrun
from tests.campaign.run import COMMAND

SEEDS = 50
BATCH = 10
FIRSTS = [0, 10, *(pytest.param(first, marks=pytest.mark.long) for first in range(20, SEEDS, BATCH))]


@pytest.mark.slow
@pytest.mark.parametrize("first", FIRSTS)
def test_every_invariant_holds_under_random_schedules(first: int) -> None:
    wrong = {seed: found for seed in range(first, first + BATCH) if (found := play(schedule(seed)).wrong)}
    assert wrong == {}, "replay: " + "; ".join(COMMAND.format(seed=seed) for seed in wrong)


def test_a_seed_replays_exactly() -> None:
    assert schedule(7) == schedule(7) != schedule(8)
    assert play(schedule(7)) == play(schedule(7))


def test_the_campaign_is_not_idle() -> None:
    """Most requests are answered, and many are not."""
    outcomes = [play(schedule(seed)) for seed in range(6)]
    answered, requests = sum(o.answered for o in outcomes), sum(o.requests for o in outcomes)
    assert 0.2 < answered / requests < 0.95


def test_an_overrun_of_a_limit_is_seen() -> None:
    assert overrun([0.0] * 60, 60) == 0
    assert overrun([*[0.0] * 60, 1.0], 60) == 0
    assert overrun([*[0.0] * 60, 0.5], 60) == 0.5
