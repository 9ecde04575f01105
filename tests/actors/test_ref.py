"""The verbs of an address, and what each does when the actor is busy, full, down or gone."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from infermux.actors.kit import (
    ActorDied,
    BaseActor,
    Child,
    Context,
    MailboxFull,
    Ref,
    Reply,
    ask,
    spawn,
    supervise,
    tell,
)


class Scribe(BaseActor[str]):
    """Writes down what it gets. "sleep": busy for a second. "boom": crashes. "keep": the reply is left open."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.kept: list[Reply[str]] = []

    async def receive(self, message: str, reply: Reply[str] | None) -> None:
        self.log.append(message)
        if message == "boom":
            raise ValueError("boom")
        if message == "sleep":
            await trio.sleep(1)
        if reply is not None:
            if message == "keep":
                self.kept.append(reply)
            else:
                reply.send(message.upper())


class Porter(BaseActor[str]):
    """Passes every question on."""

    def __init__(self, target: Ref[str]) -> None:
        self.target = target

    def receive(self, message: str, reply: Reply[str] | None) -> None:
        assert reply is not None
        self.target.forward(message.removesuffix("!"), reply)
        if message.endswith("!"):
            raise ValueError("after forwarding")


async def _outcome(ref: Ref[str], message: str, results: list[object]) -> None:
    try:
        results.append(await ref.ask(message))
    except (ActorDied, MailboxFull) as error:
        results.append(type(error))


async def test_the_plain_functions_do_what_the_methods_do(nursery: trio.Nursery) -> None:
    log: list[str] = []
    ref = await spawn(nursery, Scribe(log), name="scribe")
    tell(ref, "a")
    assert await ask(ref, "b") == "B"
    assert log == ["a", "b"]
    assert ref.name == "scribe"
    assert repr(ref) == "<Ref 'scribe' alive, 0 waiting>"


async def test_tell_and_ask_refuse_when_the_mailbox_is_full(nursery: trio.Nursery, autojump_clock: object) -> None:
    log: list[str] = []
    ref = await spawn(nursery, Scribe(log), name="scribe", capacity=1)
    ref.tell("sleep")
    await trio.testing.wait_all_tasks_blocked()
    ref.tell("a")
    with pytest.raises(MailboxFull):
        ref.tell("b")
    with pytest.raises(MailboxFull):
        await ref.ask("c")
    await trio.sleep(2)
    assert log == ["sleep", "a"]


async def test_deliver_goes_past_the_capacity(nursery: trio.Nursery, autojump_clock: object) -> None:
    log: list[str] = []
    ref = await spawn(nursery, Scribe(log), name="scribe", capacity=1)
    ref.tell("sleep")
    await trio.testing.wait_all_tasks_blocked()
    assert all([ref.deliver("a"), ref.deliver("b")])
    await trio.sleep(2)
    assert log == ["sleep", "a", "b"]


async def test_an_asker_that_is_cancelled_leaves_a_reply_that_nobody_wants(nursery: trio.Nursery) -> None:
    actor = Scribe([])
    ref = await spawn(nursery, actor, name="scribe")
    with trio.CancelScope() as scope:
        nursery.start_soon(_cancel_when_idle, scope)
        await ref.ask("keep")
    assert scope.cancelled_caught
    assert actor.kept[0].done
    assert not actor.kept[0].send("granted")


