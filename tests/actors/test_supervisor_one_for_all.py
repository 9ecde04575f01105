"""One for all: a crash restarts every child, in order."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from infermux.actors.kit import ActorDied, Child, ChildState, Restart, supervise
from tests.actors._children import Grumpy, Sleeper, child, crash, quiet, states


@pytest.mark.parametrize("beside", [False, True])
async def test_one_for_all_does_not_restart_for_a_child_that_crashes_while_it_alone_is_stopped(
    beside: bool, autojump_clock: object
) -> None:
    diary: list[str] = []
    reports: list[Restart] = []
    grumpy = Child("grumpy", lambda: Grumpy(beside=beside))
    async with supervise(grumpy, child("a", diary), strategy="one_for_all", on_restart=reports.append) as supervisor:
        await supervisor.stop_child("grumpy")
        await trio.sleep(1)
        assert diary == ["a up"]
    assert [(r.name, r.delay) for r in reports] == [("grumpy", None)]


async def test_one_for_all_restarts_everyone_in_order(autojump_clock: object) -> None:
    diary: list[str] = []
    restarts: list[Restart] = []
    children = [child(name, diary) for name in "abc"]
    async with supervise(*children, strategy="one_for_all", on_restart=restarts.append) as supervisor:
        diary.clear()
        await crash(supervisor, "b")
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(diary) == ["a down", "b down", "c down"]
        with pytest.raises(ActorDied):
            await supervisor.ref("a").ask("x")
        diary.clear()
        await trio.sleep(1)
        assert diary == ["a up", "b up", "c up"]
        assert [await supervisor.ref(name).ask("x") for name in "abc"] == ["x"] * 3
        assert [r.name for r in restarts] == ["b"]
        assert [child.restarts for child in supervisor.statistics().children] == [1, 1, 1]


async def test_one_for_all_gives_up_all(autojump_clock: object) -> None:
    async with supervise(
        child("a"),
        child("b"),
        strategy="one_for_all",
        intensity=0,
        when_exhausted="abandon",
        on_restart=quiet,
    ) as supervisor:
        await crash(supervisor, "b")
        await trio.testing.wait_all_tasks_blocked()
        assert set(states(supervisor).values()) == {ChildState.GONE}
        with pytest.raises(ActorDied):
            await supervisor.start_child(child("c"))


async def test_one_for_all_takes_a_new_child_once_it_is_up_again(autojump_clock: object) -> None:
    async with supervise(child("a"), strategy="one_for_all", on_restart=quiet) as supervisor:
        await crash(supervisor)
        await trio.testing.wait_all_tasks_blocked()
        before = trio.current_time()
        ref = await supervisor.start_child(child("b"))
        assert trio.current_time() - before == pytest.approx(0.1)
        await crash(supervisor)
        await trio.sleep(1)
        assert await ref.ask("x") == "x"


async def test_one_for_all_goes_on_when_a_child_is_stopped_while_it_starts_again(autojump_clock: object) -> None:
    starts = iter([0.0, 5.0])
    slow = Child("slow", lambda: Sleeper(next(starts)))
    async with supervise(slow, child("b"), child("c"), strategy="one_for_all", on_restart=quiet) as supervisor:
        await crash(supervisor, "b")
        await trio.sleep(1)
        await supervisor.stop_child("b")
        await supervisor.stop_child("slow")
        await trio.sleep(1)
        assert states(supervisor) == {"c": ChildState.RUNNING}
