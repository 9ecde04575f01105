"""Health probes cost money: they are in the ledger, in the metrics of money, and in budgets."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.record import Ending, Record
from infermux.config.settings import Budget, HealthCheck, Price, ProbeMethod, ProviderSettings
from infermux.errors import FailureKind
from infermux.providers.interface import Usage
from tests.actors._scripted import SERVER_ERROR, Step, World, fails, provider, world

ONE = Price(input_per_million=1_000_000.0, output_per_million=1_000_000.0)  # a dollar a token
TOLD = Step(usage=Usage(prompt_tokens=3, completion_tokens=1))


def probed(**check: Any) -> ProviderSettings:
    return provider("a", "m", health_check=HealthCheck(interval=10.0, timeout=5.0, **check))


def records(w: World) -> list[Record]:
    found: list[Record] = []
    w.fleet.journal.listen_to_probes(found.append)
    return found


async def test_a_probe_is_a_record_of_the_router_itself(autojump_clock: MockClock) -> None:
    async with world(probed(), probes={"a": [TOLD]}, pricing={"a": {"m": ONE}}) as w:
        requests: list[Record] = []
        w.fleet.journal.listen(requests.append)
        await trio.sleep(1)
        [record] = records(w)  # it had ended before anybody could listen
        assert (record.who.caller, record.endpoint, record.provider, record.model) == ("infermux", "probe", "a", "m")
        assert (record.ending, record.status, record.usage, record.cost) == (Ending.OK, 200, TOLD.usage, 4.0)
        assert requests == []


async def test_it_is_spent_of_the_budgets_that_are_about_it_and_refused_by_none(autojump_clock: MockClock) -> None:
    budgets = (Budget(limit_usd=2, period="day"), Budget(caller="*", limit_usd=9, period="day"))
    async with world(probed(), probes={"a": [TOLD]}, pricing={"a": {"m": ONE}}, budgets=budgets) as w:
        await trio.sleep(1)
        assert {row["budget"]: row["spent_usd"] for row in w.fleet.treasury.statement()} == {
            "all/day": 4,
            "caller:infermux/day": 4,
        }
        await trio.sleep(12)
        assert len(w["a"].probed) == 2


@pytest.mark.parametrize(
    ("step", "used"),
    [
        (Step(usage=None), Usage(prompt_tokens=8, completion_tokens=1, estimated=True)),
        (Step(usage=Usage(prompt_tokens=10**30)), Usage(prompt_tokens=8, completion_tokens=1, estimated=True)),
        (Step(hangs=True), Usage(prompt_tokens=8, estimated=True)),
        (SERVER_ERROR, None),
    ],
)
async def test_what_is_not_told_is_estimated(step: Step, used: Usage | None, autojump_clock: MockClock) -> None:
    async with world(probed(), probes={"a": [step]}) as w:
        await trio.sleep(8)
        [record] = records(w)
        assert (record.usage, record.cost) == (used, None)


async def test_a_probe_that_failed_says_why(autojump_clock: MockClock) -> None:
    async with world(probed(), probes={"a": [fails(FailureKind.CREDENTIALS, status=401)]}) as w:
        await trio.sleep(1)
        [record] = records(w)
        assert (record.ending, record.status, record.code) == (Ending.REFUSED, 401, "credentials")


async def test_listing_models_costs_nothing_and_is_no_record(autojump_clock: MockClock) -> None:
    async with world(probed(method=ProbeMethod.MODELS), pricing={"a": {"m": ONE}}) as w:
        await trio.sleep(25)
        assert records(w) == []
