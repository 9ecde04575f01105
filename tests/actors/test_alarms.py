"""Attempts without a cancel scope: time limits, leaving, revoking and killing close the connection they wait on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from infermux.actors.alarms import Alarms
from infermux.actors.fleet import Fleet
from infermux.actors.opening import open_fleet
from infermux.config.settings import Config, ProbeMethod, Timeouts
from infermux.errors import CallerLeft, DeadlineExceeded, FailureKind, InfermuxError, RequestKilled, UpstreamTimeout
from infermux.providers.express import ExpressTransport
from infermux.providers.interface import Answer, Call, Endpoint, Usage
from infermux.providers.transport import Origin
from infermux.providers.wire import MemoryWire, Wire, memory_pair
from infermux.secret import Secret
from tests.actors._scripted import NO_STAYING, Person, World, provider

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class OnMemory:
    """An adapter over the express transport whose connections are in memory. `dials`: it gets none, for ever."""

    endpoints = frozenset({Endpoint.CHAT})
    stops = endpoints
    transport = "express"

    def __init__(self, *, dials: bool = True) -> None:
        self.near: list[MemoryWire] = []
        self.far: list[MemoryWire] = []
        self._dials = dials
        self.express = ExpressTransport(Origin("upstream.test", 80, False), dial=self._dial, connect_timeout=600)

    async def _dial(self, origin: Origin) -> Wire:
        if not self._dials:
            await trio.sleep_forever()
        near, far = memory_pair()
        self.near.append(near)
        self.far.append(far)
        return near

    async def send(self, call: Call) -> Answer:
        response = await self.express.request(b"POST", b"/", (), call.body)
        return Answer(response.status, b"application/json", await response.read())

    async def probe(self, method: ProbeMethod, model: str | None, key: Secret | None = None) -> Usage | None:
        raise AssertionError("it is never probed")

    async def list_models(self) -> Sequence[str]:
        return ()

    async def aclose(self) -> None:
        await self.express.aclose()


@asynccontextmanager
async def running(adapter: OnMemory, **more: Any) -> AsyncGenerator[World]:
    settings = provider("a", "m", timeout=30.0, **more)
    config = Config(providers=(settings,), retry=NO_STAYING)
    fleet: Fleet
    async with open_fleet(config, environ={}, adapters=lambda _: adapter) as fleet:
        yield World(fleet, {})
        assert len(fleet.alarms) == 0
        assert not fleet.members["a"].gate.leases


async def refused(w: World, **more: Any) -> InfermuxError:
    with pytest.raises(InfermuxError) as caught:
        await w.chat(**more)
    return caught.value


async def test_what_is_not_taken_back_is_cancelled_at_its_time(autojump_clock: MockClock) -> None:
    class Noting:
        at: float | None = None

        def cancel(self) -> None:
            self.at = trio.current_time()

    alarms, first, sooner, gone = Alarms(), Noting(), Noting(), Noting()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarms.run)
        await wait_all_tasks_blocked()
        for what, at in ((first, 10.0), (gone, 2.0), (sooner, 3.0)):
            alarms.add(what, at)
        await trio.sleep(1)
        alarms.remove(gone)
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    assert (first.at, sooner.at, gone.at) == (10.0, 3.0, None)


async def test_a_timeout_closes_the_connection_and_is_told(autojump_clock: MockClock) -> None:
    adapter = OnMemory()
    async with running(adapter) as w:
        error = await refused(w)
        assert isinstance(error, UpstreamTimeout)
        assert error.code == FailureKind.TOTAL_TIMEOUT.value
        assert trio.current_time() == 30.0
        assert adapter.near[0].closed


async def test_an_answer_in_time_leaves_the_connection_for_the_next_request(autojump_clock: MockClock) -> None:
    adapter = OnMemory()
    async with running(adapter) as w, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(w.chat)
            await wait_all_tasks_blocked()
            await adapter.far[0].receive()
            await adapter.far[0].send(OK)
            await trio.sleep(29)
        await trio.sleep(100)
        assert len(adapter.near) == 1
        assert not adapter.near[0].closed


async def test_the_caller_s_own_deadline_holds(autojump_clock: MockClock) -> None:
    async with running(OnMemory()) as w:
        assert isinstance(await refused(w, timeout=2.0), DeadlineExceeded)
        assert trio.current_time() == 2.0


@pytest.mark.parametrize("dials", [True, False], ids=["waiting", "connecting"])
async def test_leaving_ends_it_at_once(autojump_clock: MockClock, dials: bool) -> None:
    adapter, person = OnMemory(dials=dials), Person()
    async with running(adapter) as w, trio.open_nursery() as nursery:
        run = w.run(caller=person)

        @nursery.start_soon
        async def _() -> None:
            await trio.sleep(5)
            person.leave()

        with pytest.raises(CallerLeft):
            await run.begin()
        run.close()
        assert trio.current_time() == 5.0
        assert all(wire.closed for wire in adapter.near)
        outcome = run.trail[0].outcome
        assert outcome is not None
        assert outcome.sent is dials
        assert (outcome.usage is not None) is dials


async def test_who_left_before_it_began_has_nothing_sent(autojump_clock: MockClock) -> None:
    adapter, person = OnMemory(), Person()
    async with running(adapter) as w:
        person.leave()
        run = w.run(caller=person, prompt_tokens=1000)
        with pytest.raises(CallerLeft):
            await run.begin()
        run.close()
        assert not adapter.near
        assert run.usage is None
        outcome = run.trail[0].outcome
        assert outcome is not None
        assert (outcome.usage, outcome.sent) == (None, False)


async def test_a_kill_ends_it_with_its_own_error(autojump_clock: MockClock) -> None:
    adapter = OnMemory()
    async with running(adapter) as w, trio.open_nursery() as nursery:
        run = w.run()

        @nursery.start_soon
        async def _() -> None:
            await trio.sleep(3)
            run.kill(RequestKilled("enough"))

        with pytest.raises(RequestKilled):
            await run.begin()
        run.close()
        assert trio.current_time() == 3.0
        assert adapter.near[0].closed


async def test_the_world_s_own_cancellation_closes_the_connection(autojump_clock: MockClock) -> None:
    adapter = OnMemory()
    async with running(adapter) as w:
        with trio.move_on_after(4) as scope:
            await w.chat()
        assert scope.cancelled_caught
        assert adapter.near[0].closed


async def test_a_total_timeout_that_is_shorter_holds(autojump_clock: MockClock) -> None:
    async with running(OnMemory(), timeouts=Timeouts(total=7.0)) as w:
        assert isinstance(await refused(w), UpstreamTimeout)
        assert trio.current_time() == 7.0
