"""Budgets in a running fleet: nothing is sent that has no room, and what was spent survives."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from infermux.actors.identity import Identity
from infermux.actors.treasury import TREASURY, Exceeded
from infermux.config.settings import Budget, Config, Group, Hedge, Price, ProviderSettings, Retry, Routing
from infermux.errors import BudgetExceeded, CallerLeft, UpstreamError
from infermux.keys import KeyBudget
from infermux.providers.interface import Endpoint, Usage
from tests.actors._scripted import HANGS, SERVER_ERROR, Person, Poison, Step, World, streams, two, world

START = 1_795_348_800.0  # 2026-11-22T12:00Z, a Sunday
ONE = Price(input_per_million=1_000_000.0, output_per_million=1_000_000.0)  # a dollar a token
PRICES = {name: {"m": ONE} for name in "abc"}
TEAM = Identity(caller="team-a")
SPENDS_3 = Step(usage=Usage(prompt_tokens=1, completion_tokens=2))
TEN = Budget(caller="team-a", limit_usd=10)


@asynccontextmanager
async def budgeted(
    *budgets: Budget, providers: Sequence[ProviderSettings] | None = None, **config: Any
) -> AsyncGenerator[World]:
    """A fleet of a and b, whose model m costs a dollar a token, at noon of a Sunday."""
    config.setdefault("pricing", PRICES)
    config.setdefault("routing", Routing(strategy="priority"))
    async with world(*(providers or two()), budgets=budgets, **config) as w:
        w.fleet.treasury.clock = lambda: START + trio.current_time()
        for wire in w.wires.values():
            wire.rest = SPENDS_3
        yield w


async def chat(w: World, who: Identity = TEAM, *, tokens: int = 2, **more: Any) -> None:
    """A request of one prompt token that may get `tokens` of an answer."""
    await w.chat(who=who, prompt_tokens=1, max_tokens=tokens, **more)


def row(w: World, budget: str) -> dict[str, Any]:
    [found] = [row for row in w.fleet.treasury.statement() if row["budget"] == budget]
    return found


def spent(w: World, budget: str = "caller:team-a/month") -> tuple[float, float]:
    found = row(w, budget)
    return found["spent_usd"], found["reserved_usd"]


async def test_without_budgets_a_request_has_no_account(autojump_clock: MockClock) -> None:
    async with budgeted() as w:
        assert w.run(who=TEAM).account is None


async def test_a_request_that_no_budget_is_about_has_no_account(autojump_clock: MockClock) -> None:
    async with budgeted(TEN) as w:
        assert w.run(who=Identity(caller="team-b")).account is None


async def test_counting_tokens_costs_nothing_and_has_no_account(autojump_clock: MockClock) -> None:
    async with budgeted(TEN) as w:
        assert w.run(who=TEAM, endpoint=Endpoint.COUNT_TOKENS).account is None


async def test_what_a_request_used_is_spent_when_it_has_ended(autojump_clock: MockClock) -> None:
    async with budgeted(TEN) as w:
        run = w.run(who=TEAM, prompt_tokens=1, max_tokens=5)
        w["a"].rest = Step(seconds=1.0, usage=Usage(prompt_tokens=1, completion_tokens=2))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.begin)
            await trio.sleep(0.5)
            assert spent(w) == (0, 6)
        run.close()
        assert spent(w) == (3, 0)


async def test_what_has_no_room_is_refused_before_anything_is_sent(autojump_clock: MockClock) -> None:
    async with budgeted(TEN) as w:
        for _ in range(3):
            await chat(w)
        with pytest.raises(BudgetExceeded, match=r"the budget caller:team-a/month of \$10 has no room") as refused:
            await chat(w)
        assert len(w["a"].asked) == 3
        assert refused.value.status == 429
        assert refused.value.retry_after == 8 * 86_400 + 12 * 3600 - trio.current_time() // 1  # 1 December
        assert spent(w) == (9, 0)


async def test_a_refused_request_leaves_nothing_reserved_elsewhere(autojump_clock: MockClock) -> None:
    async with budgeted(Budget(limit_usd=100, period="day"), TEN) as w:
        with pytest.raises(BudgetExceeded):
            await chat(w, tokens=10)
        assert [row["reserved_usd"] for row in w.fleet.treasury.statement()] == [0, 0]


async def test_other_callers_go_on(autojump_clock: MockClock) -> None:
    async with budgeted(Budget(caller="*", limit_usd=4)) as w:
        await chat(w)
        with pytest.raises(BudgetExceeded):
            await chat(w)
        await chat(w, Identity(caller="team-b"))


async def test_a_budget_begins_anew_with_its_period(autojump_clock: MockClock) -> None:
    async with budgeted(Budget(caller="team-a", limit_usd=4, period="day")) as w:
        await chat(w)
        with pytest.raises(BudgetExceeded):
            await chat(w)
        await trio.sleep(12 * 3600)
        await chat(w)


async def test_a_soft_budget_refuses_nothing_and_says_so(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Exceeded] = []
    async with budgeted(Budget(caller="team-a", limit_usd=4, hard=False)) as w:
        w.fleet.treasury.listen(told.append)
        exceeded: list[tuple[str, ...]] = []
        for _ in range(4):
            run = await w.chat(who=TEAM, prompt_tokens=1, max_tokens=2)
            assert run.account is not None
            exceeded.append(run.account.exceeded)
        assert exceeded == [(), (), ("caller:team-a/month",), ("caller:team-a/month",)]
        assert [(each.budget, each.spent_usd, each.hard) for each in told] == [("caller:team-a/month", 6.0, False)]
        assert caplog.text.count("the budget caller:team-a/month of $4 is used up: $6 spent") == 1
        assert row(w, "caller:team-a/month")["left_usd"] == 0


async def test_a_listener_that_fails_is_logged(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    def fail(told: Exceeded) -> None:
        raise RuntimeError(told.budget)

    async with budgeted(Budget(limit_usd=1, hard=False)) as w:
        w.fleet.treasury.listen(fail)
        await chat(w)
        await chat(w)
    assert "a listener of budgets failed" in caplog.text


# What an attempt that did not end well has used counts too


async def test_every_attempt_counts(autojump_clock: MockClock) -> None:
    async with budgeted(TEN, script={"a": [Step(usage=None, seconds=1.0, failure=SERVER_ERROR.failure)]}) as w:
        await chat(w)
        assert spent(w) == (3, 0)  # a refusal uses nothing


async def test_a_request_that_fails_gives_back_what_it_held(autojump_clock: MockClock) -> None:
    async with budgeted(TEN) as w:
        for wire in w.wires.values():
            wire.rest = SERVER_ERROR
        with pytest.raises(UpstreamError):
            await chat(w)
        assert spent(w) == (0, 0)


async def test_a_caller_that_leaves_pays_for_the_prompt(autojump_clock: MockClock) -> None:
    async with budgeted(TEN) as w:
        w["a"].rest = HANGS
        person = Person()
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(CallerLeft):
                    await chat(w, caller=person)

            nursery.start_soon(ask)
            await trio.sleep(1)
            assert spent(w) == (0, 3)
            person.leave()
        assert spent(w) == (1, 0)


async def test_a_stream_is_settled_at_its_end(autojump_clock: MockClock) -> None:
    async with budgeted(TEN) as w:
        w["a"].rest = streams(usage=Usage(prompt_tokens=1, completion_tokens=4), gap=1.0)
        await chat(w, stream=True, tokens=6)
        assert spent(w) == (5, 0)


async def test_both_attempts_of_a_hedged_request_count(autojump_clock: MockClock) -> None:
    hedge = Hedge(enabled=True, after="1s", max_extra_ratio=1.0)
    async with budgeted(TEN, hedge=hedge, retry=Retry()) as w:
        w["a"].rest = HANGS
        await chat(w)
        assert spent(w) == (4, 0)  # a's prompt, b's answer


async def test_closing_twice_settles_once(autojump_clock: MockClock) -> None:
    async with budgeted(TEN) as w:
        run = await w.chat(who=TEAM, prompt_tokens=1, max_tokens=2)
        run.close()
        run.close()
        assert spent(w) == (3, 0)


async def test_a_run_that_never_began_has_nothing_to_settle(autojump_clock: MockClock) -> None:
    async with budgeted(TEN) as w:
        w.run(who=TEAM).close()
        assert spent(w) == (0, 0)


# Estimates and prices


async def test_the_dearest_candidate_is_what_is_reserved(autojump_clock: MockClock) -> None:
    cheap = Price(input_per_million=1.0)
    async with budgeted(TEN, pricing={"a": {"m": cheap}, "b": {"m": ONE}}) as w:
        run = w.run(who=TEAM, prompt_tokens=1, max_tokens=4)
        assert run.account is not None
        run.account.open()
        assert spent(w) == (0, 5)
        run.close()


async def test_without_a_bound_an_answer_is_taken_to_be_as_long_as_the_models_are(autojump_clock: MockClock) -> None:
    async with budgeted(Budget(caller="team-a", limit_usd=2000)) as w:
        amounts: list[float] = []
        for _ in range(2):
            run = w.run(who=TEAM, prompt_tokens=1)
            assert run.account is not None
            await run.begin()
            amounts.append(spent(w)[1])
            run.close()
        assert amounts == [1025, 3]


async def test_an_answer_without_a_price_counts_as_nothing_and_is_told(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with budgeted(TEN, pricing={}) as w:
        for _ in range(3):
            await chat(w)
        assert spent(w) == (0, 0)
        assert row(w, "caller:team-a/month")["unpriced_answers"] == 3
    assert caplog.text.count("nobody knows the price of 'm' at provider a") == 1


async def test_a_budget_may_refuse_what_has_no_price(autojump_clock: MockClock) -> None:
    strict = Budget(caller="team-a", limit_usd=10, unpriced="refuse")
    async with budgeted(strict, pricing={"a": {"m": ONE}}) as w:
        with pytest.raises(BudgetExceeded, match="nobody knows that of 'm' at provider b"):
            await chat(w)
        assert w["a"].asked == []


# Who is under which


async def test_a_group_may_have_a_budget(autojump_clock: MockClock) -> None:
    routing = Routing(strategy="priority", groups=(Group(name="fast", models=("m",)),))
    async with budgeted(Budget(group="fast", limit_usd=4), routing=routing) as w:
        await chat(w)
        with pytest.raises(BudgetExceeded, match="group:fast"):
            await chat(w)


async def test_a_key_may_come_with_a_budget(autojump_clock: MockClock) -> None:
    async with budgeted() as w:
        w.fleet.treasury.key_budget = {"k1": KeyBudget(limit_usd=4, period="day"), "k2": None}.get
        await chat(w, Identity(key="k1"))
        with pytest.raises(BudgetExceeded, match="key:k1/day"):
            await chat(w, Identity(key="k1"))
        await chat(w, Identity(key="k2"))
        assert spent(w, "key:k1/day") == (3, 0)


async def test_when_the_budget_of_a_key_changes_so_does_that_of_its_next_request(
    autojump_clock: MockClock,
) -> None:
    async with budgeted() as w:
        budgets, who = {"k1": KeyBudget(limit_usd=4, period="day")}, Identity(key="k1")
        w.fleet.treasury.key_budget = budgets.get
        await chat(w, who)
        with pytest.raises(BudgetExceeded, match="key:k1/day"):
            await chat(w, who)
        budgets["k1"] = KeyBudget(limit_usd=40, period="day")
        await chat(w, who)
        assert spent(w, "key:k1/day") == (6, 0)
        del budgets["k1"]
        assert w.run(who=who).account is None


async def test_a_reload_changes_limits_and_keeps_what_was_spent(autojump_clock: MockClock) -> None:
    async with budgeted(Budget(caller="team-a", limit_usd=4)) as w:
        await chat(w)
        config = w.fleet.config
        await w.fleet.reload(_with(config, TEN))
        await chat(w)
        assert spent(w) == (6, 0)
        await w.fleet.reload(_with(config))
        assert w.run(who=TEAM).account is None


def _with(config: Config, *budgets: Budget) -> Config:
    return attrs.evolve(config, budgets=budgets)


# Many at once


async def test_under_two_hundred_at_once_no_more_is_promised_than_there_is(autojump_clock: MockClock) -> None:
    async with budgeted(Budget(caller="team-a", limit_usd=100)) as w:
        w["a"].rest = Step(seconds=1.0, usage=Usage(prompt_tokens=1, completion_tokens=2))
        waits: list[float | None] = []

        async def ask() -> None:
            try:
                await chat(w)
            except BudgetExceeded as error:
                waits.append(error.retry_after)

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(ask)
            await trio.sleep(0.5)
            assert spent(w) == (0, 99)
        assert (len(waits), w["a"].peak) == (167, 33)
        assert set(waits) == {1.0}  # what is held may come back
        assert spent(w) == (99, 0)


# The actor


async def test_a_crash_of_the_actor_neither_refills_a_purse_nor_stops_anybody(autojump_clock: MockClock) -> None:
    async with budgeted(TEN) as w:
        await chat(w)
        w.fleet.supervisor.ref(TREASURY).tell(Poison())
        await trio.lowlevel.checkpoint()
        await chat(w)
        assert spent(w) == (6, 0)


# What is shown


async def test_a_statement_shows_those_a_budget_for_everybody_is_about_the_largest_first(
    autojump_clock: MockClock,
) -> None:
    budgets = (Budget(caller="*", limit_usd=5), Budget(caller="c", limit_usd=9), Budget(tag="env=*", limit_usd=1))
    async with budgeted(*budgets) as w:
        await chat(w, Identity(caller="a", tags={"env": "dev"}), tokens=0)
        await chat(w, Identity(caller="b"))
        await chat(w, Identity(caller="b"), tokens=1)
        shown = [(each["budget"], each["spent_usd"]) for each in w.fleet.treasury.statement()]
    assert shown == [("caller:b/month", 6), ("caller:a/month", 3), ("caller:c/month", 0), ("tag:env=dev/month", 3)]


async def test_a_refusal_tells_amounts_exactly_and_names_those_without_a_name(autojump_clock: MockClock) -> None:
    pricing = {"a": {"m": Price(per_request=0.00399)}}
    async with budgeted(Budget(caller="*", limit_usd=0.005, period="day"), pricing=pricing) as w:
        w["a"].rest = Step()
        await w.chat()
        with pytest.raises(BudgetExceeded) as refused:
            await w.chat()
    assert refused.value.message == (
        "the budget caller (unnamed)/day of $0.005 has no room for this request, which may cost $0.00399: "
        "$0.00399 are spent, $0 held for requests under way"
    )


async def test_callers_that_a_header_tags_leave_nothing_behind(autojump_clock: MockClock) -> None:
    async with budgeted(TEN, Budget(tag="env=prod", limit_usd=10)) as w:
        treasury = w.fleet.treasury
        await chat(w)
        for _ in range(3):
            await chat(w, Identity(caller="team-b", tags={"env": "prod"}))
        assert spent(w, "tag:env=prod/month") == (9, 0)
        kept = treasury._terms, treasury.purses._kept  # pyright: ignore[reportPrivateUsage]
        assert [len(each) for each in kept] == [1, 1]
