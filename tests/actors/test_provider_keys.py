"""A provider with several keys: who gets which, what becomes of refused ones, and that none is ever shown."""

from __future__ import annotations

import json
from collections import Counter

import attrs
import pytest
import trio
from trio.testing import MockClock

from infermux.actors.messages import Health, Reason
from infermux.actors.provider_messages import Verb
from infermux.config.settings import ProviderSettings, Retry
from infermux.errors import FailureKind, NoHealthyProviders, RateLimited, UpstreamError
from infermux.providers.ratelimits import Quota, Quotas
from infermux.secret import Secret
from tests.actors._scripted import CREDENTIALS, OK, PRIORITY, Step, World, fails, provider, world

ONE, TWO = Secret("sk-canary-one"), Secret("sk-canary-two")
A_429 = fails(FailureKind.RATE_LIMITED, status=429, retry_after=5.0)


def keyed(name: str = "a", *, probed: bool = False) -> ProviderSettings:
    return provider(name, "m", probed=probed, api_keys=(ONE, TWO))


def used(w: World, name: str = "a") -> list[Secret | None]:
    return [call.key for _, call in w[name].asked]


async def states(w: World) -> list[object]:
    return [key["state"] for key in (await w.fleet.describe("a")).keys]


async def test_keys_take_turns(autojump_clock: MockClock) -> None:
    async with world(keyed()) as w:
        for _ in range(6):
            await w.chat()
        assert Counter(used(w)) == {ONE: 3, TWO: 3}


async def test_a_conversation_stays_on_its_key(autojump_clock: MockClock) -> None:
    async with world(keyed()) as w:
        for _ in range(3):
            for number in range(8):
                await w.chat(affinity=b"conversation %d" % number)
        by_conversation = [set(used(w)[at::8]) for at in range(8)]
        assert all(len(keys) == 1 for keys in by_conversation)
        assert {key for keys in by_conversation for key in keys} == {ONE, TWO}


