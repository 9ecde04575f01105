"""What the supplier says of a Redis that it does not reach."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from infermux.shared.client import Session, StateUnavailable
from infermux.shared.scripts import Call
from tests.actors._scripted import world
from tests.actors.test_supply import ask, limited, supply
from tests.shared._mirror import FakeShared


async def test_a_node_that_begins_without_redis_begins_with_nothing_and_says_so_once(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    shared = FakeShared()
    shared.go()
    await trio.sleep(10_000)  # trio's clock begins anywhere
    async with world(limited(requests_per_minute=60), shared=shared) as node:
        assert await ask(node, 5) == 0
        await trio.sleep(10)
        assert await ask(node, 20) in (10, 11)
        assert supply(node.fleet).numbers.outages == 0
    assert [record.message for record in caplog.records if record.name == "infermux.state"] == [
        "redis://fake is gone (nobody listens there): limits are held by this node's fair share, 1 of 1"
    ]


class Unreachable:
    """A connection that fails when it is used, for a reason."""

    place = "redis://fake"

    async def use(self, work: Callable[[Session], Awaitable[None]]) -> None:
        try:
            await work(self)
        except OSError as error:
            raise StateUnavailable(f"{error}: {error.__cause__}") from error

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        raise OSError("no connection") from OSError("certificate verify failed")

    async def read(self, key: str) -> dict[str, str]:
        return {}

    async def listen(self, channel: str, heard: Callable[[str], None]) -> None:
        await trio.sleep_forever()


async def test_why_redis_is_not_reached_is_not_lost_on_the_way(autojump_clock: MockClock) -> None:
    async with world(limited(requests_per_minute=60), shared=Unreachable()) as node:
        assert supply(node.fleet).as_json()["trouble"] == "no connection: certificate verify failed"
