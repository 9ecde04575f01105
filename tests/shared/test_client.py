"""The client: what it may do with the rights that the documentation gives it, and what it says when it may not."""

from __future__ import annotations

import gc
import logging
import re
import warnings
from collections.abc import Generator
from pathlib import Path

import pytest
import trio

from infermux.secret import Secret
from infermux.shared.client import Redis, Session, StateUnavailable, sole
from infermux.shared.place import client_url, place_of
from infermux.shared.scripts import Call
from tests.shared._redis import RedisServer, redis_server

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server", "redis-cli")]

PAGE = Path(__file__).parents[2] / "docs" / "shared-state.md"


@pytest.fixture(scope="module")
def server() -> Generator[RedisServer]:
    with redis_server() as running:
        yield running


PURSE = ("infermux:v1:purse:all::day:0", "infermux:v1:nodes")


async def everything(session: Session) -> None:
    """All that a node ever does."""
    calls = [
        Call("beat", ("infermux:v1:nodes", "infermux:v1:epoch", "infermux:v1:news:number"), ("n", 5000, "e", 0)),
        Call("limit", ("infermux:v1:limit:provider:p:requests",), ("n", 1, 60, 0, 1, 0, 0, -1, -1)),
        Call("purse", PURSE, ("n.1", 1, 100, 0, 1, 0, 0, 0, 0, 1000, 0, 0, "", "")),
        Call("purse", PURSE, ("n.1", 2, 100, 0, 1, 0, 0, 0, 0, 1000, 0, 0, "", "")),
        Call("tell", ("infermux:v1:news", "infermux:v1:news:number"), ("infermux:v1:news:channel", 1000, "p", "x")),
    ]
    assert len(await session.run(calls)) == 5
    assert await session.read("infermux:v1:news") == {"p": "x"}
    heard: list[str] = []
    with trio.move_on_after(0.2):
        await session.listen("infermux:v1:news:channel", heard.append)


def rights() -> list[str]:
    """The line of the page."""
    found = re.search(r"^ACL SETUSER infermux (.*)$", PAGE.read_text(), re.MULTILINE)
    assert found is not None
    return found[1].replace("PASSWORD", "not-to-be-seen").split()


def test_the_rights_of_the_documentation_are_enough(server: RedisServer) -> None:
    server.ask("FLUSHALL")
    server.ask("SCRIPT", "FLUSH")
    server.ask("ACL", "SETUSER", "infermux", "reset")
    server.ask("ACL", "SETUSER", "infermux", *rights())
    trio.run(Redis(url=Secret(f"unix://infermux:not-to-be-seen@{server.socket}")).use, everything)


async def refused(url: str) -> str:
    with pytest.raises(StateUnavailable) as caught:
        await Redis(url=Secret(url)).use(everything)
    return str(caught.value)


async def test_a_reason_that_comes_from_the_group_it_was_in_is_said_once(server: RedisServer) -> None:
    async def away() -> None:
        raise OSError("away")

    async def work(session: Session) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(away)
        except ExceptionGroup as group:
            raise sole(group) from group

    with pytest.raises(StateUnavailable, match=r"^OSError: away$"):
        await Redis(url=Secret(f"unix://{server.socket}")).use(work)


async def test_who_may_not_is_told_why_without_the_password(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.ask("ACL", "SETUSER", "reader", "on", ">not-to-be-seen", "~*", "+@connection", "+get")
    assert "invalid username-password" in await refused(f"unix://reader:not-it@{server.socket}")
    assert "no permissions" in await refused(f"unix://reader:not-to-be-seen@{server.socket}")
    assert "not-" not in caplog.text


async def test_where_nobody_listens_there_is_no_session(server: RedisServer) -> None:
    with warnings.catch_warnings():  # the library leaves streams of anyio's unclosed where it cannot connect
        warnings.simplefilter("ignore", ResourceWarning)
        assert "Unable to establish a connection" in await refused(f"unix://:not-to-be-seen@{server.socket}.not")
        assert "not-to-be-seen" not in await refused("redis://:not-to-be-seen@127.0.0.1:1/0")
        gc.collect()


async def test_a_mistake_of_ours_is_not_taken_for_redis_s(server: RedisServer) -> None:
    async def wrong(session: Session) -> None:
        del session
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Redis(url=server.url).use(wrong)


def test_a_place_is_told_without_who_asks() -> None:
    assert place_of("rediss://user:word@host:1/2?ssl_ca_certs=/x") == "rediss://host:1/2"
    assert place_of("unix://:word@/run/redis.sock?db=1") == "unix:///run/redis.sock"


def test_valkey_is_spoken_to_as_redis() -> None:
    assert client_url("valkey://host") == "redis://host"
    assert client_url("valkeys://host/1") == "rediss://host/1"
    assert client_url("unix:///run/valkey.sock") == "unix:///run/valkey.sock"
