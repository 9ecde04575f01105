"""From a body to a run."""

from __future__ import annotations

import msgspec
import pytest
from trio.testing import MockClock

from infermux.actors.requests import chat_run, request_run
from infermux.config.settings import Routing
from infermux.errors import InvalidRequest
from infermux.providers.interface import Endpoint
from infermux.providers.peek import Preferences
from tests.actors._scripted import Person, provider, world

HI = [{"role": "user", "content": "hi"}]


def body(**fields: object) -> bytes:
    return msgspec.json.encode({"messages": HI, **fields})


async def test_a_body_becomes_what_is_wanted_and_what_is_sent(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w:
        written = body(model="m", max_tokens=7, stream=True, stream_options={"include_usage": True})
        run = chat_run(w.fleet, written, timeout=9.0)
        assert (run.want.model, run.want.max_tokens, run.want.affinity) == ("m", 7, b"")
        assert run.want.prompt_tokens > 0
        call = run.call
        assert (call.body, call.requested_model, call.stream, call.asked_usage, call.remove) == (
            written,
            "m",
            True,
            True,
            (),
        )
        assert run.deadline.own
    assert run.deadline.at == run.started_at + 9.0


async def test_the_provider_object_is_taken_out_and_obeyed(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m"), provider("b", "m"), routing=Routing(strategy="priority")) as w:
        run = chat_run(w.fleet, body(model="m", provider={"order": ["b"], "allow_fallbacks": False}))
        assert run.want.preferences == Preferences(order=("b",), allow_fallbacks=False)
        await run.begin()
        run.close()
        assert w["b"].asked[0][1].remove == ("provider",)


async def test_a_request_without_a_model_gets_the_default(autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w:
        run = chat_run(w.fleet, body())
        await run.begin()
        run.close()
        call = w["a"].asked[0][1]
        assert (call.model, call.requested_model) == ("m", None)


async def test_the_sticky_key_and_the_caller_travel_along(autojump_clock: MockClock) -> None:
    def key(written: bytes) -> bytes:
        return written[-5:]

    async with world(provider("a", "m")) as w:
        person = Person()
        run = request_run(w.fleet, Endpoint.CHAT, body(model="m"), caller=person, affinity=key)
        assert (run.want.affinity, run.caller) == (b':"m"}', person)


@pytest.mark.parametrize(
    ("written", "param"),
    [
        (b"", None),
        (b"[]", None),
        (b"{}", "messages"),
        (b'{"messages":[]}', "messages"),
        (b'{"messages":[1]}', "messages[0]"),
        (b'{"messages":[{"role":"user"}],"provider":{"only":"a"}}', "provider.only"),
        (b'{"messages":[{"role":"user"}],"provider":{"speed":1}}', "provider.speed"),
    ],
)
async def test_what_is_wrong_with_a_body_is_named(written: bytes, param: str | None, autojump_clock: MockClock) -> None:
    async with world(provider("a", "m")) as w:
        with pytest.raises(InvalidRequest) as caught:
            chat_run(w.fleet, written)
        assert caught.value.param == param
