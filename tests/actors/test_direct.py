"""What an idle actor is called for does and leaves what the message would have done and left."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.actor import BaseActor, spawn
from infermux.actors.fleet import Fleet
from infermux.actors.kit_errors import ActorDied
from infermux.actors.lease import Lease
from infermux.actors.mailbox import NOT_NOW
from infermux.actors.messages import Outcome, Want
from infermux.actors.opening import open_fleet
from infermux.actors.plan import Plan
from infermux.actors.ref import Ref
from infermux.actors.reply import Reply
from infermux.actors.router_messages import Advance
from infermux.actors.supervisor import Backoff, Child, Supervisor
from infermux.config.settings import Config, HealthCheck, ProviderSettings, RateLimits, Routing
from infermux.errors import FailureKind, InfermuxError
from infermux.providers.interface import Usage


class Adding(BaseActor[Any]):
    """Counts up by message, and by being called."""

    eager: ClassVar[bool] = True
    direct: ClassVar[tuple[str, ...]] = ("add", "add_told", "crash")

    def __init__(self) -> None:
        self.total = 0
        self.ref: Ref[Any] | None = None

    def receive(self, message: int, reply: Reply[Any] | None) -> None:
        total = self.add(message)
        if reply is not None:
            reply.send(total)

    def add(self, number: int) -> int:
        self.total += number
        return self.total

    def add_told(self, number: int) -> tuple[int, Any]:
        """Tells itself of `number` first, which has to wait; and cannot be called meanwhile."""
        assert self.ref is not None
        self.ref.tell(number)
        return self.total, self.ref.call("add", number)

    def crash(self) -> None:
        raise ValueError("boom")


@asynccontextmanager
async def adding() -> AsyncGenerator[tuple[Adding, Ref[Any]]]:
    async with trio.open_nursery() as nursery:
        actor = Adding()
        actor.ref = await spawn(nursery, actor, name="adding")
        yield actor, actor.ref
        nursery.cancel_scope.cancel()


async def test_an_idle_actor_is_called(autojump_clock: trio.testing.MockClock) -> None:
    async with adding() as (actor, ref):
        await trio.testing.wait_all_tasks_blocked()
        assert ref.call("add", 1) == 1
        assert await ref.ask(2) == 3
        assert ref.call("subtract", 1) is NOT_NOW
        assert actor.total == 3


async def test_what_comes_while_it_is_called_waits_its_turn(autojump_clock: trio.testing.MockClock) -> None:
    async with adding() as (actor, ref):
        await trio.testing.wait_all_tasks_blocked()
        assert ref.call("add_told", 5) == (0, NOT_NOW)
        assert ref.call("add", 1) is NOT_NOW  # before what was told it is no call's turn
        await trio.testing.wait_all_tasks_blocked()
        assert actor.total == 5
        assert ref.call("add", 1) == 6


async def test_a_crash_in_a_call_is_the_actors(autojump_clock: trio.testing.MockClock) -> None:
    made: list[Adding] = []

    def make() -> Adding:
        made.append(Adding())
        return made[-1]

    supervisor = Supervisor(backoff=Backoff(base=1.0))
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        ref = await supervisor.start_child(Child("adding", make))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ActorDied) as died:
            ref.call("crash")
        assert isinstance(died.value.__cause__, ValueError)
        with pytest.raises(ActorDied):
            await ref.ask(1)  # it has not been woken to die yet, and whoever asks learns of it all the same
        assert ref.call("add", 1) is NOT_NOW
        await trio.sleep(2)
        assert len(made) == 2
        assert ref.call("add", 1) == 1
        nursery.cancel_scope.cancel()


# Leases.

_WANT = Want(model="m", prompt_tokens=30, max_tokens=20)
_STRATEGIES = ("round_robin", "priority", "least_busy", "least_latency", "random", "peak_ewma")
_OUTCOMES = (
    Outcome(status=200, latency=0.5, usage=Usage(30, 25)),
    Outcome(status=200, latency=0.1, first_token=0.05, usage=Usage(30, 5)),
    Outcome(failure=FailureKind.SERVER_ERROR, status=500, latency=0.2),
    Outcome(failure=FailureKind.RATE_LIMITED, status=429, latency=0.1, retry_after=1.5),
    Outcome(failure=FailureKind.CONNECT, sent=False, latency=0.1),
    Outcome(cancelled=True, latency=0.3),
)


def _config(providers: int, strategy: str) -> Config:
    limits = RateLimits(requests_per_minute=120, tokens_per_minute=4000, max_concurrent=3)
    unchecked = HealthCheck(disabled=True)
    return Config(
        providers=tuple(
            ProviderSettings(name=f"p{at}", type="simulated", models=("m",), rate_limits=limits, health_check=unchecked)
            for at in range(providers)
        ),
        routing=Routing(strategy=strategy),
    )


async def _asked(fleet: Fleet, plan: Plan) -> Lease | InfermuxError | None:
    answer: Lease | InfermuxError | None = await fleet.router.ask(Advance(plan))
    return answer


async def _called(fleet: Fleet, plan: Plan) -> Lease | InfermuxError | None:
    """As a run does it: called, and what is left is asked."""
    answer = fleet.router.call("lease", plan, trio.current_time())
    if answer is None or answer is NOT_NOW:
        return await _asked(fleet, plan)
    return answer  # type: ignore[no-any-return]


def _said(answer: Lease | InfermuxError | None) -> object:
    if isinstance(answer, Lease):
        return answer.provider, answer.model, answer.granted_at, answer.reserved, answer.probe, answer.explore
    return type(answer), str(answer)


def _seen(plan: Plan) -> object:
    looks = [(look.strategy, look.group, tuple(look.candidates), tuple(look.steps), look.whole) for look in plan.looks]
    refusals = sorted(plan.refusals.items())
    return plan.strategy, plan.group, plan.position, [c.option.provider for c in plan.steps], refusals, len(looks)


_STEPS = st.lists(
    st.one_of(
        st.just(("lease", 0)),
        st.tuples(st.just("release"), st.integers(0, 1000)),
        st.tuples(st.just("wait"), st.sampled_from([1, 10, 70])),
    ),
    max_size=25,
)


async def _history(providers: int, strategy: str, steps: list[tuple[str, int]], *, called: bool) -> list[object]:
    said: list[object] = []
    held: list[Lease] = []
    async with open_fleet(_config(providers, strategy), environ={}, rng=random.Random(7)) as fleet:
        await trio.testing.wait_all_tasks_blocked()
        for step, number in steps:
            if step == "wait":
                await trio.sleep(number / 10)
            elif step == "release" and held:
                held.pop(number % len(held)).release(_OUTCOMES[number % len(_OUTCOMES)])
            elif step == "lease":
                plan = Plan(_WANT)
                answer = await (_called if called else _asked)(fleet, plan)
                held += [answer] if isinstance(answer, Lease) else []
                said += [_said(answer), _seen(plan)]
            said += [member.ref.status for member in fleet.members.values()]
    return said


@settings(max_examples=12, deadline=None)
@given(providers=st.sampled_from([1, 1, 2, 3, 10]), strategy=st.sampled_from(_STRATEGIES), steps=_STEPS)
def test_leases_are_the_same_whether_the_actors_are_called_or_asked(
    providers: int, strategy: str, steps: list[tuple[str, int]]
) -> None:
    def lived(called: bool) -> list[object]:
        async def live() -> list[object]:
            return await _history(providers, strategy, steps, called=called)

        return trio.run(live, clock=trio.testing.MockClock(autojump_threshold=0))

    assert lived(called=True) == lived(called=False)