async def test_with_one_key_none_is_named(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", api_keys=(ONE,)), provider("b", "n", api_key=ONE)) as w:
        await w.chat("m")
        await w.chat("n")
        assert (used(w, "a"), used(w, "b")) == ([None], [None])
        assert (await w.fleet.describe("a")).keys == []


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_refused_key_is_retired_and_the_caller_does_not_notice(status: int, autojump_clock: MockClock) -> None:
    async with world(keyed(), script={"a": [fails(FailureKind.CREDENTIALS, status=status)]}) as w:
        run = await w.chat()
        first, second = used(w)
        assert run.attempts == 2
        assert first is not second
        for _ in range(4):
            await w.chat()
        assert set(used(w)[1:]) == {second}
        assert sorted(map(str, await states(w))) == ["ready", "retired"]
        shown = (await w.fleet.describe("a")).keys
        assert [key["reason"] for key in shown if key["state"] == "retired"] == [
            f"the provider answered {status} to it"
        ]


async def test_only_when_all_are_retired_it_is_a_configuration_error(autojump_clock: MockClock) -> None:
    async with world(keyed(probed=True), script={"a": [CREDENTIALS, CREDENTIALS]}) as w:
        await trio.sleep(1)
        with pytest.raises(UpstreamError):
            await w.chat()
        await w.settled()
        assert w.fleet.members["a"].standing.reason is Reason.CONFIG_ERROR
        with pytest.raises(NoHealthyProviders):
            await w.chat()


async def test_without_probes_retired_keys_are_not_lost_for_ever(autojump_clock: MockClock) -> None:
    async with world(keyed(), script={"a": [CREDENTIALS, CREDENTIALS]}) as w:
        with pytest.raises(UpstreamError):
            await w.chat()
        await w.chat()
        assert await states(w) == ["ready", "ready"]


async def test_a_429_rests_one_key_and_the_other_answers(autojump_clock: MockClock) -> None:
    async with world(keyed(), script={"a": [A_429]}) as w:
        run = await w.chat()
        assert run.attempts == 2
        assert sorted(map(str, await states(w))) == ["ready", "resting"]
        assert w.fleet.members["a"].standing.reason is None
        rested = used(w)[0]
        for _ in range(3):
            await w.chat()
        assert rested not in used(w)[1:]
        await trio.sleep(5.0)
        for _ in range(2):
            await w.chat()
        assert rested in used(w)[-2:]


async def test_when_all_rest_the_provider_cools_down_until_the_first_is_back(autojump_clock: MockClock) -> None:
    longer = fails(FailureKind.RATE_LIMITED, status=429, retry_after=20.0)
    async with world(keyed(), script={"a": [longer, A_429]}) as w:
        with pytest.raises(RateLimited):
            await w.chat()
        await w.settled()
        standing = w.fleet.members["a"].standing
        assert (standing.reason, standing.blocked_until) == (Reason.COOLING_DOWN, trio.current_time() + 5.0)


async def test_another_key_costs_an_attempt(autojump_clock: MockClock) -> None:
    async with world(keyed(), script={"a": [CREDENTIALS]}, retry=Retry(max_attempts=1)) as w:
        with pytest.raises(UpstreamError):
            await w.chat()


async def test_the_first_probe_goes_on_to_a_key_that_is_good(autojump_clock: MockClock) -> None:
    async with world(keyed(probed=True), probes={"a": [CREDENTIALS, OK]}) as w:
        await w.chat()
        assert w["a"].probed_keys == [ONE, TWO]
        assert used(w) == [TWO]
        assert await states(w) == ["retired", "ready"]


async def test_a_retired_key_is_probed_again_though_traffic_puts_other_probes_off(autojump_clock: MockClock) -> None:
    async with world(keyed(probed=True), probes={"a": [CREDENTIALS]}) as w:
        for _ in range(80):
            await trio.sleep(1.0)
            await w.chat()
        assert await states(w) == ["ready", "ready"]
        assert w["a"].probed_keys == [ONE, TWO, TWO, ONE]


async def test_a_probe_that_fails_otherwise_leaves_key_and_provider_as_they_were(autojump_clock: MockClock) -> None:
    unreachable = fails(FailureKind.CONNECT)
    async with world(keyed(probed=True), probes={"a": [CREDENTIALS, OK, OK, unreachable]}) as w:
        await trio.sleep(80)
        assert w["a"].probed_keys == [ONE, TWO, TWO, ONE]
        assert await states(w) == ["retired", "ready"]
        assert w.fleet.members["a"].standing.health is Health.HEALTHY


@pytest.mark.parametrize("verb", [Verb.PROBE, Verb.RESET, Verb.ENABLE])
async def test_the_operator_brings_retired_keys_back(verb: Verb, autojump_clock: MockClock) -> None:
    async with world(keyed(probed=True), probes={"a": [CREDENTIALS]}) as w:
        await trio.sleep(1)
        before = await states(w)
        await w.fleet.command("a", verb)
        await trio.sleep(1)
        assert (before, await states(w)) == (["retired", "ready"], ["ready", "ready"])


async def test_no_key_shows_in_what_can_be_seen(autojump_clock: MockClock) -> None:
    async with world(keyed(), script={"a": [CREDENTIALS]}) as w:
        run = await w.chat()
        description = await w.fleet.describe("a")
        gate = w.fleet.members["a"].gate
        seen = [json.dumps(attrs.asdict(description)), repr(run.lease), repr(gate.settings), repr(gate.ring)]
        seen += [repr(call) for _, call in w["a"].asked]
        assert not [text for text in seen if "canary" in text]


async def test_what_was_told_for_one_key_holds_for_that_key_only(autojump_clock: MockClock) -> None:
    nothing_left = Step(quotas=Quotas(Quota(0, 30.0)))
    async with world(keyed(), script={"a": [nothing_left]}) as w:
        for _ in range(4):
            await w.chat()
        first, *later = used(w)
        assert first not in later
        await trio.sleep(30.0)
        for _ in range(2):
            await w.chat()
        assert first in used(w)[4:]


async def test_a_provider_whose_keys_all_rested_comes_back_slowly(autojump_clock: MockClock) -> None:
    pair = (keyed(), provider("b", "m"))
    async with world(*pair, routing=PRIORITY, script={"a": [A_429, A_429]}) as w:
        for _ in range(2):
            await w.chat()
        await trio.sleep(5.1)
        w["a"].rest = Step(seconds=0.5)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(w.chat)
        assert len(w["a"].asked) == 2 + 1
