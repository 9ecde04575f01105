"""An actor's life: readiness, batches, held replies, crashes, and what askers see of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from infermux.actors.actor import unwrap
from infermux.actors.kit import ActorDied, BaseActor, Context, Ref, Reply, spawn

Say = Callable[[str, "Reply[str] | None", Context[str]], "Awaitable[None] | None"]


class Scripted(BaseActor[str]):
    """Does `say` with each message and notes its own life in `log`."""

    def __init__(self, say: Say, *, start: Callable[[Context[str]], Awaitable[None]] | None = None) -> None:
        self.say = say
        self.start = start
        self.log: list[str] = []

    async def started(self, context: Context[str]) -> None:
        self.context = context
        if self.start is not None:
            await self.start(context)
        self.log.append("started")

    def receive(self, message: str, reply: Reply[str] | None) -> Awaitable[None] | None:
        self.log.append(message)
        return self.say(message, reply, self.context)

    def batch_done(self) -> None:
        self.log.append("batch done")

    def stopped(self) -> None:
        self.log.append("stopped")


def _silent(_message: str, _reply: Reply[str] | None, _context: Context[str]) -> None:
    """Keeps every reply open."""


def _echo(message: str, reply: Reply[str] | None, _context: Context[str]) -> None:
    if message == "boom":
        raise ValueError("boom")
    if reply is not None:
        reply.send(message)


async def _asked(ref: Ref[str], message: str, results: list[object]) -> None:
    try:
        results.append(await ref.ask(message))
    except ActorDied as died:
        results.append(died)


async def test_an_actor_answers(nursery: trio.Nursery) -> None:
    ref = await spawn(nursery, Scripted(_echo), name="echo")
    assert await ref.ask("hello") == "hello"


async def test_a_plain_object_with_receive_is_an_actor(nursery: trio.Nursery) -> None:
    class Plain:
        def receive(self, message: int, reply: Reply[int] | None) -> None:
            assert reply is not None
            reply.send(message + 1)

    ref = await spawn(nursery, Plain(), name="plain")
    assert await ref.ask(1) == 2


async def test_an_actor_that_does_not_say_how_it_receives_crashes() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(TypeError, match="BaseActor does not say")):
        async with trio.open_nursery() as nursery:
            ref = await spawn(nursery, BaseActor[int](), name="lazy")
            ref.tell(1)


async def test_spawn_returns_once_the_actor_is_ready(nursery: trio.Nursery, autojump_clock: object) -> None:
    async def start(context: Context[str]) -> None:
        assert context.name == "slow"
        context.publish("starting")
        await trio.sleep(3)
        context.ref.tell("to myself")

    actor = Scripted(_silent, start=start)
    before = trio.current_time()
    ref = await spawn(nursery, actor, name="slow")
    assert trio.current_time() - before == 3
    assert ref.status == "starting"
    await trio.testing.wait_all_tasks_blocked()
    assert actor.log == ["started", "to myself", "batch done"]


async def test_a_failed_start_is_raised_by_spawn_and_nowhere_else(nursery: trio.Nursery) -> None:
    refs: list[Ref[str]] = []

    async def start(context: Context[str]) -> None:
        refs.append(context.ref)
        raise OSError("no disk")

    actor = Scripted(_silent, start=start)
    with pytest.raises(OSError, match="no disk"):
        await spawn(nursery, actor, name="broken")
    assert refs[0].gone
    assert actor.log == ["stopped"]


async def test_cancelling_spawn_stops_the_start(nursery: trio.Nursery, autojump_clock: object) -> None:
    async def start(_context: Context[str]) -> None:
        await trio.sleep_forever()

    actor = Scripted(_silent, start=start)
    with trio.move_on_after(1) as scope:
        await spawn(nursery, actor, name="slow")
    assert scope.cancelled_caught
    assert actor.log == ["stopped"]


async def test_a_burst_is_one_batch(nursery: trio.Nursery) -> None:
    actor = Scripted(_silent)
    ref = await spawn(nursery, actor, name="burst")
    for message in "abc":
        ref.tell(message)
    await trio.testing.wait_all_tasks_blocked()
    assert actor.log == ["started", "a", "b", "c", "batch done"]


async def test_an_actor_that_keeps_telling_itself_lets_others_run(nursery: trio.Nursery) -> None:
    def again(message: str, _reply: Reply[str] | None, context: Context[str]) -> None:
        context.ref.tell(message)

    ref = await spawn(nursery, Scripted(again), name="restless", capacity=1)
    ref.tell("x")
    with trio.fail_after(5):
        for _ in range(10):
            await trio.lowlevel.checkpoint()


async def test_an_awaited_message_is_finished_before_the_next(nursery: trio.Nursery, autojump_clock: object) -> None:
    events: list[str] = []

    async def slow(message: str, _reply: Reply[str] | None, _context: Context[str]) -> None:
        events.append(f"{message} begins")
        await trio.sleep(1)
        events.append(f"{message} ends")

    ref = await spawn(nursery, Scripted(slow), name="slow")
    ref.tell("a")
    ref.tell("b")
    await trio.sleep(3)
    assert events == ["a begins", "a ends", "b begins", "b ends"]


async def test_a_crash_while_asked_is_told_to_the_asker_and_raised_in_the_nursery(nursery: trio.Nursery) -> None:
    results: list[object] = []
    actor = Scripted(_echo)
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="boom")) as caught:
        async with trio.open_nursery() as inner:
            ref = await spawn(inner, actor, name="echo")
            nursery.start_soon(_asked, ref, "boom", results)
            await trio.sleep_forever()
    await trio.testing.wait_all_tasks_blocked()
    (died,) = results
    assert isinstance(died, ActorDied)
    assert (died.name, str(died)) == ("echo", "actor 'echo' died of ValueError")
    assert died.__cause__ is caught.value.exceptions[0]
    assert caught.value.exceptions[0].__context__ is None
    assert actor.log == ["started", "boom", "stopped"]


async def test_a_crash_answers_the_handled_the_held_and_the_waiting(nursery: trio.Nursery) -> None:
    def say(message: str, _reply: Reply[str] | None, _context: Context[str]) -> None:
        if message == "boom":
            raise ValueError

    results: list[object] = []
    with pytest.RaisesGroup(ValueError):
        async with trio.open_nursery() as inner:
            ref = await spawn(inner, Scripted(say), name="keeper")
            for message in ("held", "boom", "waiting"):
                nursery.start_soon(_asked, ref, message, results)
                await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    assert [type(result) for result in results] == [ActorDied] * 3


async def test_a_held_reply_can_be_answered_later(nursery: trio.Nursery, autojump_clock: object) -> None:
    async def later(reply: Reply[str]) -> None:
        await trio.sleep(1)
        reply.send("at last")

    def say(_message: str, reply: Reply[str] | None, context: Context[str]) -> None:
        assert reply is not None
        context.hold(reply)
        context.start_soon(later, reply)

    ref = await spawn(nursery, Scripted(say), name="patient")
    assert await ref.ask("x") == "at last"


async def test_a_reply_that_came_inside_a_message_can_be_held(nursery: trio.Nursery) -> None:
    class Holder(BaseActor["Reply[str]"]):
        async def started(self, context: Context[Reply[str]]) -> None:
            self.context = context

        def receive(self, message: Reply[str], reply: Reply[None] | None) -> None:
            self.context.hold(message)
            self.context.hold(message)

    first = Scripted(_silent)
    results: list[object] = []
    kept: list[Reply[str]] = []

    def keep(_message: str, reply: Reply[str] | None, _context: Context[str]) -> None:
        assert reply is not None
        kept.append(reply)

    first.say = keep
    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as inner:
            asked = await spawn(inner, first, name="first")
            holder = await spawn(outer, Holder(), name="holder")
            nursery.start_soon(_asked, asked, "x", results)
            await trio.testing.wait_all_tasks_blocked()
            holder.tell(kept[0])
            await trio.testing.wait_all_tasks_blocked()
            inner.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert not results
        outer.cancel_scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert str(results[0]) == "actor 'holder' was stopped"


async def test_holding_what_is_done_or_by_the_dead_does_not_last(nursery: trio.Nursery) -> None:
    actor = Scripted(_silent)
    async with trio.open_nursery() as inner:
        await spawn(inner, actor, name="holder")
        inner.cancel_scope.cancel()
    done: Reply[str] = Reply()
    done.send("x")
    actor.context.hold(done)
    assert await done.wait() == "x"
    late: Reply[str] = Reply()
    actor.context.hold(late)
    with pytest.raises(ActorDied):
        await late.wait()


async def test_shutdown_in_the_middle_of_a_message_answers_every_asker(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    async def slow(_message: str, _reply: Reply[str] | None, _context: Context[str]) -> None:
        await trio.sleep(10)

    results: list[object] = []
    actor = Scripted(slow)
    async with trio.open_nursery() as inner:
        ref = await spawn(inner, actor, name="slow")
        nursery.start_soon(_asked, ref, "handled", results)
        await trio.sleep(1)
        nursery.start_soon(_asked, ref, "waiting", results)
        await trio.sleep(1)
        inner.cancel_scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(map(str, results)) == ["actor 'slow' was stopped"] * 2
    assert actor.log == ["started", "handled", "stopped"]


async def test_the_crash_of_a_background_task_is_the_actors(nursery: trio.Nursery) -> None:
    async def fail() -> None:
        raise KeyError("background")

    def say(_message: str, _reply: Reply[str] | None, context: Context[str]) -> None:
        context.start_soon(fail)

    results: list[object] = []
    with pytest.RaisesGroup(KeyError):
        async with trio.open_nursery() as inner:
            ref = await spawn(inner, Scripted(say), name="busy")
            nursery.start_soon(_asked, ref, "x", results)
    await trio.testing.wait_all_tasks_blocked()
    assert str(results[0]) == "actor 'busy' died of KeyError"


async def test_crashes_of_several_background_tasks_come_as_a_group() -> None:
    async def fail(error: Exception) -> None:
        raise error

    async def start(context: Context[str]) -> None:
        context.start_soon(fail, KeyError("a"))
        context.start_soon(fail, OSError("b"))

    with pytest.RaisesGroup(pytest.RaisesGroup(KeyError, OSError)):
        async with trio.open_nursery() as nursery:
            await spawn(nursery, Scripted(_silent, start=start), name="busy")


async def test_background_tasks_end_with_the_actor(nursery: trio.Nursery, autojump_clock: object) -> None:
    ended: list[float] = []

    async def beat() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    async def start(context: Context[str]) -> None:
        context.start_soon(beat)

    async with trio.open_nursery() as inner:
        await spawn(inner, Scripted(_silent, start=start), name="heart")
        await trio.sleep(1)
        inner.cancel_scope.cancel()
    assert ended == [trio.current_time()]


async def test_a_dead_actor_handles_nothing_more_after_a_shielded_message(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    async def fail() -> None:
        await trio.sleep(1)
        raise KeyError

    async def start(context: Context[str]) -> None:
        context.start_soon(fail)

    async def shielded(_message: str, _reply: Reply[str] | None, _context: Context[str]) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)

    actor = Scripted(shielded, start=start)
    results: list[object] = []

    async def ask() -> None:
        await _asked(ref, "handled", results)
        results.append(trio.current_time())

    before = trio.current_time()
    with pytest.RaisesGroup(KeyError):
        async with trio.open_nursery() as inner:
            ref = await spawn(inner, actor, name="stubborn")
            ref.tell("first")
            await trio.testing.wait_all_tasks_blocked()
            ref.tell("second")
            nursery.start_soon(ask)
    assert trio.current_time() - before == 5
    assert actor.log == ["started", "first", "stopped"]
    assert results[1] == before + 1


async def test_a_message_that_arrives_with_the_crash_waits_for_the_next_incarnation() -> None:
    async def fail() -> None:
        actor.context.ref.tell("told in the same tick")
        raise KeyError

    async def start(context: Context[str]) -> None:
        context.start_soon(fail)

    actor = Scripted(_silent, start=start)
    with pytest.RaisesGroup(KeyError):
        async with trio.open_nursery() as nursery:
            await spawn(nursery, actor, name="torn")
            await trio.sleep_forever()
    assert actor.log == ["started", "stopped"]


async def test_a_crash_in_the_hook_after_a_batch_is_a_crash(nursery: trio.Nursery) -> None:
    class Clumsy(BaseActor[str]):
        def receive(self, message: str, reply: Reply[str] | None) -> None:
            assert message

        def batch_done(self) -> None:
            raise ValueError

    results: list[object] = []
    with pytest.RaisesGroup(ValueError):
        async with trio.open_nursery() as inner:
            ref = await spawn(inner, Clumsy(), name="clumsy")
            nursery.start_soon(_asked, ref, "x", results)
    await trio.testing.wait_all_tasks_blocked()
    assert isinstance(results[0], ActorDied)


def test_a_group_of_one_is_unwrapped_at_any_depth() -> None:
    error = ValueError()
    several = ExceptionGroup("", [error, KeyError()])
    assert unwrap(error) is error
    assert unwrap(ExceptionGroup("", [ExceptionGroup("", [error])])) is error
    assert unwrap(ExceptionGroup("", [several])) is several
