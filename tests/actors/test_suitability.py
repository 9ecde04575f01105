"""What providers say of their models decides where a request goes, and which names there are."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.provider_messages import Verb
from infermux.actors.requests import request_run
from infermux.config.settings import HealthCheck, ProbeMethod, ProviderSettings, Routing
from infermux.errors import FailureKind, InvalidRequest, ModelNotFound, NoHealthyProviders, UpstreamFailure
from infermux.providers.interface import Endpoint, ModelInfo, Usage
from infermux.secret import Secret
from tests.actors._scripted import PRIORITY, Scripted, Step, World, fails, provider, world

SMALL = ModelInfo(id="m", context_window=100, images=False)
LARGE = ModelInfo(id="m", context_window=1000, images=True)
UNKNOWN = ModelInfo(id="m")


class Described(Scripted):
    """A wire that knows its models, and runs on something that a test can end."""

    def __init__(self, name: str, *models: ModelInfo) -> None:
        super().__init__(name)
        self.models_now: Sequence[ModelInfo] = models
        self.described: Sequence[ModelInfo] | None = None
        self.running = 0
        self.crashes: list[Exception] = []
        self.news: Callable[[bool], None] = lambda _: None

    async def probe(self, method: ProbeMethod, model: str | None, key: Secret | None = None) -> Usage | None:
        used = await super().probe(method, model, key)
        await self.describe_models()
        return used

    async def describe_models(self) -> Sequence[ModelInfo]:
        await trio.lowlevel.checkpoint()
        self.described = tuple(self.models_now)
        return self.described

    async def run(self, news: Callable[[bool], None]) -> None:
        self.news = news
        self.running += 1
        try:
            if self.crashes:
                raise self.crashes.pop(0)
            await trio.sleep_forever()
        finally:
            self.running -= 1

    def statistics(self) -> dict[str, Any]:
        return {"running": self.running}


@asynccontextmanager
async def described(*wires: Described, routing: Routing = PRIORITY, **fields: Any) -> AsyncGenerator[World]:
    """Providers that are open-ended by their declaration, probed."""
    providers = [provider(wire.name, probed=True, **fields) for wire in wires]
    async with world(*providers, wires={wire.name: wire for wire in wires}, routing=routing) as found:
        await trio.sleep(0.01)
        yield found


async def test_a_provider_serves_what_it_lists_and_nothing_else(autojump_clock: MockClock) -> None:
    a, b = Described("a", ModelInfo(id="one"), ModelInfo(id="two")), Described("b", ModelInfo(id="two"))
    async with described(a, b) as w:
        assert w.fleet.catalogue.default_model == "one"
        assert list(w.fleet.catalogue.names()) == ["one", "two"]
        assert await w.answered_by("two") == "a"
        assert await w.answered_by("b/two") == "b"
        assert await w.answered_by("auto") == "a"
        for name in ("three", "b/one"):
            with pytest.raises(ModelNotFound):
                await w.chat(name)


async def test_what_it_lists_later_is_served_from_then_on(autojump_clock: MockClock) -> None:
    a = Described("a", ModelInfo(id="one"))
    async with described(a) as w:
        a.models_now = (ModelInfo(id="two"),)
        await w.fleet.command("a", Verb.PROBE)
        assert await w.answered_by("two") == "a"
        with pytest.raises(ModelNotFound, match="declared here: two"):
            await w.chat("one")


async def test_the_default_model_is_waited_for_while_a_process_starts(autojump_clock: MockClock) -> None:
    a = Described("a", ModelInfo(id="one"))
    a.probes = [Step(seconds=3)]
    async with world(provider("a", probed=True, type="process"), wires={"a": a}) as w:
        for name in ("auto", ""):
            assert await w.answered_by(name) == "a"
        assert trio.current_time() == pytest.approx(3)
        assert [call.model for _, call in a.asked] == ["one", "one"]


async def test_the_first_provider_of_the_file_has_the_default_model_also_where_it_starts_last(
    autojump_clock: MockClock,
) -> None:
    a, b = Described("a", ModelInfo(id="one")), Described("b", ModelInfo(id="two"))
    a.probes = [Step(seconds=3)]
    declared = [provider(name, probed=True, type="process") for name in "ab"]
    async with world(*declared, wires={"a": a, "b": b}) as w:
        await trio.sleep(1)
        assert await w.answered_by("two") == "b"
        assert await w.answered_by("auto") == "a"
    a.probes = [fails(FailureKind.CONNECT, seconds=3)]
    async with world(*declared, wires={"a": a, "b": b}) as w:
        assert await w.answered_by("auto") == "b"


async def test_a_default_model_that_nobody_came_up_with_says_who_has_not(autojump_clock: MockClock) -> None:
    a = Described("a", ModelInfo(id="one"))
    a.probes = [fails(FailureKind.CONNECT, seconds=3)]
    async with world(provider("a", probed=True, type="process"), wires={"a": a}) as w:
        with pytest.raises(NoHealthyProviders, match=r"\(a: unhealthy\)"):
            await w.chat("auto")
        assert not a.asked


async def test_a_declaration_says_which_of_them(autojump_clock: MockClock) -> None:
    a = Described("a", ModelInfo(id="one", images=False), ModelInfo(id="two"))
    declared = ProviderSettings(name="a", type="openai", models=("one",), model_aliases={"eins": "one"})
    async with world(declared, wires={"a": a}, routing=PRIORITY) as w:
        await trio.sleep(0.01)
        assert list(w.fleet.catalogue.names()) == ["one", "eins"]
        with pytest.raises(InvalidRequest, match=r"a \(one\): it takes no images"):
            await w.chat("eins", images=True)


async def test_images_never_go_to_a_model_that_takes_none(autojump_clock: MockClock) -> None:
    small, unknown = Described("small", SMALL), Described("unknown", UNKNOWN)
    async with described(small, unknown) as w:
        assert await w.answered_by("m") == "small"
        assert await w.answered_by("m", images=True) == "unknown"
        unknown.rest = unknown.rest.__class__(failure=UpstreamFailure(FailureKind.SERVER_ERROR, "oops", status=500))
        with pytest.raises(Exception, match="oops"):
            await w.chat("m", images=True)
        assert len(small.asked) == 1


async def test_a_request_that_nobody_takes_is_told_who_lacks_what(autojump_clock: MockClock) -> None:
    tools = ModelInfo(id="m", tools=False)
    async with described(Described("a", SMALL), Described("b", tools)) as w:
        with pytest.raises(InvalidRequest, match=r"a \(m\): it takes no images; b \(m\): it takes no tools") as caught:
            await w.chat("m", images=True, tools=True)
        assert caught.value.status == 400


async def test_a_prompt_goes_where_it_fits_and_anywhere_where_it_fits_nowhere(autojump_clock: MockClock) -> None:
    async with described(Described("small", SMALL), Described("large", LARGE)) as w:
        assert await w.answered_by("m", prompt_tokens=90) == "small"
        assert await w.answered_by("m", prompt_tokens=90, max_tokens=11) == "large"
        assert await w.answered_by("m", prompt_tokens=101) == "large"
        assert await w.answered_by("m", prompt_tokens=5000) == "small"


async def test_a_prompt_too_long_for_a_model_goes_to_one_for_longer_prompts(autojump_clock: MockClock) -> None:
    small, large = Described("small", SMALL), Described("large", ModelInfo(id="long", context_window=1000))
    routing = Routing(strategy="priority", context_fallbacks={"m": ("long",)})
    async with described(small, large, routing=routing) as w:
        assert await w.answered_by("m", prompt_tokens=50) == "small"
        assert await w.answered_by("m", prompt_tokens=500) == "large"
        assert await w.answered_by("m", prompt_tokens=5000) == "small"


# `anthropic.types.ContentBlockSourceParam`: a document made of texts and images.
DOCUMENT = {
    "type": "document",
    "source": {"type": "content", "content": [{"type": "image", "source": {"type": "url", "url": "https://e/x"}}]},
}
WITH_IMAGES: list[tuple[Endpoint, dict[str, Any]]] = [
    (
        Endpoint.CHAT,
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://e/x"}}]}]},
    ),
    (Endpoint.RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}),
    (
        Endpoint.MESSAGES,
        {
            "max_tokens": 9,
            "messages": [
                {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "image", "source": {}}]}]}
            ],
        },
    ),
    (
        Endpoint.MESSAGES,
        {"max_tokens": 9, "messages": [{"role": "user", "content": [DOCUMENT]}]},
    ),
]


@pytest.mark.parametrize(("endpoint", "body"), WITH_IMAGES)
async def test_images_are_seen_in_every_dialect(
    autojump_clock: MockClock, endpoint: Endpoint, body: dict[str, Any]
) -> None:
    async with described(Described("small", SMALL), Described("large", LARGE)) as w:
        run = request_run(w.fleet, endpoint, json.dumps({"model": "m", "tools": [], **body}).encode())
        assert (run.want.images, run.want.tools) == (True, False)


async def test_what_only_looks_like_an_image_is_none(autojump_clock: MockClock) -> None:
    words = {"role": "user", "content": [{"type": "text", "text": "image_url"}, {"type": "text", "text": "tools"}]}
    call = {"id": "1", "function": {"arguments": '{"type": "image_url"}'}}
    body = {"model": "m", "messages": [words, {"role": "assistant", "tool_calls": [call]}], "tools": [{"type": "x"}]}
    async with described(Described("small", SMALL)) as w:
        run = request_run(w.fleet, Endpoint.CHAT, json.dumps(body).encode())
        assert (run.want.images, run.want.tools) == (False, True)
        bare = request_run(w.fleet, Endpoint.CHAT, json.dumps({**body, "tools": None}).encode())
        assert not bare.want.tools


async def test_what_it_runs_on_runs_as_long_as_it_does(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    a = Described("a", UNKNOWN)
    a.crashes.append(RuntimeError("a bug"))
    async with described(a) as w:
        await trio.sleep(1)
        assert a.running == 1  # a crash of it is logged, and it is run again
        assert "a bug" in caplog.text
        await w.fleet.remove("a")
        assert a.closed
    assert a.running == 0


async def test_a_probe_is_made_when_what_it_runs_on_comes_up_or_goes_down(autojump_clock: MockClock) -> None:
    a = Described("a", UNKNOWN)
    down = a.probe_rest.__class__(failure=UpstreamFailure(FailureKind.CONNECT, "it is not there"))
    a.probe_rest = down
    async with described(a, health_check=HealthCheck(interval=3600.0)) as w:
        assert (await w.fleet.describe("a")).reason == "unhealthy"
        a.probe_rest = a.rest
        a.news(True)
        await trio.sleep(0.1)
        assert (await w.fleet.describe("a")).routable
        a.news(True)
        await trio.sleep(0.1)
        assert len(a.probed) == 2  # it was healthy as it was
        a.probe_rest = down
        a.news(False)
        await trio.sleep(0.1)
        assert not (await w.fleet.describe("a")).routable
