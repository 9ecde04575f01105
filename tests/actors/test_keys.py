"""The actor of the keys: what it knows when, and that no limit is overrun."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from infermux.actors.keys import Keys, Permit, start_keys
from infermux.actors.kit import Supervisor
from infermux.actors.messages import Outcome, Want
from infermux.actors.supervisor import Backoff
from infermux.errors import (
    Conflict,
    DatabaseUnavailable,
    KeysUnavailable,
    NotFound,
    RateLimited,
    Unauthorized,
)
from infermux.keys import Allowance, KeyBudget, new_key
from infermux.providers.interface import Usage
from tests.actors._key_store import WALL, MemoryKeys
from tests.actors._scripted import Poison

STRANGE = b"ifx_aaaaaaaaaaaa_" + b"a" * 52
WANT = Want("m", prompt_tokens=10, max_tokens=90)


@attrs.frozen
class Ended:
    outcome: Outcome | None


def used(tokens: int, *, estimated: bool = False) -> list[Ended]:
    return [Ended(Outcome(usage=Usage(prompt_tokens=tokens, estimated=estimated)))]


@asynccontextmanager
async def running(store: MemoryKeys, *, watched: bool = True, capacity: int = 1000) -> AsyncGenerator[Keys]:
    supervisor = Supervisor(intensity=None, backoff=Backoff(base=0.1, max=1.0), when_exhausted="abandon")
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        keys = await start_keys(supervisor, store, capacity=capacity, wall=lambda: WALL + trio.current_time())
        keys.watch(wanted=watched)
        if watched:
            await keys.look()
        yield keys
        nursery.cancel_scope.cancel()


def admitted(keys: Keys, text: bytes, want: Want = WANT) -> Permit:
    return keys.admit(keys.find(text), want, trio.current_time())


# What is known.


async def test_a_key_of_the_store_is_known_and_others_are_not(autojump_clock: MockClock) -> None:
    store = MemoryKeys()
    text, stored = store.made("team-a", priority="batch")
    async with running(store) as keys:
        known = keys.find(text)
        assert (known.who.caller, known.who.key, known.priority.name) == ("team-a", stored.id, "BATCH")
        for wrong in (None, b"", b"x", STRANGE, text[:-1] + b"a", text.upper()):
            if wrong != text:
                with pytest.raises(Unauthorized):
                    keys.find(wrong)


async def test_what_is_changed_elsewhere_is_known_within_two_seconds(autojump_clock: MockClock) -> None:
    store = MemoryKeys()
    text, stored = store.made()
    async with running(store) as keys:
        await trio.sleep(10)
        later, _ = store.made("later")
        store.changed(stored, revoked_at=WALL)
        await trio.sleep(2.01)
        assert keys.find(later).stored.name == "later"
        with pytest.raises(Unauthorized, match="the key 'team' was revoked"):
            keys.find(text)


async def test_only_a_store_that_has_changed_is_read(autojump_clock: MockClock) -> None:
    store = MemoryKeys()
    _, stored = store.made()
    async with running(store):
        await trio.sleep(100)
        assert store.looks >= 50
        assert store.loads == 1
        store.changed(stored, name="other")
        await trio.sleep(10)
        assert store.loads == 2


async def test_nothing_is_asked_of_the_store_where_nobody_is_asked_for_keys(autojump_clock: MockClock) -> None:
    store = MemoryKeys()
    text, _ = store.made()
    async with running(store, watched=False) as keys:
        await trio.sleep(100)
        assert store.looks == 0
        with pytest.raises(KeysUnavailable):
            keys.find(text)
        keys.watch(wanted=True)
        await trio.sleep(0.1)
        keys.find(text)
        keys.watch(wanted=False)
        await trio.sleep(5)
        looks = store.looks
        await trio.sleep(100)
        assert store.looks == looks


async def test_a_key_ends_when_it_expires(autojump_clock: MockClock) -> None:
    store = MemoryKeys()
    text, _ = store.made(expires_at=WALL + 100)
    async with running(store) as keys:
        await trio.sleep(99)
        keys.find(text)
        await trio.sleep(1)
        with pytest.raises(Unauthorized, match="the key 'team' has expired"):
            keys.find(text)


async def test_a_key_that_is_gone_from_the_store_is_gone(autojump_clock: MockClock) -> None:
    store = MemoryKeys()
    text, _ = store.made()
    async with running(store) as keys:
        store.keys.clear()
        await trio.sleep(2.01)
        with pytest.raises(Unauthorized):
            keys.find(text)


# The store is away.


async def test_while_the_store_is_away_known_keys_stay_good(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryKeys()
    text, _ = store.made()
    caplog.set_level(logging.INFO, "infermux.keys")
    async with running(store) as keys:
        store.away = True
        await trio.sleep(1000)
        keys.find(text)
        with pytest.raises(KeysUnavailable) as unknown:
            keys.find(STRANGE)
        assert (unknown.value.status, unknown.value.retry_after) == (503, 2.0)
        with pytest.raises(Unauthorized):  # known, but with another secret: that needs no store
            keys.find(text[:-4] + b"aaaa")
        store.away = False
        await trio.sleep(2.01)
        with pytest.raises(Unauthorized):
            keys.find(STRANGE)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"], "told once, not every two seconds"


async def test_a_store_that_does_not_answer_is_away(autojump_clock: MockClock) -> None:
    store = MemoryKeys()
    text, _ = store.made()
    async with running(store) as keys:
        store.seconds = 1000.0
        await trio.sleep(8)
        keys.find(text)
        with pytest.raises(KeysUnavailable):
            keys.find(STRANGE)


async def test_a_router_starts_without_its_store(autojump_clock: MockClock) -> None:
    store = MemoryKeys()
    text, _ = store.made()
    store.away = True
    async with running(store) as keys:
        with pytest.raises(KeysUnavailable):
            keys.find(text)
        store.away = False
        await trio.sleep(2.01)
        keys.find(text)


# Management.


async def test_what_is_changed_here_counts_at_once(autojump_clock: MockClock) -> None:
    store = MemoryKeys()
    async with running(store) as keys:
        text, stored = new_key(name="new", allows=Allowance(), now=WALL)
        await keys.create(stored)
        keys.find(text.reveal().encode())
        again, _ = await keys.rotate("new", keep_old=5)
        keys.find(again.reveal().encode())
        keys.find(text.reveal().encode())
        await trio.sleep(5)
        with pytest.raises(Unauthorized):
            keys.find(text.reveal().encode())
        await keys.revoke(stored.id)
        with pytest.raises(Unauthorized):
            keys.find(again.reveal().encode())
        assert [key.name for key in await keys.all()] == ["new"]
        assert (await keys.revoke(stored.id)).revoked_at is not None
        with pytest.raises(NotFound):
            await keys.revoke("new")
        with pytest.raises(Conflict, match="was revoked"):
            await keys.rotate(stored.id, keep_old=0)


async def test_a_look_that_began_before_a_revocation_does_not_undo_it(autojump_clock: MockClock) -> None:
    store = MemoryKeys()
    text, stored = store.made()
    async with running(store) as keys:
        store.changed(stored, name="changed")  # so that there is something to read
        store.seconds = 1.0
        await trio.sleep(3.5)  # what was read is on its way
        assert store.loads == 2
        store.seconds = 0.0
        await keys.revoke(stored.id)
        for _ in range(30):
            with pytest.raises(Unauthorized):
                keys.find(text)
            await trio.sleep(0.1)


async def test_a_store_that_is_away_is_told_to_whoever_changes_something(autojump_clock: MockClock) -> None:
    store = MemoryKeys()
    store.made()
    async with running(store) as keys:
        store.away = True
        with pytest.raises(DatabaseUnavailable):
            await keys.revoke("team")
        with pytest.raises(DatabaseUnavailable):
            await keys.all()


# Limits.


@pytest.mark.parametrize(
    ("allows", "most"),
    [
        ({"requests_per_minute": 17}, 17),
        ({"tokens_per_minute": 1000}, 10),
        ({"max_concurrent": 7}, 7),
        ({"requests_per_minute": 9, "tokens_per_minute": 500, "max_concurrent": 8}, 5),
    ],
)
async def test_two_hundred_callers_at_once_do_not_overrun_a_key(
    allows: dict[str, Any], most: int, autojump_clock: MockClock
) -> None:
    store = MemoryKeys()
    text, stored = store.made(**allows)
    permits: list[Permit] = []
    refused: list[RateLimited] = []
    async with running(store) as keys:

        async def one() -> None:
            await trio.lowlevel.checkpoint()
            try:
                permits.append(admitted(keys, text))
            except RateLimited as limited:
                refused.append(limited)

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(one)
        assert (len(permits), len(refused)) == (most, 200 - most)
        assert "the limit of the key 'team' is used up" in refused[0].message
        assert all(limited.retry_after is not None for limited in refused)
        for permit in permits:
            permit.release(used(100), trio.current_time())
            permit.release(used(10**9), trio.current_time())  # only the first counts
        assert keys.table.keys[stored.id].limits.in_flight == 0


async def test_what_was_not_used_comes_back(autojump_clock: MockClock) -> None:
    store = MemoryKeys()
    text, stored = store.made(tokens_per_minute=100)
    async with running(store) as keys:
        permit = admitted(keys, text)
        with pytest.raises(RateLimited) as refused:
            admitted(keys, text)
        assert refused.value.retry_after == pytest.approx(60)
        permit.release([Ended(None), *used(15), Ended(Outcome())], trio.current_time())
        assert keys.table.keys[stored.id].limits.levels(0.0)["tokens_left"] == 85.0


async def test_the_estimate_is_learned_from_what_answers_had(autojump_clock: MockClock) -> None:
    store = MemoryKeys()
    text, _ = store.made(tokens_per_minute=10_000)
    open_ended = Want("m", prompt_tokens=10)
    async with running(store) as keys:
        first = admitted(keys, text, open_ended)
        assert first.reserved == 10 + 1024
        first.release([Ended(Outcome(usage=Usage(prompt_tokens=10, completion_tokens=50)))], trio.current_time())
        assert (admitted(keys, text, open_ended)).reserved == 60


async def test_the_limits_survive_a_crash_of_the_actor(autojump_clock: MockClock) -> None:
    store = MemoryKeys()
    text, _ = store.made(requests_per_minute=1)
    async with running(store) as keys:
        permit = admitted(keys, text)
        keys.ref.tell(Poison())
        await trio.lowlevel.checkpoint()
        permit.release(used(1), trio.current_time())
        for seconds in (0, 3):  # while it is down, and when it is back
            await trio.sleep(seconds)
            known = keys.find(text)
            assert known.limits.in_flight == 0
            with pytest.raises(RateLimited):
                keys.admit(known, WANT, trio.current_time())


async def test_a_revocation_does_not_wait_for_the_actors_restart(autojump_clock: MockClock) -> None:
    store = MemoryKeys()
    text, stored = store.made()
    async with running(store) as keys:
        keys.ref.tell(Poison())
        while keys.ref.alive:
            await trio.lowlevel.checkpoint()
        await keys.revoke(stored.id)
        with pytest.raises(Unauthorized):
            keys.find(text)
        await trio.sleep(5)
        with pytest.raises(Unauthorized):
            keys.find(text)


async def test_the_budget_of_a_key_is_told_by_its_id(autojump_clock: MockClock) -> None:
    store = MemoryKeys()
    budget = KeyBudget(limit_usd=5.0, period="day")
    _, stored = store.made(budget=budget)
    _, without = store.made("without")
    async with running(store) as keys:
        assert keys.budget_of(stored.id) == budget
        assert keys.budget_of(without.id) is None
        assert keys.budget_of("nobody") is None


async def test_reprs_show_no_secret(autojump_clock: MockClock) -> None:
    store = MemoryKeys()
    text, stored = store.made(requests_per_minute=5)
    async with running(store) as keys:
        permit = admitted(keys, text)
        shown = f"{keys!r} {permit!r} {keys.table!r} {keys.find(text)!r}"
        assert stored.id in shown
        for secret in (text.rpartition(b"_")[2].decode(), stored.digest.hex(), repr(stored.digest)):
            assert secret not in shown
