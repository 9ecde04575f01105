"""What one node learns of a provider all of them know, in virtual time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.messages import Circuit, Health
from infermux.actors.provider_messages import Verb
from infermux.config.settings import CircuitBreaker, Routing
from infermux.errors import FailureKind, InfermuxError
from tests.actors._scripted import Step, World, fails, provider, world
from tests.actors.test_supply import nodes
from tests.shared._mirror import FakeShared

BREAKER = CircuitBreaker(consecutive_failures=2, recovery_window=30)
BROKEN = fails(FailureKind.CONNECT)
PATIENCE = fails(FailureKind.RATE_LIMITED, status=429, retry_after=20)
SLOW = Step(seconds=1)
FIRST = Routing(strategy="priority")


def circuit(node: World) -> Circuit:
    return node.fleet.members["a"].gate.breaker.state(trio.current_time())


async def test_a_circuit_that_one_node_opened_is_open_for_all(autojump_clock: MockClock) -> None:
    providers = (provider("a", "m", circuit_breaker=BREAKER), provider("b", "m"))
    async with nodes(FakeShared(), 3, *providers, routing=FIRST) as made:
        made[0]["a"].script = [BROKEN, BROKEN]
        for _ in range(2):
            assert await made[0].answered_by() == "b"
        await trio.sleep(0.1)
        assert [circuit(node) for node in made] == [Circuit.OPEN] * 3
        assert [await node.answered_by() for node in made] == ["b"] * 3
        assert "says another node" in made[1].fleet.members["a"].gate.breaker.transitions[-1].why


async def test_who_opened_a_circuit_probes_first_and_its_closing_closes_all(autojump_clock: MockClock) -> None:
    async with nodes(FakeShared(), 2, provider("a", "m", circuit_breaker=BREAKER)) as [one, two]:
        one["a"].script = [BROKEN, BROKEN]
        for _ in range(2):
            with pytest.raises(InfermuxError):
                await one.chat()
        await trio.sleep(31)
        assert [circuit(one), circuit(two)] == [Circuit.HALF_OPEN, Circuit.OPEN]
        await one.chat()
        await trio.sleep(0.1)
        assert [circuit(one), circuit(two)] == [Circuit.CLOSED, Circuit.CLOSED]


async def test_who_joins_closes_no_circuit_that_it_knows_nothing_of(autojump_clock: MockClock) -> None:
    shared, settings = FakeShared(), provider("a", "m", circuit_breaker=BREAKER, probed=True)
    async with nodes(shared, 2, settings) as [one, two], trio.open_nursery() as nursery:
        one["a"].script = [BROKEN, BROKEN, Step(seconds=4)]
        two["a"].script = [BROKEN]
        for _ in range(2):
            with pytest.raises(InfermuxError):
                await one.chat()
        await trio.sleep(31)
        nursery.start_soon(one.chat)  # its probe is out
        await trio.sleep(0.1)
        before = [circuit(one), circuit(two)]
        assert before == [Circuit.HALF_OPEN, Circuit.OPEN]
        async with world(settings, shared=shared) as late:  # what it hears is over, and its health check is through
            await trio.sleep(1)
            assert late.fleet.members["a"].gate.health.health is Health.HEALTHY
            assert [circuit(one), circuit(two)] == before


async def test_a_provider_that_asked_one_node_for_patience_is_left_alone_by_all(autojump_clock: MockClock) -> None:
    async with nodes(FakeShared(), 2, provider("a", "m"), provider("b", "m"), routing=FIRST) as [one, two]:
        one["a"].script = [PATIENCE]
        assert await one.answered_by() == "b"
        await trio.sleep(0.1)
        assert await two.answered_by() == "b"
        await trio.sleep(21)
        assert await two.answered_by() == "a"


async def test_a_provider_whose_probe_failed_elsewhere_is_not_used_until_its_own_probe_is_through(
    autojump_clock: MockClock,
) -> None:
    async with nodes(FakeShared(), 2, provider("a", "m", probed=True)) as [one, two]:
        gates = [node.fleet.members["a"].gate for node in (one, two)]
        assert [gate.health.health for gate in gates] == [Health.HEALTHY] * 2
        two["a"].probes = [SLOW]
        one["a"].probes = [BROKEN]
        await one.fleet.command("a", Verb.PROBE)
        await trio.sleep(0.1)
        assert [gate.health.health for gate in gates] == [Health.UNHEALTHY] * 2
        assert "says another node" in (gates[1].health.last_error or "")
        await trio.sleep(2)  # its own probe, made at once, was answered meanwhile
        assert gates[1].health.health is Health.HEALTHY


async def test_a_provider_that_is_well_again_at_one_node_is_looked_at_by_the_others(autojump_clock: MockClock) -> None:
    async with nodes(FakeShared(), 2, provider("a", "m", probed=True)) as [one, two]:
        gates = [node.fleet.members["a"].gate for node in (one, two)]
        one["a"].probes, two["a"].probes = [BROKEN], [BROKEN]
        await one.fleet.command("a", Verb.PROBE)
        await trio.sleep(0.1)
        await one.fleet.command("a", Verb.PROBE)
        await trio.sleep(0.1)
        assert [gate.health.health for gate in gates] == [Health.HEALTHY] * 2


async def test_a_node_that_cannot_reach_a_provider_does_not_take_it_from_one_that_can(
    autojump_clock: MockClock,
) -> None:
    async with nodes(FakeShared(), 2, provider("a", "m", probed=True)) as [cut_off, well]:
        gate = well.fleet.members["a"].gate
        before = [len(node["a"].probed) for node in (cut_off, well)]
        cut_off["a"].probe_rest, well["a"].probe_rest = fails(FailureKind.CONNECT, seconds=0.2), Step(seconds=0.3)
        await cut_off.fleet.command("a", Verb.PROBE)
        out = 0
        for _ in range(600):
            await trio.sleep(0.1)
            out += not gate.health.passes
        assert out <= 4  # until its own look
        probes = [len(node["a"].probed) - was for node, was in zip((cut_off, well), before, strict=True)]
        assert max(probes) <= 4, probes  # those that the interval of 30 s asks for, and one for what was heard


async def test_requests_that_end_badly_while_a_circuit_is_open_elsewhere_do_not_keep_it_open(
    autojump_clock: MockClock,
) -> None:
    def late(seconds: float) -> Step:
        return fails(FailureKind.TOTAL_TIMEOUT, seconds=seconds)

    async def ask(node: World) -> None:
        with pytest.raises(InfermuxError):
            await node.chat()

    async with (
        nodes(FakeShared(), 2, provider("a", "m", circuit_breaker=BREAKER)) as [one, two],
        trio.open_nursery() as nursery,
    ):
        for number in range(8):
            for node, more in ((one, 0.0), (two, 0.5)):
                node["a"].script.append(late(3 + number + more))
                nursery.start_soon(ask, node)
        await trio.sleep(1)
        one["a"].script = [BROKEN, BROKEN]
        await ask(one)
        await ask(one)
        opened = trio.current_time()
        await trio.sleep(12)  # all of them have ended
        ends = [node.fleet.members["a"].gate.breaker.blocked_until(trio.current_time()) for node in (one, two)]
        assert max(ends) <= opened + BREAKER.recovery_window + BREAKER.probe_timeout + 0.1


async def test_who_comes_later_learns_what_was_told(autojump_clock: MockClock) -> None:
    shared = FakeShared()
    settings = provider("a", "m", circuit_breaker=BREAKER)
    async with nodes(shared, 1, settings) as [one]:
        one["a"].script = [PATIENCE]
        with pytest.raises(InfermuxError):
            await one.chat()
        await trio.sleep(0.1)
        async with world(settings, shared=shared) as late:
            await trio.sleep(1)
            assert late.fleet.members["a"].gate.cooldown.blocked_until(trio.current_time()) > 0


async def test_what_redis_has_lost_is_told_anew(autojump_clock: MockClock) -> None:
    shared = FakeShared()
    async with nodes(shared, 1, provider("a", "m", circuit_breaker=BREAKER), provider("b", "m"), routing=FIRST) as [
        one
    ]:
        one["a"].script = [BROKEN, BROKEN]
        for _ in range(2):
            await one.answered_by()
        await trio.sleep(0.1)
        kept = dict(shared.mirror.hashes)
        shared.mirror.flush()
        await trio.sleep(2)
        assert shared.mirror.hashes == kept