async def _cancel_when_idle(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()


async def test_an_error_the_actor_answers_with_is_raised_in_the_asker(nursery: trio.Nursery) -> None:
    class Refuser(BaseActor[str]):
        def receive(self, message: str, reply: Reply[str] | None) -> None:
            assert reply is not None
            reply.fail(KeyError(message))

    ref = await spawn(nursery, Refuser(), name="refuser")
    with pytest.raises(KeyError, match="x"):
        await ref.ask("x")


async def test_an_actor_that_is_gone_takes_nothing() -> None:
    async with trio.open_nursery() as nursery:
        ref = await spawn(nursery, Scribe([]), name="scribe")
        assert (ref.alive, ref.gone) == (True, False)
        nursery.cancel_scope.cancel()
    assert (ref.alive, ref.gone) == (False, True)
    with pytest.raises(ActorDied, match="'scribe' was stopped"):
        ref.tell("a")
    with pytest.raises(ActorDied):
        await ref.ask("a")
    assert not ref.deliver("a")
    reply: Reply[str] = Reply()
    ref.forward("a", reply)
    with pytest.raises(ActorDied):
        await reply.wait()
    assert repr(ref) == "<Ref 'scribe' gone, 0 waiting>"


async def test_while_an_actor_is_down_tells_wait_and_asks_fail_at_once(autojump_clock: object) -> None:
    log: list[str] = []
    async with supervise(Child("scribe", lambda: Scribe(log)), on_restart=lambda _: None) as supervisor:
        ref = supervisor.ref("scribe")
        with pytest.raises(ActorDied, match="died of ValueError") as caught:
            await ref.ask("boom")
        assert isinstance(caught.value.__cause__, ValueError)
        assert (ref.alive, ref.gone) == (False, False)
        assert repr(ref) == "<Ref 'scribe' down, 0 waiting>"
        ref.tell("a")
        assert ref.deliver("b")
        before = trio.current_time()
        with pytest.raises(ActorDied, match="died of ValueError"):
            await ref.ask("c")
        assert trio.current_time() == before
        await trio.sleep(1)
        assert log == ["boom", "a", "b"]


async def test_a_crash_keeps_what_was_told_and_answers_what_was_asked(autojump_clock: object) -> None:
    log: list[str] = []
    async with (
        supervise(Child("scribe", lambda: Scribe(log)), on_restart=lambda _: None) as supervisor,
        trio.open_nursery() as nursery,
    ):
        ref = supervisor.ref("scribe")
        results: list[object] = []
        ref.tell("sleep")
        await trio.testing.wait_all_tasks_blocked()
        for message in ("boom", "a"):
            ref.tell(message)
        nursery.start_soon(_outcome, ref, "asked", results)
        await trio.testing.wait_all_tasks_blocked()
        ref.tell("b")
        await trio.sleep(1.05)
        assert results == [ActorDied]
        await trio.sleep(1)
        assert log == ["sleep", "boom", "a", "b"]


async def test_a_forwarded_question_is_answered_by_the_other_actor(nursery: trio.Nursery) -> None:
    scribe = await spawn(nursery, Scribe([]), name="scribe")
    porter = await spawn(nursery, Porter(scribe), name="porter")
    assert await porter.ask("x") == "X"


async def test_the_death_of_the_actor_a_question_was_forwarded_to_reaches_the_asker(autojump_clock: object) -> None:
    async with (
        supervise(Child("scribe", lambda: Scribe([])), on_restart=lambda _: None) as supervisor,
        trio.open_nursery() as nursery,
    ):
        porter = await spawn(nursery, Porter(supervisor.ref("scribe")), name="porter")
        with pytest.raises(ActorDied, match="scribe"):
            await porter.ask("boom")
        with pytest.raises(ActorDied, match="scribe"):
            await porter.ask("it is down")
        nursery.cancel_scope.cancel()


async def test_the_death_of_the_actor_that_forwarded_is_nothing_to_the_asker(autojump_clock: object) -> None:
    async with (
        trio.open_nursery() as nursery,
        supervise(on_restart=lambda _: None) as supervisor,
    ):
        scribe = await spawn(nursery, Scribe([]), name="scribe")
        porter = await supervisor.start_child(Child("porter", lambda: Porter(scribe)))
        assert await porter.ask("x!") == "X"
        assert not porter.alive
        nursery.cancel_scope.cancel()


async def test_forwarding_to_a_full_mailbox_fails_the_reply(nursery: trio.Nursery, autojump_clock: object) -> None:
    scribe = await spawn(nursery, Scribe([]), name="scribe", capacity=1)
    porter = await spawn(nursery, Porter(scribe), name="porter")
    scribe.tell("sleep")
    await trio.testing.wait_all_tasks_blocked()
    scribe.tell("a")
    with pytest.raises(MailboxFull, match="scribe"):
        await porter.ask("x")


async def test_a_kept_reply_that_is_forwarded_is_kept_no_longer(nursery: trio.Nursery) -> None:
    scribe = await spawn(nursery, Scribe([]), name="scribe")
    keeper = Scribe([])
    async with trio.open_nursery() as inner:
        ref = await spawn(inner, keeper, name="keeper")
        results: list[object] = []
        nursery.start_soon(_outcome, ref, "keep", results)
        await trio.testing.wait_all_tasks_blocked()
        scribe.forward("late", keeper.kept[0])
        inner.cancel_scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert results == ["LATE"]


async def test_the_status_is_the_latest_published(nursery: trio.Nursery) -> None:
    class Counter(BaseActor[int]):
        count = 0

        async def started(self, context: Context[int]) -> None:
            self.context = context

        def receive(self, message: int, reply: Reply[int] | None) -> None:
            self.count += message
            self.context.publish(self.count)

    ref = await spawn(nursery, Counter(), name="counter")
    assert ref.status is None
    ref.tell(2)
    ref.tell(3)
    await trio.testing.wait_all_tasks_blocked()
    assert ref.status == 5
