"""Secrets that must not be seen: one in every place, everything done that can go wrong, then looked for everywhere.

`make security` does more of it: every fault, every command, all ways to run it, a browser and a PostgreSQL server.
"""

from __future__ import annotations

import os
from typing import Any, Final

import pytest
import trio

from tests.security import _secrets as secrets
from tests.security import _traffic as traffic
from tests.security._canaries import Canary, leaks
from tests.security._world import Scenario, World, opened

pytestmark = pytest.mark.slow

LONG: Final = os.environ.get("INFERMUX_TEST_SECURITY") == "long"
UNREACHABLE: Final = f"postgresql://infermux:{secrets.LEDGER.value}@127.0.0.1:1/nothing"
STATIC: Final[dict[str, Any]] = {"mode": "static_key", "key": "${STATIC_KEY}"}
PASSED: Final = {"mode": "passthrough"}
EVERYDAY: Final = (
    Scenario(name="keys", way="serve", log_format="json", auth={"mode": "keys"}),
    Scenario(name="static key", way="asgi", log_format="text", auth=STATIC, ledger=UNREACHABLE),
)
FURTHER: Final = (
    Scenario(name="passed through", way="serve", log_format="text", auth=PASSED, bedrock=True),
    Scenario(name="keys by hypercorn", way="asgi", log_format="json", auth={"mode": "keys"}, bedrock=True),
)


async def test_no_secret_is_seen_whatever_goes_wrong() -> None:
    async with trio.open_nursery() as nursery:  # beside each other: most of the time is their processes'
        for scenario in EVERYDAY:
            nursery.start_soon(no_secret_is_seen, scenario)


if LONG:

    @pytest.mark.parametrize("scenario", FURTHER, ids=lambda each: each.name)
    async def test_no_secret_is_seen_in_any_other_way_to_run_it(scenario: Scenario) -> None:
        await no_secret_is_seen(scenario)


async def no_secret_is_seen(scenario: Scenario) -> None:
    async with opened(scenario) as world:
        keys = await traffic.make_keys(world, by_command=LONG) if world.mode == "keys" else []
        await play(world)
        traffic.gather(world)
    assert_that_it_was_played(world)
    assert_nothing_leaked(world, (*secrets.ALL, *keys))


async def play(world: World) -> None:
    await traffic.fail(world, traffic.LONG if LONG else traffic.SHORT)
    await traffic.fail_elsewhere(world)
    await traffic.succeed(world)
    if world.mode == "passthrough":
        await traffic.lend(world)
    await traffic.intrude(world)
    await traffic.kill(world)
    await traffic.look(world)
    if LONG:
        await traffic.command(world)


def assert_that_it_was_played(world: World) -> None:
    """Nothing can leak where nothing happens."""
    assert world.statuses >= {200, 400, 401, 404, 429, 502, 504}, world.statuses
    assert len(world.openai.chats) > len(traffic.SHORT)
    assert any(secrets.PROMPT.value in chat.body.decode() for chat in world.openai.chats)
    said = () if world.scenario.way == "asgi" else ("stdout",)
    for name in (*said, "stderr", "traces", "command lines", "page: GET config", "page: events"):
        assert len(world.artefacts[name].strip()) > 20, name
    assert secrets.ANSWER.head.encode() in world.artefacts["answer: /v1/chat/completions"].replace(b'"', b"")


def assert_nothing_leaked(world: World, canaries: tuple[Canary, ...]) -> None:
    found = leaks(world.artefacts, canaries)
    assert not found, "\n" + "\n".join(str(leak)[:600] for leak in found[:40])
