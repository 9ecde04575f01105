"""Errors of who uses the actors come out as they are, and headers tell of the route that answered."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.messages import Reason, Want
from infermux.actors.opening import open_fleet
from infermux.actors.plan import AS_IT_TOLD, Plan, Refusal
from infermux.config.settings import Config, Group, Routing
from infermux.errors import ModelNotFound
from tests.actors._scripted import SERVER_ERROR, provider, world


async def test_an_error_in_the_block_comes_out_as_it_is(autojump_clock: MockClock) -> None:
    async def use() -> None:
        async with world(provider("a", "m")) as w:
            run = w.run("unknown")
            try:
                await run.begin()
            finally:
                run.close()

    with pytest.raises(ModelNotFound):
        await use()


async def test_the_error_keeps_its_traceback_and_leaves_nothing_running(autojump_clock: MockClock) -> None:
    before = trio.lowlevel.current_statistics().tasks_living

    def broken() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine") as caught:
        async with open_fleet(Config()):
            broken()
    assert caught.traceback[-1].name == "broken"
    assert trio.lowlevel.current_statistics().tasks_living == before


async def test_cancelling_the_block_is_no_error(autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        async with open_fleet(Config()):
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_fallback_tells_the_group_and_the_strategy_of_its_own_model(autojump_clock: MockClock) -> None:
    groups = (
        Group(name="first", models=("m",), strategy="random"),
        Group(name="second", models=("n",), strategy="priority"),
    )
    routing = Routing(groups=groups, fallbacks={"m": ("n",)})
    async with world(provider("a", "m"), provider("b", "n"), script={"a": [SERVER_ERROR]}, routing=routing) as w:
        run = w.run()
        await run.begin()
        assert run.lease is not None
        assert (run.lease.provider, run.plan.group, run.plan.strategy) == ("b", "second", "priority")
        run.close()


async def test_without_a_fallback_group_the_global_strategy_is_told(autojump_clock: MockClock) -> None:
    routing = Routing(groups=(Group(name="first", models=("m",), strategy="random"),), fallbacks={"m": ("n",)})
    async with world(provider("a", "m"), provider("b", "n"), script={"a": [SERVER_ERROR]}, routing=routing) as w:
        run = w.run()
        await run.begin()
        assert (run.plan.group, run.plan.strategy) == ("", "round_robin")
        run.close()


def test_a_429_for_a_limit_that_the_provider_told_does_not_blame_the_configuration() -> None:
    plan = Plan(Want("m"))
    plan.refuse(Refusal("a", Reason.REQUEST_LIMIT, 100.0, AS_IT_TOLD))
    assert "the limits set by the providers of model 'm' are used up" in plan.verdict(90.0).message


@pytest.mark.parametrize(
    ("reasons", "whose"),
    [
        (
            (Reason.REQUEST_LIMIT, Reason.CONCURRENCY),
            "the limits configured for the providers of model 'm' are used up",
        ),
        ((Reason.COOLING_DOWN, Reason.COOLING_DOWN), "the limits set by the providers of model 'm' are used up"),
        ((Reason.COOLING_DOWN, Reason.TOKEN_LIMIT), "configured for the providers, or set by them, of model 'm'"),
    ],
)
def test_a_429_says_whose_limit_it_was(reasons: tuple[Reason, Reason], whose: str) -> None:
    plan = Plan(Want("m"))
    for name, reason in zip("ab", reasons, strict=True):
        plan.refuse(Refusal(name, reason, 100.0))
    assert whose in plan.verdict(99.9).message
    assert "try again in 1 s" in plan.verdict(100.0).message
