"""An eager actor: handled at once where it is idle, with every promise of the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import trio
import trio.testing

from infermux.actors.actor import BaseActor, Context, spawn
from infermux.actors.kit_errors import ActorDied
from infermux.actors.ref import Ref
from infermux.actors.reply import Reply
from infermux.actors.supervisor import Backoff, Child, Supervisor


class Eager(BaseActor[Any]):
    """Answers what it is asked; a callable is called with the reply first."""

    eager: ClassVar[bool] = True

    def __init__(self) -> None:
        self.handled: list[Any] = []
        self.batches = 0
        self.tasks: set[trio.lowlevel.Task] = set()
        self.context: Context[Any] | None = None

    async def started(self, context: Context[Any]) -> None:
        self.context = context

    def receive(self, message: Any, reply: Reply[Any] | None) -> None:
        self.tasks.add(trio.lowlevel.current_task())
        self.handled.append(message)
        if isinstance(message, Callable):  # type: ignore[arg-type]
            message(reply)
        elif reply is not None:
            reply.send(message)

    def batch_done(self) -> None:
        self.batches += 1


def crash(_: object) -> None:
    raise ValueError("boom")


async def test_an_idle_eager_actor_answers_in_the_askers_task(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        actor = Eager()
        ref = await spawn(nursery, actor, name="eager")
        await trio.testing.wait_all_tasks_blocked()
        assert await ref.ask(1) == 1
        assert actor.tasks == {trio.lowlevel.current_task()}
        ref.tell(2)
        ref.deliver(3)
        assert actor.handled == [1, 2, 3]
        assert actor.batches == 3
        nursery.cancel_scope.cancel()


async def test_what_comes_while_it_handles_is_queued_in_order(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        actor = Eager()
        ref: Ref[Any] = await spawn(nursery, actor, name="eager")
        await trio.testing.wait_all_tasks_blocked()
        seen: list[list[Any]] = []

        def nested(_: object) -> None:
            ref.tell("inner")
            seen.append(list(actor.handled))

        ref.tell(nested)
        assert seen == [[nested]], "the inner message must wait for the outer one"
        ref.tell("later")
        await trio.testing.wait_all_tasks_blocked()
        assert actor.handled == [nested, "inner", "later"]
        nursery.cancel_scope.cancel()


async def test_its_crash_is_its_own_and_not_the_senders(autojump_clock: trio.testing.MockClock) -> None:
    crashes: list[str] = []
    supervisor = Supervisor(backoff=Backoff(base=1.0), on_restart=lambda r: crashes.append(str(r.crash)))
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        ref = await supervisor.start_child(Child("eager", Eager))
        await trio.testing.wait_all_tasks_blocked()
        ref.tell(crash)  # raises nothing here
        with pytest.raises(ActorDied):
            await ref.ask("behind the crash")
        await trio.testing.wait_all_tasks_blocked()
        assert crashes == ["boom"]
        ref.tell("kept")
        await trio.sleep(2)
        assert await ref.ask("again") == "again"
        nursery.cancel_scope.cancel()


async def test_the_asker_of_the_message_that_crashed_it_is_told(autojump_clock: trio.testing.MockClock) -> None:
    supervisor = Supervisor(on_restart=lambda _: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        ref = await supervisor.start_child(Child("eager", Eager))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ActorDied):
            await ref.ask(crash)
        nursery.cancel_scope.cancel()


def keep(_: Reply[Any]) -> None:
    """Neither answer nor refuse."""


def refuse(reply: Reply[Any]) -> None:
    reply.fail(KeyError("no"))


async def test_a_kept_reply_is_held_and_fails_with_the_actor(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as nursery:
            ref = await spawn(nursery, Eager(), name="eager")
            await trio.testing.wait_all_tasks_blocked()
            failed = trio.Event()

            async def ask() -> None:
                with pytest.raises(ActorDied):
                    await ref.ask(keep)
                failed.set()

            outer.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await failed.wait()


async def test_an_error_it_answers_with_is_raised_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        ref = await spawn(nursery, Eager(), name="eager")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(KeyError):
            await ref.ask(refuse)
        nursery.cancel_scope.cancel()


async def test_an_async_receive_is_its_crash() -> None:
    class Wrong(BaseActor[Any]):
        eager: ClassVar[bool] = True

        async def receive(self, message: Any, reply: Reply[Any] | None) -> None:
            """Never awaited."""

    async def use() -> None:
        async with trio.open_nursery() as nursery:
            ref = await spawn(nursery, Wrong(), name="wrong")
            await trio.testing.wait_all_tasks_blocked()
            ref.tell(1)
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await use()
    assert "must not be async" in str(caught.value.exceptions[0])


async def test_a_status_made_when_read_is_made_once_per_change(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        actor = Eager()
        ref = await spawn(nursery, actor, name="eager")
        assert actor.context is not None
        made: list[int] = []

        def make() -> int:
            made.append(len(made))
            return made[-1]

        assert not made
        actor.context.publish_when_read(make)
        actor.context.publish_when_read(make)
        assert made == []
        assert [ref.status, ref.status] == [0, 0]
        actor.context.publish_when_read(make)
        assert ref.status == 1
        actor.context.publish_when_read(make)
        actor.context.publish("plain")
        assert ref.status == "plain"
        nursery.cancel_scope.cancel()


async def test_a_handler_may_cancel_its_own_actor(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as nursery:
            actor = Eager()
            ref = await spawn(nursery, actor, name="eager")
            await trio.testing.wait_all_tasks_blocked()

            def stop(_: object) -> None:
                ref.tell("queued meanwhile")
                nursery.cancel_scope.cancel()

            ref.tell(stop)
            assert actor.handled == [stop]
        with pytest.raises(ActorDied):
            ref.tell("too late")
        assert actor.handled == [stop], "nothing is handled after the cancellation"
        outer.cancel_scope.cancel()
