"""Supervision: who is restarted, when, how often, and what the others see of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
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


class Boom(Exception):
    pass


class Worker(BaseActor[str]):
    """Echoes. "boom": crashes. "keep": holds the reply. Notes its starts and stops in `diary`."""

    def __init__(self, name: str, diary: list[str]) -> None:
        self.name = name
        self.diary = diary

    async def started(self, context: Context[str]) -> None:
        self.diary.append(f"{self.name} up")

    def receive(self, message: str, reply: Reply[str] | None) -> None:
        if message == "boom":
            raise Boom
        if reply is not None and message != "keep":
            reply.send(message)

    def stopped(self) -> None:
        self.diary.append(f"{self.name} down")


class Sleeper(BaseActor[str]):
    """Takes `seconds` to start."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def started(self, context: Context[str]) -> None:
        await trio.sleep(self.seconds)


class Grumpy(BaseActor[str]):
    """Crashes when it is stopped; with `beside`, in a task of its own."""

    def __init__(self, *, beside: bool = False) -> None:
        self.beside = beside

    async def started(self, context: Context[str]) -> None:
        if self.beside:
            context.start_soon(self._until_stopped)

    async def _until_stopped(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom

    def stopped(self) -> None:
        if not self.beside:
            raise Boom


def _child(name: str, diary: list[str] | None = None) -> Child:
    log = [] if diary is None else diary
    return Child(name, lambda: Worker(name, log))


def _failing_after(starts: int, name: str = "fragile") -> Child:
    """A child whose factory works `starts` times."""
    left = iter(range(starts))

    def factory() -> Worker:
        if next(left, None) is None:
            raise Boom
        return Worker(name, [])

    return Child(name, factory)


async def _crash(supervisor: Supervisor, name: str = "a") -> None:
    """Crash a child that is up."""
    with pytest.raises(ActorDied):
        await supervisor.ref(name).ask("boom")


def _states(supervisor: Supervisor) -> dict[str, ChildState]:
    return {child.name: child.state for child in supervisor.statistics().children}


def _quiet(_restart: Restart) -> None:
    pass


async def test_a_crash_restarts_only_the_child_that_crashed(autojump_clock: object) -> None:
    diary: list[str] = []
    restarts: list[Restart] = []
    async with supervise(_child("a", diary), _child("b", diary), on_restart=restarts.append) as supervisor:
        assert repr(supervisor) == "<Supervisor {a: running, b: running}>"
        ref = supervisor.ref("a")
        await _crash(supervisor)
        assert await supervisor.ref("b").ask("hello") == "hello"
        await trio.sleep(0.2)
        assert await ref.ask("again") == "again"
        assert diary == ["a up", "b up", "a down", "a up"]
    assert [(r.name, type(r.crash), r.crashes, r.delay) for r in restarts] == [("a", Boom, 1, 0.1)]


async def test_crashes_are_logged_when_there_is_no_callback(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with supervise(_child("a"), intensity=1, when_exhausted="abandon") as supervisor:
        await _crash(supervisor)
        await trio.sleep(1)
        await _crash(supervisor)
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

    async with supervise(_child("a"), on_restart=fail) as supervisor:
        await _crash(supervisor)
        await trio.sleep(1)
        assert await supervisor.ref("a").ask("x") == "x"
    assert [(r.levelno, r.message) for r in caplog.records] == [(logging.ERROR, "the restart callback failed")]


async def test_the_delay_doubles_up_to_its_bound_and_starts_over_after_a_long_life(autojump_clock: object) -> None:
    delays: list[float | None] = []
    async with supervise(
        _child("a"),
        intensity=None,
        period=60,
        backoff=Backoff(base=1, max=3),
        on_restart=lambda restart: delays.append(restart.delay),
    ) as supervisor:
        for _ in range(4):
            await _crash(supervisor)
            await trio.sleep(3.5)
        await trio.sleep(60)
        await _crash(supervisor)
        await trio.sleep(2)
        assert delays == [1, 2, 3, 3, 1]
        assert supervisor.statistics().restarts == 5
        assert supervisor.statistics().children[0].restarts == 5


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 10**6), st.floats(0, 10), st.floats(0, 100))
def test_a_delay_never_falls_and_never_passes_its_bound(crashes: int, base: float, bound: float) -> None:
    backoff = Backoff(base=base, max=bound)
    assert backoff.delay(crashes) <= backoff.delay(crashes + 1) <= bound


