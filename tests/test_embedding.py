"""infermux inside another trio program: opening, asking, streaming, leaving, changing the providers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

import infermux
from infermux.actors.provider_messages import Verb
from infermux.config.settings import Config, ProviderSettings, Simulate
from infermux.errors import (
    CallerError,
    ConfigError,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    NotFound,
    ProviderRefusal,
    ShuttingDown,
    UpstreamError,
)
from infermux.providers.simulated import Simulated
from tests.actors._scripted import Scripted, Step, streams

HI = {"messages": [{"role": "user", "content": "Say something."}]}


def simulated(name: str, *models: str, **simulate: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": "simulated",
        **({"models": list(models)} if models else {}),
        "simulate": {"first_token": "100ms", "tokens_per_second": 100, **simulate},
    }


def a_config(*providers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"providers": list(providers) or [simulated("sim", "m")], **more}


class Wires:
    """Makes simulated adapters and keeps them."""

    def __init__(self) -> None:
        self.made: dict[str, Simulated] = {}

    def __call__(self, settings: ProviderSettings) -> Simulated:
        self.made[settings.name] = Simulated(settings)
        return self.made[settings.name]


# Opening.


async def test_a_mapping_has_the_keys_of_the_file(autojump_clock: MockClock) -> None:
    config = a_config(simulated("sim", "${MODEL}"), routing={"strategy": "priority"})
    async with infermux.open_router(config, environ={"MODEL": "m"}) as router:
        assert router.models == ["m"]
        answer = await router.chat({"model": "m", **HI})
        assert answer["object"] == "chat.completion"
        assert answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("as_path", [True, False])
async def test_a_path_names_a_file(tmp_path: Path, as_path: bool, autojump_clock: MockClock) -> None:
    file = tmp_path / "infermux.yml"
    file.write_text(json.dumps(a_config()))
    async with infermux.open_router(file if as_path else str(file), environ={}) as router:
        assert (await router.chat({"model": "m", **HI}))["model"] == "m"


async def test_a_config_is_taken_as_it_is(autojump_clock: MockClock) -> None:
    sim = ProviderSettings(name="sim", type="simulated", models=("m",), simulate=Simulate(first_token=0.1))
    async with infermux.open_router(Config(providers=(sim,))) as router:
        assert router.models == ["m"]


async def test_a_bad_configuration_is_refused_before_anything_runs(autojump_clock: MockClock) -> None:
    with pytest.raises(ConfigError) as caught:
        async with infermux.open_router(a_config(simulated("sim", "m", first_token="soon"))):
            pytest.fail("it must not open")
    assert [problem.path for problem in caught.value.problems] == ["providers[0].simulate.first_token"]


async def test_a_file_that_is_not_there_is_a_config_error(tmp_path: Path, autojump_clock: MockClock) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        async with infermux.open_router(tmp_path / "none.yml"):
            pytest.fail("it must not open")


async def test_leaving_the_block_ends_everything(autojump_clock: MockClock) -> None:
    wires = Wires()
    async with infermux.open_router(a_config(), environ={}, adapters=wires) as router:
        await router.chat({"model": "m", **HI})
    assert wires.made["sim"].statistics().in_flight == 0
    with pytest.raises(Exception, match="restarting"):
        await router.chat({"model": "m", **HI})


async def test_an_error_that_leaves_the_block_is_itself(autojump_clock: MockClock) -> None:
    with pytest.raises(ModelNotFound):
        async with infermux.open_router(a_config(), environ={}) as router:
            await router.chat({"model": "x", **HI})


# Asking.


async def test_the_default_model_answers_auto_and_no_model(autojump_clock: MockClock) -> None:
    async with infermux.open_router(a_config(), environ={}) as router:
        for request in (HI, {"model": "auto", **HI}):
            assert (await router.chat(request))["model"] == "m"


async def test_chat_does_not_stream_whatever_the_request_says(autojump_clock: MockClock) -> None:
    request = {"model": "m", "stream": True, **HI}
    async with infermux.open_router(a_config(), environ={}) as router:
        assert (await router.chat(request))["usage"]["completion_tokens"] > 0
        assert request["stream"] is True


async def test_failover_is_the_same_as_in_the_server(autojump_clock: MockClock) -> None:
    config = a_config(
        simulated("bad", "m", script=[{"status": 500}]), simulated("good", "m"), routing={"strategy": "priority"}
    )
    wires = Wires()
    async with infermux.open_router(config, environ={}, adapters=wires) as router:
        await trio.sleep(1)  # both are known to be healthy
        await router.chat({"model": "m", **HI})
        assert wires.made["bad"].statistics().requests == 1
        assert wires.made["good"].statistics().requests == 1


async def test_errors_are_infermuxs_own(autojump_clock: MockClock) -> None:
    bad = simulated("sim", "m", script=[{"status": 500, "times": 2}, {"status": 400}])
    async with infermux.open_router(a_config(bad), environ={}) as router:
        for expected in (UpstreamError, ProviderRefusal):
            with pytest.raises(expected):
                await router.chat({"model": "m", **HI})
        with pytest.raises(InvalidRequest) as caught:
            await router.chat({"model": "m"})
        assert caught.value.param == "messages"
        with pytest.raises(CallerError):
            await router.chat({"model": "m", "messages": [], "provider": {"only": ["nobody"]}})


async def test_a_timeout_is_the_callers_deadline(autojump_clock: MockClock) -> None:
    wires = Wires()
    slow = simulated("sim", "m", script=[{"hang": True}])
    async with infermux.open_router(a_config(slow), environ={}, adapters=wires) as router:
        with pytest.raises(DeadlineExceeded):
            await router.chat({"model": "m", **HI}, timeout=3.0)
        assert wires.made["sim"].statistics().in_flight == 0


async def test_cancelling_closes_the_providers_side(autojump_clock: MockClock) -> None:
    wires = Wires()
    slow = simulated("sim", "m", script=[{"hang": True}])
    async with infermux.open_router(a_config(slow), environ={}, adapters=wires) as router:
        with trio.move_on_after(2.0):
            await router.chat({"model": "m", **HI})
        assert wires.made["sim"].statistics().in_flight == 0
        assert (await router.provider("sim")).in_flight == 0


async def test_a_stream_where_none_was_asked_for_is_an_error(autojump_clock: MockClock) -> None:
    wire = Scripted()
    wire.rest = streams()
    async with infermux.open_router(a_config(), environ={}, adapters=lambda settings: wire) as router:
        with pytest.raises(InvalidRequest):
            await router.chat({"model": "m", **HI})
        assert wire.open == 0


# Streaming.


async def test_a_stream_is_chunks_until_its_end(autojump_clock: MockClock) -> None:
    async with infermux.open_router(a_config(), environ={}) as router:
        whole = await router.chat({"model": "m", **HI})
        async with router.stream({"model": "m", **HI}) as chunks:
            got = [chunk async for chunk in chunks]
        text = "".join(c["delta"].get("content") or "" for chunk in got for c in chunk["choices"])
        assert text == whole["choices"][0]["message"]["content"]
        assert all(chunk["object"] == "chat.completion.chunk" for chunk in got)
        assert got[-1]["choices"][0]["finish_reason"] == "stop"


async def test_errors_before_the_first_content_are_raised_on_entering(autojump_clock: MockClock) -> None:
    async with infermux.open_router(a_config(), environ={}) as router:
        with pytest.raises(ModelNotFound):
            async with router.stream({"model": "x", **HI}):
                pytest.fail("it must not open")


async def test_leaving_a_stream_early_closes_the_providers_side_at_once(autojump_clock: MockClock) -> None:
    wires = Wires()
    async with infermux.open_router(a_config(), environ={}, adapters=wires) as router:
        async with router.stream({"model": "m", **HI}) as chunks:
            async for _ in chunks:
                break
        statistics = wires.made["sim"].statistics()
        assert (statistics.in_flight, statistics.cancelled) == (0, 1)
        assert (await router.provider("sim")).in_flight == 0
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)


async def test_a_stream_that_nobody_reads_is_closed_too(autojump_clock: MockClock) -> None:
    wires = Wires()
    async with infermux.open_router(a_config(), environ={}, adapters=wires) as router:
        async with router.stream({"model": "m", **HI}):
            pass
        assert wires.made["sim"].statistics().in_flight == 0


async def test_a_stream_that_breaks_raises(autojump_clock: MockClock) -> None:
    cut = simulated("sim", "m", script=[{"cut_after": 3}])
    async with infermux.open_router(a_config(cut), environ={}) as router:
        got: list[Mapping[str, Any]] = []

        async def read() -> None:
            async with router.stream({"model": "m", **HI}) as chunks:
                got.append(await anext(chunks))
                async for _ in chunks:
                    pass

        with pytest.raises(UpstreamError):
            await read()
        assert got


async def test_a_stream_that_breaks_goes_on_elsewhere_where_that_is_turned_on(autojump_clock: MockClock) -> None:
    cut, other = simulated("one", "m", script=[{"cut_after": 4}]), simulated("two", "m")
    unchecked = {"health_check": {"disabled": True}}
    config = a_config({**cut, **unchecked}, {**other, **unchecked}, rescue="continue", routing={"strategy": "priority"})
    async with infermux.open_router(config, environ={}) as router:
        async with router.stream({"model": "m", **HI}) as chunks:
            got = [chunk async for chunk in chunks]
        pieces = [chunk["choices"][0] for chunk in got]
        said = "".join(piece["delta"].get("content", "") for piece in pieces)
        assert said.startswith("This is one, a simulated provider.")
        assert (len(said.split()), pieces[-1]["finish_reason"]) == (40, "stop")
        assert {chunk["id"] for chunk in got} == {"chatcmpl-one-1"}


# Changing the providers.


async def test_a_provider_is_added_as_a_mapping_or_as_settings(autojump_clock: MockClock) -> None:
    config = a_config(circuit_breaker={"consecutive_failures": 2, "min_requests": 7})
    async with infermux.open_router(config, environ={"NAME": "n"}) as router:
        await router.add_provider({**simulated("two", "${NAME}"), "circuit_breaker": {"min_requests": 3}})
        assert (await router.chat({"model": "n", **HI}))["model"] == "n"
        # As in the file: the shared section with the provider's own on top.
        breaker = router.fleet.member("two").settings.circuit_breaker
        assert (breaker.consecutive_failures, breaker.min_requests) == (2, 3)
        await router.add_provider(ProviderSettings(name="three", type="simulated", models=("o",)))
        assert router.models == ["m", "n", "o"]


async def test_a_bad_or_taken_provider_is_refused_and_nothing_changes(autojump_clock: MockClock) -> None:
    async with infermux.open_router(a_config(), environ={}) as router:
        with pytest.raises(ConfigError):
            await router.add_provider({"name": "x", "type": "nonsense"})
        with pytest.raises(ValueError, match="already"):
            await router.add_provider(simulated("sim", "n"))
        assert router.models == ["m"]


async def test_a_removed_provider_lets_what_it_has_end_within_the_grace(autojump_clock: MockClock) -> None:
    async with infermux.open_router(a_config(simulated("sim", "m", first_token="5s")), environ={}) as router:
        answers: list[Mapping[str, Any]] = []

        async def ask() -> None:
            answers.append(await router.chat({"model": "m", **HI}))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(6)  # the first probe takes as long as a request
            await router.remove_provider("sim", grace=60.0)
        assert len(answers) == 1
        assert router.models == []
        with pytest.raises(NotFound):
            await router.remove_provider("sim")


async def test_without_a_grace_a_stream_is_cut(autojump_clock: MockClock) -> None:
    wire = Scripted()
    wire.rest = Step(chunks=(b'data: {"choices":[]}\n\n',), stalls=True)
    async with infermux.open_router(a_config(), environ={}, adapters=lambda settings: wire) as router:

        async def read() -> None:
            async with router.stream({"model": "m", **HI}) as chunks:
                async for _ in chunks:
                    pass

        async with trio.open_nursery() as nursery:

            async def reader() -> None:
                with pytest.raises(ShuttingDown, match="the provider was removed"):
                    await read()

            nursery.start_soon(reader)
            await trio.sleep(1)
            await router.remove_provider("sim")
        assert (wire.open, wire.closed) == (0, True)


async def test_commands_by_verb_or_by_word(autojump_clock: MockClock) -> None:
    async with infermux.open_router(a_config(), environ={}) as router:
        assert (await router.command("sim", "disable")).reason == "disabled"
        assert (await router.command("sim", Verb.ENABLE)).reason != "disabled"
        with pytest.raises(ValueError, match="explode"):
            await router.command("sim", "explode")
        with pytest.raises(NotFound):
            await router.provider("x")


def test_a_router_does_not_show_the_environment() -> None:
    fields = {field.name: field.repr for field in attrs.fields(infermux.Router)}
    assert fields["environ"] is False


async def test_another_configuration_takes_over_and_what_was_added_by_hand_stays(autojump_clock: MockClock) -> None:
    one = {"name": "one", "type": "simulated", "models": ["m"], "health_check": {"disabled": True}}
    async with infermux.open_router({"providers": [one]}, environ={}) as router:
        await router.add_provider({**one, "name": "hand", "models": ["h"]})
        found = await router.reload({"providers": [{**one, "name": "two", "models": ["n"]}]})
        assert (found.added, found.removed) == (("two",), ("one",))
        assert sorted(router.models) == ["h", "n"]
        with pytest.raises(ConfigError, match="colour"):
            await router.reload({"providers": [{**one, "colour": "red"}]})
        assert sorted(router.models) == ["h", "n"]
