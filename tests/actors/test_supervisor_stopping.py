"""What is stopped stays stopped and answers everyone, whenever it happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from infermux.actors.kit import ActorDied, Child, Context, Restart, supervise
from tests.actors._children import Boom, Grumpy, Sleeper, Worker, child, crash, quiet, states


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all"])
async def test_stopping_a_child_answers_its_askers_and_leaves_the_others(
    strategy: Any, nursery: trio.Nursery, autojump_clock: object
) -> None:
    errors: list[str] = []

    async def ask() -> None:
        with pytest.raises(ActorDied) as caught:
            await ref.ask("keep")
        errors.append(str(caught.value))

    diary: list[str] = []
    async with supervise(child("a", diary), child("b", diary), strategy=strategy) as supervisor:
        ref = supervisor.ref("a")
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        await supervisor.stop_child("a")
        assert diary == ["a up", "b up", "a down"]
        assert ref.gone
        with pytest.raises(KeyError):
            await supervisor.stop_child("a")
        assert await supervisor.ref("b").ask("x") == "x"
    assert errors == ["actor 'a' was stopped"]


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all"])
async def test_a_child_can_be_stopped_while_it_waits_for_its_restart(strategy: Any, autojump_clock: object) -> None:
    diary: list[str] = []
    async with supervise(child("a", diary), strategy=strategy, on_restart=quiet) as supervisor:
        await crash(supervisor)
        await supervisor.stop_child("a")
        await trio.sleep(5)
        assert diary == ["a up", "a down"]


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all"])
async def test_a_child_that_is_stopped_before_it_is_ready_never_was(strategy: Any, autojump_clock: object) -> None:
    async with supervise(strategy=strategy) as supervisor, trio.open_nursery() as nursery:

        async def start() -> None:
            with pytest.raises(ActorDied):
                await supervisor.start_child(Child("slow", lambda: Sleeper(5)))

        nursery.start_soon(start)
        await trio.sleep(1)
        await supervisor.stop_child("slow")
        assert not states(supervisor)


async def test_cancelling_the_start_of_a_child_stops_it(autojump_clock: object) -> None:
    async with supervise() as supervisor:
        with trio.move_on_after(1):
            await supervisor.start_child(Child("slow", lambda: Sleeper(5)))
        assert not states(supervisor)


@pytest.mark.parametrize("when", ["running", "backing off", "starting again"])
async def test_ending_the_supervisor_at_any_time_answers_every_asker(
    when: str, nursery: trio.Nursery, autojump_clock: object
) -> None:
    ended: list[str] = []

    async def ask() -> None:
        with pytest.raises(ActorDied):
            await ref.ask("keep")
        ended.append("answered")

    starts = iter([0.0, 100.0])
    factory: Callable[[], Any] = (lambda: Sleeper(next(starts))) if when == "starting again" else child("a").factory
    async with supervise(Child("a", factory), on_restart=quiet) as supervisor:
        ref = supervisor.ref("a")
        if when != "running":
            ref.tell("boom")
            await trio.testing.wait_all_tasks_blocked()
        if when == "starting again":
            await trio.sleep(1)
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
    await trio.testing.wait_all_tasks_blocked()
    assert ended == ["answered"]
    assert ref.gone


@pytest.mark.parametrize("beside", [False, True])
async def test_a_crash_while_being_stopped_is_reported_but_not_raised(beside: bool) -> None:
    reports: list[Restart] = []
    async with supervise(
        Child("grumpy", lambda: Grumpy(beside=beside)), intensity=0, on_restart=reports.append
    ) as supervisor:
        await supervisor.stop_child("grumpy")
        await supervisor.start_child(Child("grumpy", lambda: Grumpy(beside=beside)))
    assert [(r.name, type(r.crash), r.delay) for r in reports] == [("grumpy", Boom, None)] * 2


async def test_a_crash_that_was_still_unwinding_when_the_supervisor_ended_is_no_restart(autojump_clock: object) -> None:
    class Tidy(Worker):
        async def started(self, context: Context[str]) -> None:
            context.start_soon(self._tidy_up)

        async def _tidy_up(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(5)

    reports: list[Restart] = []
    async with supervise(Child("tidy", lambda: Tidy("tidy", [])), on_restart=reports.append) as supervisor:
        await crash(supervisor, "tidy")
        await trio.sleep(1)
    assert [(r.name, type(r.crash), r.delay) for r in reports] == [("tidy", Boom, None)]