async def test_exceeding_the_intensity_escalates_with_the_last_crash() -> None:
    refs: list[Ref[Any]] = []
    with pytest.RaisesGroup(pytest.RaisesExc(SupervisorExhausted, match="'a' crashed more than 0 times")) as caught:
        async with supervise(_child("a"), _child("b"), intensity=0, on_restart=_quiet) as supervisor:
            refs += [supervisor.ref("a"), supervisor.ref("b")]
            await _crash(supervisor)
            await trio.sleep_forever()
    assert isinstance(caught.value.exceptions[0].__cause__, Boom)
    assert all(ref.gone for ref in refs)


async def test_run_raises_the_exhaustion_bare(nursery: trio.Nursery) -> None:
    supervisor = Supervisor([_child("a")], intensity=0, on_restart=_quiet)

    async def crash_soon() -> None:
        await trio.testing.wait_all_tasks_blocked()
        supervisor.ref("a").tell("boom")

    nursery.start_soon(crash_soon)
    with pytest.raises(SupervisorExhausted):
        await supervisor.run()


async def test_exactly_the_intensity_is_survived_and_the_period_forgets(autojump_clock: object) -> None:
    async with supervise(
        _child("a"), intensity=2, period=10, backoff=Backoff(base=0.5, max=0.5), on_restart=_quiet
    ) as supervisor:
        for _ in range(4):
            for _ in range(2):
                await _crash(supervisor)
                await trio.sleep(1)
            await trio.sleep(10)
        assert await supervisor.ref("a").ask("x") == "x"


async def test_an_abandoned_child_is_gone_and_the_others_live_on(autojump_clock: object) -> None:
    last: list[Restart] = []
    async with supervise(
        _child("a"), _child("b"), intensity=1, when_exhausted="abandon", on_restart=last.append
    ) as supervisor:
        ref = supervisor.ref("a")
        await _crash(supervisor)
        await trio.sleep(1)
        await _crash(supervisor)
        await trio.testing.wait_all_tasks_blocked()
        assert (ref.gone, last[-1].delay) == (True, None)
        assert _states(supervisor) == {"a": ChildState.GONE, "b": ChildState.RUNNING}
        with pytest.raises(ActorDied, match="died of Boom"):
            await ref.ask("x")
        assert await supervisor.ref("b").ask("x") == "x"
        await supervisor.stop_child("a")
        assert list(_states(supervisor)) == ["b"]


async def test_a_restart_that_fails_counts_as_a_crash(autojump_clock: object) -> None:
    delays: list[float | None] = []
    async with supervise(
        _failing_after(1), intensity=2, when_exhausted="abandon", on_restart=lambda r: delays.append(r.delay)
    ) as supervisor:
        await _crash(supervisor, "fragile")
        await trio.sleep(5)
        assert delays == [0.1, 0.2, None]
        assert isinstance(supervisor.statistics().children[0].last_crash, Boom)


async def test_states_follow_a_childs_life(autojump_clock: object) -> None:
    async with supervise(on_restart=_quiet) as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.start_child, Child("slow", lambda: Sleeper(5)))
        await trio.sleep(1)
        assert _states(supervisor) == {"slow": ChildState.STARTING}
        await trio.sleep(5)
        assert _states(supervisor) == {"slow": ChildState.RUNNING}
        supervisor.ref("slow").tell("what?")
        await trio.testing.wait_all_tasks_blocked()
        assert _states(supervisor) == {"slow": ChildState.BACKING_OFF}
        supervisor.ref("slow").tell("hello")
        assert supervisor.statistics().children[0].queued == 1


async def test_statistics_count_held_replies(nursery: trio.Nursery) -> None:
    async with supervise(_child("a")) as supervisor, trio.open_nursery() as inner:
        inner.start_soon(supervisor.ref("a").ask, "keep")
        await trio.testing.wait_all_tasks_blocked()
        assert supervisor.statistics().children[0].held == 1
        inner.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
    assert supervisor.statistics().children[0].held == 0


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all"])
async def test_a_child_that_fails_its_first_start_is_not_restarted(strategy: Any, autojump_clock: object) -> None:
    calls: list[Restart] = []
    async with supervise(_child("a"), strategy=strategy, on_restart=calls.append) as supervisor:
        with pytest.raises(Boom):
            await supervisor.start_child(_failing_after(0))
        await trio.sleep(5)
        assert list(_states(supervisor)) == ["a"]
        assert await supervisor.ref("a").ask("x") == "x"
        with pytest.raises(KeyError):
            supervisor.ref("fragile")
        assert not calls
        await _crash(supervisor)
        await trio.testing.wait_all_tasks_blocked()
        assert [call.name for call in calls] == ["a"]


