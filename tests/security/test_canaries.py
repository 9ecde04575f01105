"""Secrets that must not be seen: one in every place, everything done that can go wrong, then looked for everywhere.

`make security` does more of it: every fault, every command, all ways to run it, a browser and a PostgreSQL server.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import pytest
import trio

from tests.mocks.openai_upstream import Reply
from tests.security import _secrets as secrets
from tests.security import _traffic as traffic
from tests.security._browser import looked_at
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
    Scenario(name="PostgreSQL", way="serve", log_format="text", auth={"mode": "keys"}, postgresql=True),
)


@pytest.mark.long
async def test_no_secret_is_seen_whatever_goes_wrong() -> None:
    async with trio.open_nursery() as nursery:  # beside each other: most of the time is their processes'
        for scenario in EVERYDAY:
            nursery.start_soon(no_secret_is_seen, scenario)


if LONG:

    @pytest.mark.needs("initdb", "pg_dumpall", "chromium", "chromedriver")
    async def test_no_secret_is_seen_by_commands_in_a_browser_and_in_postgresql() -> None:
        async with trio.open_nursery() as nursery:
            for scenario in FURTHER:
                nursery.start_soon(partial(no_secret_is_seen, scenario, everything=True))


async def no_secret_is_seen(scenario: Scenario, *, everything: bool = False) -> None:
    """Play `scenario`, and search. `everything`: with each fault, each command and a browser."""
    async with opened(scenario) as world:
        keys = await traffic.make_keys(world, by_command=everything) if world.mode == "keys" else []
        await play(world, traffic.LONG if everything else traffic.SHORT)
        if everything:
            await traffic.command(world)
        if everything and world.cluster is not None:
            for name, data in (await trio.to_thread.run_sync(looked_at, world.process.url)).items():
                world.keep(name, data)
        await trio.to_thread.run_sync(traffic.gather, world)
    assert_that_it_was_played(world)
    if everything and world.cluster is not None:
        assert secrets.TOKEN.value.encode() in world.artefacts["browser: session storage"]
        assert secrets.TOKEN.value.encode() in world.artefacts["browser: headers it sent"]
        assert b"gpt-4o" in world.artefacts["database: dump"]
    assert_nothing_leaked(world, (*secrets.ALL, *keys))


async def play(world: World, faults: Sequence[Reply]) -> None:
    await traffic.fail(world, faults)
    await traffic.fail_elsewhere(world)
    await traffic.succeed(world)
    if world.mode == "passthrough":
        await traffic.lend(world)
    await traffic.intrude(world)
    await traffic.kill(world)
    await traffic.look(world)


def assert_that_it_was_played(world: World) -> None:
    """Nothing can leak where nothing happens."""
    assert world.statuses >= {200, 400, 401, 404, 429, 502, 504}, world.statuses
    assert len(world.openai.chats) > len(traffic.SHORT)
    assert any(secrets.PROMPT.value in chat.body.decode() for chat in world.openai.chats)
    said = () if world.scenario.way == "asgi" else ("stdout",)
    for name in (*said, "stderr", "traces", "command lines", "page: GET config", "page: events"):
        assert len(world.artefacts[name].strip()) > 20, name
    assert b'infermux_cache_total{result="hit"}' in world.artefacts["page: GET metrics"]
    assert secrets.ANSWER.head.encode() in world.artefacts["answer: /v1/chat/completions"].replace(b'"', b"")


def assert_nothing_leaked(world: World, canaries: tuple[Canary, ...]) -> None:
    found = leaks(world.artefacts, canaries)
    assert not found, "\n" + "\n".join(str(leak)[:600] for leak in found[:40])
