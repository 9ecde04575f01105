"""A request that an operator ends: its caller is told so, nothing goes on upstream, nobody else is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from infermux.actors.dispatch import Run
from infermux.actors.draft import Draft
from infermux.actors.lease import Lease
from infermux.actors.phase import Phase
from infermux.actors.reply import Reply
from infermux.config.settings import Backoff, Hedge, Queue, RateLimits, Retry
from infermux.errors import RequestKilled
from tests.actors._scripted import (
    HANGS,
    OK,
    PRIORITY,
    SERVER_ERROR,
    Step,
    Taken,
    World,
    consume,
    nothing_is_left,
    provider,
    streams,
    two,
    world,
)

KILLED = RequestKilled("an operator ended it")


async def killed_in(w: World, run: Run, phase: Phase, *, after: float = 1.0) -> None:
    """Serve `run`, kill it `after` seconds in `phase`: it must end at that moment, with what it is killed with."""
    ended_at = 0.0

    async def served() -> None:
        try:
            await run.begin()
            await run.pump(Taken())
        finally:
            run.close()

    async def serve() -> None:
        nonlocal ended_at
        with pytest.raises(RequestKilled, match="an operator ended it"):
            await served()
        ended_at = trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await trio.sleep(after)
        assert run.phase is phase
        at = trio.current_time()
        run.kill(KILLED)
    assert ended_at == at
    assert run.phase is Phase.DONE
    await nothing_is_left(w)


async def test_while_it_waits_for_an_answer(autojump_clock: MockClock) -> None:
    async with world(*two(), routing=PRIORITY, script={"a": [HANGS]}) as w:
        await killed_in(w, w.run(), Phase.WAITING)
        assert w["b"].asked == []
        assert w.fleet.members["a"].gate.breaker.consecutive_failures == 0


async def test_while_it_streams(autojump_clock: MockClock) -> None:
    async with world(*two(), routing=PRIORITY, script={"a": [streams(stalls=True)]}) as w:
        await killed_in(w, w.run(stream=True), Phase.STREAMING)
        assert w["b"].asked == []


async def test_while_it_waits_in_the_queue(autojump_clock: MockClock) -> None:
    one = provider("a", "m", rate_limits=RateLimits(max_concurrent=1))
    async with world(one, queue=Queue(max_wait=60.0), script={"a": [Step(seconds=30.0)]}) as w:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.chat)
            await trio.sleep(0.5)
            await killed_in_queue(w)
        assert len(w["a"].asked) == 1


async def killed_in_queue(w: World) -> None:
    run = w.run()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            with pytest.raises(RequestKilled):
                await run.begin()
            run.close()

        nursery.start_soon(serve)
        await trio.sleep(1)
        assert run.phase is Phase.QUEUED
        run.kill(KILLED)


@attrs.define(eq=False)
class BeforeStep(trio.abc.Instrument):
    """Does something once, just before `task` runs for the first time that `when` holds."""

    task: trio.lowlevel.Task
    do: Callable[[], None]
    when: Callable[[], object] = attrs.field(kw_only=True)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task and self.when():
            trio.lowlevel.remove_instrument(self)
            self.do()


@pytest.mark.parametrize("stream", [False, True])
async def test_in_the_very_pass_of_the_loop_in_which_it_is_granted(
    stream: bool, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """The lease is in its reply, and its task has not run yet."""
    send = Reply[Any].send
    one = provider("a", "m", rate_limits=RateLimits(max_concurrent=1))
    async with world(one, queue=Queue(max_wait=60.0), script={"a": [streams(stalls=True)]}) as w:
        first, run = w.run(stream=True), w.run(stream=stream)
        await first.begin()

        def sent_and_killed(reply: Reply[Any], value: Any) -> bool:
            taken = send(reply, value)
            assert isinstance(value, Lease)
            assert run.phase is Phase.QUEUED
            run.kill(KILLED)
            return taken

        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                with pytest.raises(RequestKilled, match="an operator ended it"):
                    await run.begin()
                run.close()

            nursery.start_soon(serve)
            await trio.sleep(1)
            monkeypatch.setattr(Reply, "send", sent_and_killed)
            first.close()
        monkeypatch.setattr(Reply, "send", send)
        assert run.trail
        assert len(w["a"].asked) == 1
        await nothing_is_left(w)


async def test_in_the_pause_before_the_same_provider_is_asked_again(autojump_clock: MockClock) -> None:
    retry = Retry(same_provider=1, backoff=Backoff(base=20.0, max=60.0))
    async with world(provider("a", "m"), retry=retry, script={"a": [SERVER_ERROR]}) as w:
        await killed_in(w, w.run(), Phase.PAUSING)
        assert len(w["a"].asked) == 1


async def test_both_attempts_of_a_hedged_request_end(autojump_clock: MockClock) -> None:
    hedge = Hedge(enabled=True, after="1s", max_extra_ratio=1.0)
    async with world(*two(), routing=PRIORITY, hedge=hedge, script={"a": [HANGS], "b": [HANGS]}) as w:
        await killed_in(w, w.run(), Phase.WAITING, after=5.0)
        assert (len(w["a"].asked), len(w["b"].asked)) == (1, 1)


async def test_before_anything_is_sent_nothing_is(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w:
        run = w.run()
        run.kill(KILLED)
        with pytest.raises(RequestKilled):
            await run.begin()
        run.close()
        assert w["a"].asked == []


@pytest.mark.parametrize("reads", [True, False])
async def test_between_two_reads_it_ends_at_the_next(reads: bool, autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [streams(stalls=True)]}) as w:
        run = w.run(stream=True)
        await run.begin()
        run.kill(KILLED)
        with pytest.raises(RequestKilled):
            await consume(run, reads)
        await nothing_is_left(w)


async def test_a_whole_answer_that_is_on_its_way_out_cannot_be_killed(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [OK]}) as w:
        draft = Draft(journal=w.fleet.journal, id=b"x")
        assert draft.kill(KILLED)  # it is still being received
        draft.run = await w.chat()
        assert not draft.kill(KILLED)


async def test_one_that_follows_another_request_ends_there_and_does_not_begin_to_when_it_is_killed_before(
    autojump_clock: MockClock,
) -> None:
    del autojump_clock
    async with world(provider("a", "m")) as w, trio.open_nursery() as nursery:
        run = w.run()
        told = list[str]()

        async def follow() -> None:
            for _ in range(2):
                with pytest.raises(RequestKilled):
                    await run.follow(trio.sleep_forever)
                told.append("killed")

        nursery.start_soon(follow)
        await trio.sleep(3)
        assert run.phase is Phase.FOLLOWING
        run.kill(KILLED)
        await w.settled()
        assert told == ["killed"] * 2
        assert run.waited == pytest.approx(3)
        run.close()
