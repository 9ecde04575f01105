"""Supervision: who is restarted, when, how often, and what the others see of it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.kit import (
    ActorDied,
    Backoff,
    BaseActor,
    Child,
    ChildState,
    Context,
    Ref,
    Reply,
    Restart,
    Supervisor,
    SupervisorExhausted,
    supervise,
)
from tests._properties import examples
from tests.actors._children import Boom, Sleeper, child, crash, failing_after, quiet, states


async def test_a_crash_restarts_only_the_child_that_crashed(autojump_clock: object) -> None:
    diary: list[str] = []
    restarts: list[Restart] = []
    async with supervise(child("a", diary), child("b", diary), on_restart=restarts.append) as supervisor:
        assert repr(supervisor) == "<Supervisor {a: running, b: running}>"
        ref = supervisor.ref("a")
        await crash(supervisor)
        assert await supervisor.ref("b").ask("hello") == "hello"
        await trio.sleep(0.2)
        assert await ref.ask("again") == "again"
        assert diary == ["a up", "b up", "a down", "a up"]
    assert [(r.name, type(r.crash), r.crashes, r.delay) for r in restarts] == [("a", Boom, 1, 0.1)]


async def test_crashes_are_logged_when_there_is_no_callback(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with supervise(child("a"), intensity=1, when_exhausted="abandon") as supervisor:
        await crash(supervisor)
        await trio.sleep(1)
        await crash(supervisor)
        await trio.sleep(1)
    assert [record.message for record in caplog.records] == [
        "actor a crashed, restarted in 0.1 s",
        "actor a crashed, not restarted",
    ]
    assert all(record.exc_info for record in caplog.records)


async def test_a_callback_that_fails_costs_nobody_an_actor(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_restart: Restart) -> None:
        raise RuntimeError

    async with supervise(child("a"), on_restart=fail) as supervisor:
        await crash(supervisor)
        await trio.sleep(1)
        assert await supervisor.ref("a").ask("x") == "x"
    assert [(r.levelno, r.message) for r in caplog.records] == [(logging.ERROR, "the restart callback failed")]


async def test_the_delay_doubles_up_to_its_bound_and_starts_over_after_a_long_life(autojump_clock: object) -> None:
    delays: list[float | None] = []
    async with supervise(
        child("a"),
        intensity=None,
        period=60,
        backoff=Backoff(base=1, max=3),
        on_restart=lambda restart: delays.append(restart.delay),
    ) as supervisor:
        for _ in range(4):
            await crash(supervisor)
            await trio.sleep(3.5)
        await trio.sleep(60)
        await crash(supervisor)
        await trio.sleep(2)
        assert delays == [1, 2, 3, 3, 1]
        assert supervisor.statistics().restarts == 5
        assert supervisor.statistics().children[0].restarts == 5


@settings(max_examples=examples(50), deadline=None)
@given(st.integers(1, 10**6), st.floats(0, 10), st.floats(0, 100))
def test_a_delay_never_falls_and_never_passes_its_bound(crashes: int, base: float, bound: float) -> None:
    backoff = Backoff(base=base, max=bound)
    assert backoff.delay(crashes) <= backoff.delay(crashes + 1) <= bound


async def test_exceeding_the_intensity_escalates_with_the_last_crash() -> None:
    refs: list[Ref[Any]] = []
    with pytest.RaisesGroup(pytest.RaisesExc(SupervisorExhausted, match="'a' crashed more than 0 times")) as caught:
        async with supervise(child("a"), child("b"), intensity=0, on_restart=quiet) as supervisor:
            refs += [supervisor.ref("a"), supervisor.ref("b")]
            await crash(supervisor)
            await trio.sleep_forever()
    assert isinstance(caught.value.exceptions[0].__cause__, Boom)
    assert all(ref.gone for ref in refs)


async def test_run_raises_the_exhaustion_bare(nursery: trio.Nursery) -> None:
    supervisor = Supervisor([child("a")], intensity=0, on_restart=quiet)

    async def crash_soon() -> None:
        await trio.testing.wait_all_tasks_blocked()
        supervisor.ref("a").tell("boom")

    nursery.start_soon(crash_soon)
    with pytest.raises(SupervisorExhausted):
        await supervisor.run()


async def test_exactly_the_intensity_is_survived_and_the_period_forgets(autojump_clock: object) -> None:
    async with supervise(
        child("a"), intensity=2, period=10, backoff=Backoff(base=0.5, max=0.5), on_restart=quiet
    ) as supervisor:
        for _ in range(4):
            for _ in range(2):
                await crash(supervisor)
                await trio.sleep(1)
            await trio.sleep(10)
        assert await supervisor.ref("a").ask("x") == "x"


async def test_an_abandoned_child_is_gone_and_the_others_live_on(autojump_clock: object) -> None:
    last: list[Restart] = []
    async with supervise(
        child("a"), child("b"), intensity=1, when_exhausted="abandon", on_restart=last.append
    ) as supervisor:
        ref = supervisor.ref("a")
        await crash(supervisor)
        await trio.sleep(1)
        await crash(supervisor)
        await trio.testing.wait_all_tasks_blocked()
        assert (ref.gone, last[-1].delay) == (True, None)
        assert states(supervisor) == {"a": ChildState.GONE, "b": ChildState.RUNNING}
        with pytest.raises(ActorDied, match="died of Boom"):
            await ref.ask("x")
        assert await supervisor.ref("b").ask("x") == "x"
        await supervisor.stop_child("a")
        assert list(states(supervisor)) == ["b"]


async def test_a_restart_that_fails_counts_as_a_crash(autojump_clock: object) -> None:
    delays: list[float | None] = []
    async with supervise(
        failing_after(1), intensity=2, when_exhausted="abandon", on_restart=lambda r: delays.append(r.delay)
    ) as supervisor:
        await crash(supervisor, "fragile")
        await trio.sleep(5)
        assert delays == [0.1, 0.2, None]
        assert isinstance(supervisor.statistics().children[0].last_crash, Boom)


async def test_states_follow_a_childs_life(autojump_clock: object) -> None:
    async with supervise(on_restart=quiet) as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.start_child, Child("slow", lambda: Sleeper(5)))
        await trio.sleep(1)
        assert states(supervisor) == {"slow": ChildState.STARTING}
        await trio.sleep(5)
        assert states(supervisor) == {"slow": ChildState.RUNNING}
        supervisor.ref("slow").tell("what?")
        await trio.testing.wait_all_tasks_blocked()
        assert states(supervisor) == {"slow": ChildState.BACKING_OFF}
        supervisor.ref("slow").tell("hello")
        assert supervisor.statistics().children[0].queued == 1


async def test_statistics_count_held_replies(nursery: trio.Nursery) -> None:
    async with supervise(child("a")) as supervisor, trio.open_nursery() as inner:
        inner.start_soon(supervisor.ref("a").ask, "keep")
        await trio.testing.wait_all_tasks_blocked()
        assert supervisor.statistics().children[0].held == 1
        inner.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
    assert supervisor.statistics().children[0].held == 0


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all"])
async def test_a_child_that_fails_its_first_start_is_not_restarted(strategy: Any, autojump_clock: object) -> None:
    calls: list[Restart] = []
    async with supervise(child("a"), strategy=strategy, on_restart=calls.append) as supervisor:
        with pytest.raises(Boom):
            await supervisor.start_child(failing_after(0))
        await trio.sleep(5)
        assert list(states(supervisor)) == ["a"]
        assert await supervisor.ref("a").ask("x") == "x"
        with pytest.raises(KeyError):
            supervisor.ref("fragile")
        assert not calls
        await crash(supervisor)
        await trio.testing.wait_all_tasks_blocked()
        assert [call.name for call in calls] == ["a"]


async def test_a_first_child_that_fails_its_start_ends_the_supervisor() -> None:
    with pytest.raises(Boom):
        await Supervisor([child("a"), failing_after(0)]).run()


async def test_an_interrupt_is_not_a_crash() -> None:
    class Interrupted(BaseActor[str]):
        async def started(self, context: Context[str]) -> None:
            context.ref.tell("go")

        def receive(self, message: str, reply: Reply[str] | None) -> None:
            raise KeyboardInterrupt

    reports: list[Restart] = []
    with pytest.raises(KeyboardInterrupt):
        await Supervisor([Child("a", Interrupted)], on_restart=reports.append).run()
    assert not reports


async def test_names_are_unique_and_may_be_used_again() -> None:
    async with supervise(child("a")) as supervisor:
        with pytest.raises(ValueError, match="named 'a'"):
            await supervisor.start_child(child("a"))
        old = supervisor.ref("a")
        await supervisor.stop_child("a")
        new = await supervisor.start_child(child("a"))
        assert (old.gone, new.alive) == (True, True)


async def test_a_supervisor_runs_once_and_takes_children_only_then() -> None:
    supervisor = Supervisor()
    with pytest.raises(RuntimeError, match="does not run"):
        await supervisor.start_child(child("a"))
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        with pytest.raises(RuntimeError, match="run already"):
            await supervisor.run()
        nursery.cancel_scope.cancel()
    with pytest.raises(RuntimeError):
        await supervisor.start_child(child("a"))
    assert not supervisor.statistics().children


async def test_errors_in_the_block_end_the_supervisor() -> None:
    refs: list[Ref[Any]] = []
    with pytest.RaisesGroup(KeyError):
        async with supervise(child("a")) as supervisor:
            refs.append(supervisor.ref("a"))
            raise KeyError
    assert refs[0].gone
