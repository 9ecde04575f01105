"""A provider whose actor is restarting is still described, as crashed, and is not routable."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from infermux.actors.messages import Reason
from tests.actors._scripted import crash, provider, world


async def test_a_crashed_provider_is_described_and_the_others_do_not_notice(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), provider("b", "m")) as w:
        crash(w, "a")
        await wait_all_tasks_blocked()
        told = await w.fleet.describe("a")
        assert (told.routable, told.reason, told.blocked_for) == (False, "crashed", None)
        assert told.circuit["state"] == "closed"
        assert w.fleet.members["a"].blocked(trio.current_time()) is Reason.CRASHED
        assert (await w.fleet.describe("b")).routable


async def test_only_a_crashed_provider_is_no_readiness_until_it_is_back(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w:
        assert w.fleet.is_ready()
        crash(w, "a")
        await wait_all_tasks_blocked()
        assert not w.fleet.is_ready()
        await trio.sleep(1)
        assert w.fleet.is_ready()
        assert (await w.fleet.describe("a")).routable