async def test_a_first_child_that_fails_its_start_ends_the_supervisor() -> None:
    with pytest.raises(Boom):
        await Supervisor([_child("a"), _failing_after(0)]).run()


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
    async with supervise(_child("a")) as supervisor:
        with pytest.raises(ValueError, match="named 'a'"):
            await supervisor.start_child(_child("a"))
        old = supervisor.ref("a")
        await supervisor.stop_child("a")
        new = await supervisor.start_child(_child("a"))
        assert (old.gone, new.alive) == (True, True)


async def test_a_supervisor_runs_once_and_takes_children_only_then() -> None:
    supervisor = Supervisor()
    with pytest.raises(RuntimeError, match="does not run"):
        await supervisor.start_child(_child("a"))
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        with pytest.raises(RuntimeError, match="run already"):
            await supervisor.run()
        nursery.cancel_scope.cancel()
    with pytest.raises(RuntimeError):
        await supervisor.start_child(_child("a"))
    assert not supervisor.statistics().children


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
    async with supervise(_child("a", diary), _child("b", diary), strategy=strategy) as supervisor:
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
    async with supervise(_child("a", diary), strategy=strategy, on_restart=_quiet) as supervisor:
        await _crash(supervisor)
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
        assert not _states(supervisor)


async def test_cancelling_the_start_of_a_child_stops_it(autojump_clock: object) -> None:
    async with supervise() as supervisor:
        with trio.move_on_after(1):
            await supervisor.start_child(Child("slow", lambda: Sleeper(5)))
        assert not _states(supervisor)


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
    factory: Callable[[], Any] = (lambda: Sleeper(next(starts))) if when == "starting again" else _child("a").factory
    async with supervise(Child("a", factory), on_restart=_quiet) as supervisor:
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
        await _crash(supervisor, "tidy")
        await trio.sleep(1)
    assert [(r.name, type(r.crash), r.delay) for r in reports] == [("tidy", Boom, None)]


@pytest.mark.parametrize("beside", [False, True])
async def test_one_for_all_does_not_restart_for_a_child_that_crashes_while_it_alone_is_stopped(
    beside: bool, autojump_clock: object
) -> None:
    diary: list[str] = []
    reports: list[Restart] = []
    grumpy = Child("grumpy", lambda: Grumpy(beside=beside))
    async with supervise(grumpy, _child("a", diary), strategy="one_for_all", on_restart=reports.append) as supervisor:
        await supervisor.stop_child("grumpy")
        await trio.sleep(1)
        assert diary == ["a up"]
    assert [(r.name, r.delay) for r in reports] == [("grumpy", None)]


async def test_one_for_all_restarts_everyone_in_order(autojump_clock: object) -> None:
    diary: list[str] = []
    restarts: list[Restart] = []
    children = [_child(name, diary) for name in "abc"]
    async with supervise(*children, strategy="one_for_all", on_restart=restarts.append) as supervisor:
        diary.clear()
        await _crash(supervisor, "b")
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
        _child("a"),
        _child("b"),
        strategy="one_for_all",
        intensity=0,
        when_exhausted="abandon",
        on_restart=_quiet,
    ) as supervisor:
        await _crash(supervisor, "b")
        await trio.testing.wait_all_tasks_blocked()
        assert set(_states(supervisor).values()) == {ChildState.GONE}
        with pytest.raises(ActorDied):
            await supervisor.start_child(_child("c"))


async def test_one_for_all_takes_a_new_child_once_it_is_up_again(autojump_clock: object) -> None:
    async with supervise(_child("a"), strategy="one_for_all", on_restart=_quiet) as supervisor:
        await _crash(supervisor)
        await trio.testing.wait_all_tasks_blocked()
        before = trio.current_time()
        ref = await supervisor.start_child(_child("b"))
        assert trio.current_time() - before == pytest.approx(0.1)
        await _crash(supervisor)
        await trio.sleep(1)
        assert await ref.ask("x") == "x"


async def test_one_for_all_goes_on_when_a_child_is_stopped_while_it_starts_again(autojump_clock: object) -> None:
    starts = iter([0.0, 5.0])
    slow = Child("slow", lambda: Sleeper(next(starts)))
    async with supervise(slow, _child("b"), _child("c"), strategy="one_for_all", on_restart=_quiet) as supervisor:
        await _crash(supervisor, "b")
        await trio.sleep(1)
        await supervisor.stop_child("b")
        await supervisor.stop_child("slow")
        await trio.sleep(1)
        assert _states(supervisor) == {"c": ChildState.RUNNING}


async def test_errors_in_the_block_end_the_supervisor() -> None:
    refs: list[Ref[Any]] = []
    with pytest.RaisesGroup(KeyError):
        async with supervise(_child("a")) as supervisor:
            refs.append(supervisor.ref("a"))
            raise KeyError
    assert refs[0].gone
