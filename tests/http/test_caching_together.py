"""Those who ask the same while it is being answered: who waits for whom, and who goes on by itself."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import MockClock

from infermux.config.settings import CacheSettings
from infermux.errors import FailureKind, RequestKilled, UpstreamFailure
from tests.actors._scripted import Step, streams
from tests.http._cached import BODY, FAILS, SLOW, STREAM, WHOLE, door
from tests.http._memory import MemoryExchange


@pytest.mark.parametrize("step", [WHOLE, SLOW], ids=["whole", "stream"])
async def test_a_hundred_at_once_are_one_request(step: Step, autojump_clock: MockClock) -> None:
    del autojump_clock
    async with door(step) as d:
        crowd = [MemoryExchange(BODY if step.chunks is None else STREAM) for _ in range(100)]
        await d.together(crowd)
        assert d.sent == 1
        assert len({exchange.data for exchange in crowd}) == 1
        assert [exchange.cache for exchange in crowd] == ["miss"] + ["hit"] * 99
        assert d.caching.cache.tally.followed == 99
        followed = d.records[-1]
        assert followed.waited > 0.8
        assert followed.overhead < 0.01


@pytest.mark.parametrize("step", [WHOLE, SLOW], ids=["whole", "stream"])
async def test_when_the_leader_leaves_another_one_takes_its_place(step: Step, autojump_clock: MockClock) -> None:
    del autojump_clock
    async with door(step, step) as d, trio.open_nursery() as nursery:
        crowd = [MemoryExchange(BODY if step.chunks is None else STREAM) for _ in range(5)]
        nursery.start_soon(d.together, crowd)
        await trio.sleep(0.5)
        crowd[0].leave()
        await trio.sleep(10)
        assert d.sent == 2
        assert [exchange.cache for exchange in crowd[1:]].count("miss") == 1
        assert {exchange.status for exchange in crowd[1:]} == {200}
        assert all(exchange.ended for exchange in crowd[1:])


async def test_when_the_leader_fails_another_one_takes_its_place(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with door(FAILS, WHOLE) as d:
        crowd = [MemoryExchange(BODY) for _ in range(5)]
        await d.together(crowd)
        assert [exchange.status for exchange in crowd] == [400, 200, 200, 200, 200]
        assert d.sent == 2


async def test_nobody_waits_in_vain_more_than_twice(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with door(*[FAILS] * 20) as d:
        crowd = [MemoryExchange(BODY) for _ in range(20)]
        began = trio.current_time()
        await d.together(crowd)
        assert {exchange.status for exchange in crowd} == {400}
        assert trio.current_time() - began < 3.1
        assert d.sent == 20


async def test_a_leaders_own_deadline_is_not_that_of_the_others(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with door(Step(hangs=True), WHOLE) as d:
        hurried = MemoryExchange(BODY, headers={"X-Infermux-Timeout": "2s"})
        patient = MemoryExchange(BODY)
        await d.together([hurried, patient])
        assert (hurried.status, patient.status) == (504, 200)


async def test_a_follower_has_its_own_deadline_leaves_and_is_killed_by_itself(autojump_clock: MockClock) -> None:
    del autojump_clock
    slow = attrs.evolve(WHOLE, seconds=20.0)
    async with door(slow) as d, trio.open_nursery() as nursery:
        leader, leaving, killed = (MemoryExchange(BODY, headers={"X-Request-Id": name}) for name in "abc")
        hurried = MemoryExchange(BODY, headers={"X-Infermux-Timeout": "3s"})
        nursery.start_soon(d.together, [leader, leaving, killed, hurried])
        await trio.sleep(1)
        running = {draft.id: draft for draft in d.inference.running}
        assert len(running) == d.inference.in_flight == 4
        assert [draft.run.phase.value for draft in running.values() if draft.run is not None] == [
            "waiting",
            *["following"] * 3,
        ]
        leaving.leave()
        assert running[b"c"].kill(RequestKilled("over"))
        await trio.sleep(0.01)
        assert d.inference.in_flight == 2
        assert (killed.status, leaving.status) == (RequestKilled.status, 0)
        await trio.sleep(2)
        assert hurried.status == 504
        assert d.sent == 1
        await trio.sleep(20)
        assert leader.status == 200


async def test_a_killed_leader_ends_alone(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with door(WHOLE, WHOLE) as d, trio.open_nursery() as nursery:
        leader, follower = MemoryExchange(BODY), MemoryExchange(BODY)
        nursery.start_soon(d.together, [leader, follower])
        await trio.sleep(0.5)
        assert next(iter(d.inference.running)).kill(RequestKilled("over"))
        await trio.sleep(5)
        assert (leader.status, follower.status) == (RequestKilled.status, 200)


async def test_those_who_follow_what_turns_out_too_large_go_on_by_themselves(autojump_clock: MockClock) -> None:
    del autojump_clock
    event = b"data: %b\n\n" % (b"x" * 5000)
    large = streams(event, event, event, gap=1.0)
    async with door(large, large, large, cache=CacheSettings(enabled=True, max_bytes=64 * 1024)) as d:
        crowd = [MemoryExchange(STREAM) for _ in range(3)]
        began = trio.current_time()
        await d.together(crowd)
        assert [exchange.data for exchange in crowd] == [event * 3] * 3
        assert trio.current_time() - began < 3.1


async def test_a_whole_answer_that_is_too_large_to_be_kept_is_shared(autojump_clock: MockClock) -> None:
    del autojump_clock
    large = Step(seconds=1.0, body=b"x" * 9000)
    async with door(large, cache=CacheSettings(enabled=True, max_bytes=64 * 1024)) as d:
        crowd = [MemoryExchange(BODY) for _ in range(3)]
        await d.together(crowd)
        assert d.sent == 1
        assert [len(exchange.data) for exchange in crowd] == [9000] * 3


async def test_nobody_waits_for_a_leader_whose_caller_does_not_read(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with door(SLOW, SLOW) as d:
        slow, follower = MemoryExchange(STREAM), MemoryExchange(STREAM)
        slow.stuck = 50.0
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(d.together, [slow, follower])
            await trio.sleep(8)
            assert follower.ended
            assert not slow.ended
        assert trio.current_time() - began > 50
        assert slow.data == follower.data


async def test_who_takes_the_place_of_a_slow_leader_leads_those_who_come_after_too(autojump_clock: MockClock) -> None:
    del autojump_clock
    breaks = attrs.evolve(SLOW, breaks=UpstreamFailure(FailureKind.BROKEN, "cut"))
    async with door(breaks, attrs.evolve(SLOW, gap=5.0)) as d, trio.open_nursery() as nursery:
        slow, *crowd = [MemoryExchange(STREAM) for _ in range(5)]
        slow.stuck = 4.0
        nursery.start_soon(d.together, [slow, *crowd])
        await trio.sleep(7.5)
        assert slow.ended
        assert not any(exchange.ended for exchange in crowd)
        late = MemoryExchange(STREAM, headers={"Cache-Control": "max-age=5"})
        nursery.start_soon(d.take, late)
        await trio.sleep(10)
        assert d.sent == 2
        assert all(exchange.ended for exchange in (*crowd, late))


async def test_who_asks_anew_waits_for_nobody(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with door(WHOLE, WHOLE) as d:
        await d.together([MemoryExchange(BODY), MemoryExchange(BODY, headers={"Cache-Control": "no-cache"})])
        assert d.sent == 2


async def test_while_the_server_ends_nobody_is_sent_in_the_place_of_another(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with door(FAILS) as d:
        leader, follower = MemoryExchange(BODY), MemoryExchange(BODY)
        follower.shutting = True
        await d.together([leader, follower])
        assert follower.status == 503
        assert d.sent == 1
