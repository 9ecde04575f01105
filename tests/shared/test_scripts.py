"""The scripts do in a real Redis what their mirror in Python does, whatever they are asked; so tests may use that."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
import trio
from hypothesis import given, settings

from infermux.shared.client import Redis, Session
from infermux.shared.scripts import VERSION, Call, load_scripts
from tests._properties import examples
from tests.shared._mirror import Mirror
from tests.shared._redis import RedisServer, redis_server

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server", "redis-cli")]

Calls = Sequence[Call]


@pytest.fixture(scope="module")
def server() -> Generator[RedisServer]:
    with redis_server() as running:
        yield running


def answers(server: RedisServer, *rounds: Calls) -> list[list[Any]]:
    """What Redis, flushed before, answers to these rounds."""
    found: list[list[Any]] = []

    async def work(session: Session) -> None:
        for calls in rounds:
            found.extend(await session.run(calls))

    server.ask("FLUSHALL")
    trio.run(Redis(url=server.url).use, work)
    return found


amounts = st.integers(0, 300)
STORES = ("", "x", "another one")


@st.composite
def limit_calls(draw: st.DrawFn) -> list[Call]:
    """Calls of three nodes, mostly such as nodes make, now and then such as none should."""
    limit = draw(st.sampled_from([1, 10, 600, 1_000_000, 100_000_000]))
    calls: list[Call] = []
    for number in range(1, draw(st.integers(1, 12))):
        node = draw(st.sampled_from(["a", "b", "c"]))
        seen_at = draw(st.sampled_from([-1, 1, 2**41]))
        level = draw(st.integers(-1000, limit)) * 60_000 if seen_at >= 0 else -1
        numbers = [draw(amounts) for _ in range(4)]
        said = number if draw(st.integers(0, 9)) else 0
        calls.append(Call("limit", ("k",), (node, said, limit, *numbers, level, seen_at)))
    return calls


@settings(max_examples=examples(40), deadline=None)
@given(calls=limit_calls())
def test_a_limit_s_script_does_what_the_mirror_does(server: RedisServer, calls: list[Call]) -> None:
    found = answers(server, calls)
    times = iter(answer[2] for answer in found)
    mirror = Mirror(lambda: next(times))
    assert [mirror.call(call) for call in calls] == found


@st.composite
def books(draw: st.DrawFn) -> str:
    """What nodes may have seen of a purse, in a Redis that has it no more."""
    names = draw(st.lists(st.sampled_from(["a.1", "b.1", "c.1", "d.1"]), unique=True))
    lines = [f"n {name} {draw(amounts)} {draw(amounts)} {draw(st.sampled_from(STORES))}" for name in names]
    return "\n".join([*lines, *(f"s {draw(amounts)} {store}" for store in STORES if draw(st.booleans()))])


@st.composite
def purse_calls(draw: st.DrawFn) -> list[Call]:
    limit = draw(st.sampled_from([0, 100, 10**15]))
    calls: list[Call] = []
    for number in range(1, draw(st.integers(1, 12))):
        node = draw(st.sampled_from(["a.1", "b.1", "c.1"]))
        used, want, need, known, spending, booked, kept = (draw(amounts) for _ in range(7))
        said = number if draw(st.integers(0, 9)) else 0
        theirs = draw(st.sampled_from([-1, draw(amounts)]))
        args = (node, said, limit, used, want, need, known, spending, booked, 60_000, theirs, kept)
        calls.append(Call("purse", ("k", "nodes"), (*args, draw(st.sampled_from(STORES)), draw(books()))))
    return calls


def sorted_books(found: list[list[Any]]) -> list[list[Any]]:
    return [[*numbers, sorted(book.split("\n"))] for *numbers, book in found]


@settings(max_examples=examples(40), deadline=None)
@given(calls=purse_calls())
def test_a_purse_s_script_does_what_the_mirror_does(server: RedisServer, calls: list[Call]) -> None:
    mirror = Mirror(lambda: 2**41)
    assert sorted_books([mirror.call(call) for call in calls]) == sorted_books(answers(server, calls))


def test_a_purse_that_very_many_nodes_and_stores_have_used_is_written_back_whole(server: RedisServer) -> None:
    names = [f"{number:08x}" for number in range(2100)]
    book = "\n".join([*(f"n {name} 10 10 x" for name in names), *(f"s 5 {name}" for name in names)])
    call = Call("purse", ("k", "nodes"), ("a.1", 1, 10**15, 0, 0, 0, 0, 0, 0, 60_000, -1, 0, "x", book))
    server.ask("FLUSHALL")
    words = map(str, (*call.keys, *call.args))
    lines = server.ask("EVAL", load_scripts()["purse"].text, "2", *words).split("\n")  # it may take its time
    found = [*map(int, lines[:5]), "\n".join(lines[5:])]
    assert sorted_books([found]) == sorted_books([Mirror(lambda: 2**41).call(call)])
    assert found[1:3] == [31_500, 31_500]
    assert server.ask("HLEN", "k") == "4203"  # with the caller, its store and the time of the next look


def test_what_a_node_held_of_a_purse_that_has_gone_is_granted_to_others(server: RedisServer) -> None:
    """Its `sweep` is due. Of the other nodes three have been silent: one still has a heart, one for very long."""
    now = int(server.ask("TIME").split()[0]) * 1000
    fields = {
        "n:gone.1": f"300 7 100 {now - 9000} x",
        "n:there.1": f"50 2 20 {now - 9000} x",
        "n:old.1": f"5 2 5 {now - 4_000_000} x",
        "n:a.1": f"0 1 0 {now} x",
        "sweep": str(now),
        "s:x": "3",
    }
    ask = Call("purse", ("p", "nodes"), ("a.1", 2, 1000, 0, 900, 0, 0, 0, 0, 60_000, 126, 0, "x", ""))

    async def work(session: Session) -> None:
        found.extend(await session.run([ask]))
        kept.update(await session.read("p"))

    found, kept = list[Any](), dict[str, str]()
    server.ask("FLUSHALL")
    server.ask("HSET", "nodes", "there", "1")
    server.ask("HSET", "p", *(word for pair in fields.items() for word in pair))
    trio.run(Redis(url=server.url).use, work)
    # Of 1000: 128 are spent, and 30 are held by the one that is there. The store knows of less than they told.
    [[granted, total, spent, restored, others, book]] = found
    assert (granted, total, spent, restored, others) == (842, 1000, 128, 0, 128)
    assert sorted(book.split("\n")) == ["n a.1 842 0 x", "n gone.1 100 100 x", "n there.1 50 20 x", "s 8 x"]
    assert (kept["n:gone.1"], kept["n:there.1"]) == (f"100 7 100 {now - 9000} x", fields["n:there.1"])
    assert "n:old.1" not in kept


def test_a_clock_that_was_set_back_keeps_no_money_for_who_is_gone(server: RedisServer) -> None:
    server.ask("FLUSHALL")
    now = int(server.ask("TIME").split()[0]) * 1000
    server.ask("HSET", "p", "n:gone.1", f"300 7 100 {now + 9_000_000} x", "sweep", str(now))

    async def work(session: Session) -> None:
        await session.run([Call("purse", ("p", "nodes"), ("a.1", 1, 1000, 0, 0, 0, 0, 0, 0, 60_000, -1, 0, "x", ""))])
        kept.update(await session.read("p"))

    kept = dict[str, str]()
    trio.run(Redis(url=server.url).use, work)
    assert kept["n:gone.1"] == f"300 7 100 {kept['n:a.1'].split()[3]} x"  # so it has five seconds from now on


def test_what_is_told_with_a_store_that_became_known_late_is_not_counted_twice(server: RedisServer) -> None:
    calls = [
        Call("purse", ("k", "nodes"), ("a.1", 1, 1000, 100, 0, 0, 0, 100, 0, 60_000, 0, 0, "", "")),
        Call("purse", ("k", "nodes"), ("b.1", 1, 1000, 0, 0, 0, 0, 0, 0, 60_000, 100, 0, "x", "")),
        Call("purse", ("k", "nodes"), ("a.1", 2, 1000, 100, 0, 0, 100, 100, 100, 60_000, 0, 100, "x", "")),
    ]
    assert [answer[2] for answer in answers(server, calls)] == [100, 200, 100]


def test_a_heartbeat_tells_who_is_there(server: RedisServer) -> None:
    keys = ("nodes", "epoch", "number")
    calls = [Call("beat", keys, (node, 5000, f"epoch of {node}", leaves)) for node, leaves in ("a0", "b0", "a1")]
    one, two, three = answers(server, calls)
    assert [one[1:], sorted(two[4:]), three[4:]] == [["epoch of a", 0, 0, "a"], ["a", "b"], ["b"]]


def test_a_heartbeat_tells_whether_another_node_is_over_its_part(server: RedisServer) -> None:
    said = [("a", 1), ("b", 0), ("a", 0), ("b", 0)]
    calls = [Call("beat", ("nodes", "epoch", "number"), (node, 5000, "e", 0, over)) for node, over in said]
    assert [answer[3] for answer in answers(server, calls)] == [0, 1, 0, 0]


def test_a_heartbeat_tells_what_a_node_has_said_that_is_about_to_end(server: RedisServer) -> None:
    said = [("a", 1, "0 2 7"), ("b", 0, ""), ("a", 0, "0 2 3"), ("b", 0, "")]
    calls = [Call("beat", ("nodes", "epoch", "number"), (node, 5000, "e", 0, over, ends)) for node, over, ends in said]
    found = [[each[3], *sorted(each[4:])] for each in answers(server, calls)]
    assert found == [[0, "a 0 2 7"], [1, "a 0 2 7", "b"], [0, "a 0 2 3", "b"], [0, "a 0 2 3", "b"]]


def test_a_clock_that_was_set_back_stops_no_limit_and_keeps_nobody_that_is_gone(server: RedisServer) -> None:
    limit = Call("limit", ("k",), ("n", 1, 60, 0, 0, 0, 0, -1, -1))
    beat = Call("beat", ("nodes", "epoch", "number"), ("n", 5000, "e", 0, 0))
    later = "9000000000000"

    async def work(session: Session) -> None:
        [limited, beaten] = await session.run([limit, beat])
        assert limited[:2] == [0, 0]
        kept, seen = await session.read("k"), await session.read("nodes")
        assert [kept["at"], kept["level"]] == [str(limited[2]), "0"]
        assert seen == {"n": str(beaten[0]), "gone": f"{beaten[0]} over"}

    server.ask("FLUSHALL")
    server.ask("HSET", "k", "level", "0", "base", "0", "at", later)
    server.ask("HSET", "nodes", "gone", f"{later} over")
    trio.run(Redis(url=server.url).use, work)


def test_what_a_request_needs_is_granted_to_a_node_that_holds_all_that_it_wants_already(server: RedisServer) -> None:
    limits = [
        Call("limit", ("l",), ("n", 1, 600, 0, 3, 0, 0, -1, -1)),
        Call("limit", ("l",), ("n", 2, 600, 0, 3, 5, 3, -1, -1)),
    ]
    purses = [
        Call("purse", ("p", "nodes"), ("n.1", number, 600, 0, 3, need, known, 0, 0, 60_000, -1, 0, "", ""))
        for number, (need, known) in enumerate(((0, 0), (5, 3)), 1)
    ]
    assert [answer[0] for answer in answers(server, [*limits, *purses])] == [3, 5, 3, 5]


def test_news_are_kept_numbered_and_published(server: RedisServer) -> None:
    heard: list[str] = []

    async def work(session: Session) -> None:
        async def listen() -> None:
            await session.listen("channel", note)

        def note(text: str) -> None:
            heard.append(text)
            if text == "2":
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            with trio.fail_after(30):
                while server.ask("PUBSUB", "NUMSUB", "channel").split()[-1] == "0":  # noqa: ASYNC110 - another process
                    await trio.sleep(0.01)
            for pairs in (("p", "one", "q", "two"), ("p", "")):
                await session.run([Call("tell", ("news", "number"), ("channel", 60_000, *pairs))])
            await trio.sleep(30)
        assert await session.read("news") == {"q": "two"}

    server.ask("FLUSHALL")
    trio.run(Redis(url=server.url).use, work)
    assert heard == ["1", "2"]


def test_a_script_that_redis_does_not_know_is_loaded(server: RedisServer) -> None:
    server.ask("SCRIPT", "FLUSH")
    assert len(answers(server, [Call("beat", ("a", "b", "c"), ("n", 1, "e", 0))])) == 1


def test_scripts_that_have_changed_have_another_version() -> None:
    """One that has changed needs a new `VERSION`, or the next router of the old one spoils what this one keeps."""
    told = "".join(script.sha for _, script in sorted(load_scripts().items()))
    digest = hashlib.sha1(told.encode(), usedforsecurity=False).hexdigest()
    assert {VERSION: digest} == {"v3": "837e87fd2a0d3681d6931b6705ba308791472f8d"}


def test_the_hash_is_the_one_that_redis_makes(server: RedisServer) -> None:
    for script in load_scripts().values():
        assert server.ask("SCRIPT", "LOAD", script.text) == script.sha
