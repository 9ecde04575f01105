"""The fleet: starting, adding, removing, and what is closed at the end."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.fleet import ROUTER, Fleet
from infermux.actors.kit_errors import ActorDied
from infermux.actors.member import CLOSE_GRACE
from infermux.actors.messages import Standing
from infermux.actors.opening import open_fleet
from infermux.actors.provider_messages import Verb
from infermux.config.settings import Config, HealthCheck, ProviderSettings, Routing, Simulate
from infermux.errors import ModelNotFound, NoHealthyProviders, NotFound, ShuttingDown
from infermux.providers.interface import Answer
from tests.actors._scripted import HANGS, Poison, Step, Taken, provider, streams, world

PRIORITY = Routing(strategy="priority")


async def test_it_starts_although_every_probe_fails(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m", probed=True), probes={"a": [HANGS]}) as w:
        assert trio.current_time() == 0
        assert not w.fleet.is_ready()
        await trio.sleep(11)
        assert not w.fleet.is_ready()
        await trio.sleep(70)
        assert w.fleet.is_ready()


async def test_it_is_ready_with_one_routable_provider(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), provider("b", "m")) as w:
        for name, ready in (("a", True), ("b", False)):
            await w.fleet.command(name, Verb.DISABLE)
            assert w.fleet.is_ready() is ready


async def test_without_providers_it_runs_and_serves_nobody(autojump_clock: MockClock) -> None:
    async with world() as w:
        assert not w.fleet.is_ready()
        with pytest.raises(ModelNotFound):
            await w.chat()


async def test_a_type_that_is_not_available_is_shown_and_the_others_serve(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.WARNING)
    simulated = ProviderSettings(name="sim", type="simulated", models=("m",), simulate=Simulate(first_token=0.1))
    config = Config(providers=(ProviderSettings(name="later", type="process", models=("m",)), simulated))
    async with open_fleet(config, environ={}) as fleet:
        await trio.sleep(1)
        told = await fleet.describe("later")
        assert (told.routable, told.reason, told.transport) == (False, "config_error", "none")
        assert "needs a `command`" in told.health["error"]
        assert "provider later is not routable" in caplog.text
        assert (await fleet.command("later", Verb.PROBE)).reason == "config_error"
        assert fleet.is_ready()


async def test_a_simulated_provider_answers_through_the_whole_of_it(autojump_clock: MockClock) -> None:
    simulated = ProviderSettings(name="sim", type="simulated", models=("m",), simulate=Simulate(first_token=0.1))
    from infermux.actors.requests import chat_run

    async with open_fleet(Config(providers=(simulated,)), environ={}) as fleet:
        run = chat_run(fleet, b'{"model":"m","messages":[{"role":"user","content":"hi"}]}')
        answer = await run.begin()
        assert isinstance(answer, Answer)
        run.close()
        run = chat_run(fleet, b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}')
        sink = Taken()
        await run.begin()
        await run.pump(sink)
        assert sink.data[-1].endswith(b"[DONE]\n\n")


async def test_an_unknown_name_is_not_found_and_the_known_ones_are_named(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), provider("b", "m")) as w:
        for ask in (w.fleet.describe("x"), w.fleet.command("x", Verb.PROBE), w.fleet.remove("x")):
            with pytest.raises(NotFound, match="there are: a, b"):
                await ask


async def test_an_added_provider_is_served_from_and_comes_last(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), routing=PRIORITY) as w:
        with pytest.raises(ModelNotFound):
            await w.chat("n")
        await w.fleet.add(provider("b", "m", "n"))
        assert await w.answered_by("n") == "b"
        assert await w.answered_by("m") == "a"


async def test_a_name_that_is_taken_is_refused(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w:
        with pytest.raises(ValueError, match="named 'a' already"):
            await w.fleet.add(provider("a", "n"))
        assert await w.answered_by() == "a"


async def test_an_idle_provider_is_removed_at_once_and_its_wire_closed(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), provider("b", "m"), routing=PRIORITY) as w:
        await w.fleet.remove("a", grace=60.0)
        assert trio.current_time() == 0
        assert w["a"].closed
        assert list(w.fleet.members) == ["b"]
        assert await w.answered_by() == "b"
        await w.fleet.add(provider("a", "m"))
        assert await w.answered_by() == "b"


async def test_what_is_in_flight_on_a_removed_provider_has_its_grace(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [Step(seconds=5.0)]}) as w, trio.open_nursery() as nursery:
        done: list[float] = []

        async def caller() -> None:
            await w.chat()
            done.append(trio.current_time())

        nursery.start_soon(caller)
        await trio.sleep(1)
        await w.fleet.remove("a", grace=60.0)
        assert done == [5.0]
        assert trio.current_time() == pytest.approx(5, abs=0.1)


async def test_after_the_grace_a_stream_is_cut_and_a_waiting_request_goes_elsewhere(autojump_clock: MockClock) -> None:
    script = {"a": [streams(stalls=True), HANGS]}
    async with world(provider("a", "m"), provider("b", "m"), routing=PRIORITY, script=script) as w:
        answered: list[str] = []

        async def streaming() -> None:
            with pytest.raises(ShuttingDown, match="the provider was removed"):
                await w.chat(stream=True)

        async def waiting() -> None:
            answered.append(await w.answered_by())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(streaming)
            await trio.sleep(0.1)
            nursery.start_soon(waiting)
            await trio.sleep(0.9)
            await w.fleet.remove("a", grace=10.0)
        assert trio.current_time() == pytest.approx(11, abs=0.1)
        assert answered == ["b"]
        assert (w["a"].open, w["a"].closed) == (0, True)


async def test_a_removal_that_is_cancelled_is_finished_all_the_same(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), provider("b", "m"), script={"a": [HANGS]}) as w:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.chat)
            await trio.sleep(1)
            with trio.move_on_after(1.0):
                await w.fleet.remove("a", grace=60.0)
        assert trio.current_time() == pytest.approx(2, abs=0.1)
        assert w["a"].closed
        assert "a" not in {child.name for child in w.fleet.supervisor.statistics().children}


async def test_a_holder_that_ignores_its_end_delays_a_removal_only_so_long(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), script={"a": [streams(stalls=True)]}) as w:
        run = w.run(stream=True)
        await run.begin()
        await w.fleet.remove("a")
        assert trio.current_time() == pytest.approx(CLOSE_GRACE, abs=0.1)
        run.close()


async def test_a_change_waits_for_the_router_to_restart(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w:
        w.fleet.router.tell(Poison())
        await w.settled()
        await w.fleet.add(provider("b", "n"))
        assert await w.answered_by("n") == "b"


async def test_a_change_after_the_end_is_refused(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w:
        fleet = w.fleet
        await fleet.supervisor.stop_child(ROUTER)
        with pytest.raises(ActorDied):
            await fleet.remove("a")
        with pytest.raises(NoHealthyProviders, match="restarting"):
            await w.chat()


async def test_all_wires_are_closed_at_the_end(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), provider("b", "m", probed=True)) as w:
        await trio.sleep(1)
    assert all(wire.closed for wire in w.wires.values())


async def test_the_end_cuts_what_is_under_way(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with world(provider("a", "m"), script={"a": [HANGS]}) as w:

            async def caller() -> None:
                with trio.move_on_after(50):
                    await w.chat()

            nursery.start_soon(caller)
            await trio.sleep(1)
        assert trio.current_time() == 1


async def test_before_an_actor_has_published_it_stands_as_unknown(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w:
        member = w.fleet.members["a"]
        assert member.settings.name == "a"
        assert isinstance(member.standing, Standing)


async def test_the_first_result_of_a_probe_before_the_router_runs_is_not_lost(autojump_clock: MockClock) -> None:
    # Twenty providers: the first have answered before the last is started.
    settings = [provider(f"p{i}", "m", health_check=HealthCheck()) for i in range(20)]
    async with world(*settings) as w:
        await w.chat()
        assert trio.current_time() == 0


def test_a_fleet_is_made_by_opening_one() -> None:
    assert (Fleet.__doc__ or "").startswith("The running actors. Made by `open_fleet`.")
