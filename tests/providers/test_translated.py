"""What translates for an adapter stands aside where the adapter speaks itself, and does the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs
import msgspec
import pytest

from infermux.config.settings import ProbeMethod, ProviderSettings
from infermux.errors import FailureKind, InvalidRequest, UpstreamFailure
from infermux.providers.interface import Answer, Call, Endpoint, Stream, Usage
from infermux.providers.token_estimate import IMAGE_TOKENS, PAGE_TOKENS
from infermux.providers.translated import Translating, translating
from infermux.secret import Secret

SETTINGS = ProviderSettings(name="p", type="mine", default_max_tokens=77)
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
}


@attrs.define(eq=False)
class Recording:
    """An adapter that answers everything with `body`, or raises `failure`."""

    endpoints: frozenset[Endpoint]
    body: Any = None
    failure: UpstreamFailure | None = None
    calls: list[Call] = attrs.field(factory=list[Call])
    closed: bool = False
    transport: str = "memory"

    async def send(self, call: Call) -> Answer | Stream:
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure
        return Answer(200, b"application/json", json.dumps(self.body).encode(), Usage(3, 2))

    async def probe(self, method: ProbeMethod, model: str | None, key: Secret | None = None) -> Usage | None:
        return Usage(1, 1)

    async def list_models(self) -> Sequence[str]:
        return ("m",)

    async def aclose(self) -> None:
        self.closed = True


def call(endpoint: Endpoint, **fields: Any) -> Call:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], **fields}
    return Call(endpoint=endpoint, body=json.dumps(body).encode(), model="m", requested_model="gpt-4o")


def messages_only(**more: Any) -> Recording:
    return Recording(frozenset({Endpoint.MESSAGES}), MESSAGE, **more)


def chat_only(**more: Any) -> Recording:
    return Recording(frozenset({Endpoint.CHAT, Endpoint.EMBEDDINGS}), COMPLETION, **more)


async def test_a_call_the_adapter_serves_reaches_it_as_it_is() -> None:
    adapter = messages_only()
    request = call(Endpoint.MESSAGES, of_the_future=1)
    answer = await translating(adapter, SETTINGS).send(request)
    assert adapter.calls[0] is request
    assert isinstance(answer, Answer)
    assert json.loads(answer.body) == MESSAGE


async def test_a_translated_call_keeps_its_credentials_its_trace_and_who_is_told_of_limits() -> None:
    adapter, heard = chat_only(), list[object]()
    asked = msgspec.structs.replace(
        call(Endpoint.MESSAGES, max_tokens=9),
        key=Secret("second"),
        lent=Secret("the caller's"),
        heard=heard.append,
        headers=((b"traceparent", b"00-1-2-01"), (b"anthropic-beta", b"x")),
    )
    await translating(adapter, SETTINGS).send(asked)
    (sent,) = adapter.calls
    assert (sent.endpoint, sent.key, sent.lent, sent.heard) == (Endpoint.CHAT, asked.key, asked.lent, asked.heard)
    assert sent.headers == ((b"traceparent", b"00-1-2-01"),)


async def test_a_chat_reaches_an_adapter_of_messages_with_the_bound_it_needs() -> None:
    adapter = messages_only()
    answer = await translating(adapter, SETTINGS).send(call(Endpoint.CHAT, seed=7, provider={"only": ["p"]}))
    sent = json.loads(adapter.calls[0].body)
    assert (adapter.calls[0].endpoint, sent["model"], sent["max_tokens"]) == (Endpoint.MESSAGES, "m", 77)
    assert isinstance(answer, Answer)
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == "Hi"
    assert (answer.usage, answer.dropped) == (Usage(3, 2), ("seed",))


async def test_a_message_reaches_an_adapter_of_chats() -> None:
    adapter = chat_only()
    answer = await translating(adapter, SETTINGS).send(call(Endpoint.MESSAGES, max_tokens=5))
    assert adapter.calls[0].endpoint is Endpoint.CHAT
    assert isinstance(answer, Answer)
    assert json.loads(answer.body)["content"] == [{"type": "text", "text": "Hi"}]


async def test_strictness_refuses_before_anything_is_sent() -> None:
    adapter = messages_only()
    request = Call(
        endpoint=Endpoint.CHAT, body=call(Endpoint.CHAT, seed=7).body, model="m", requested_model="m", strict=True
    )
    with pytest.raises(InvalidRequest, match="seed"):
        await translating(adapter, SETTINGS).send(request)
    assert not adapter.calls


async def test_a_refusal_is_told_in_the_callers_words() -> None:
    body = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}).encode()
    adapter = messages_only(failure=UpstreamFailure(FailureKind.CALLER, "no", status=400, body=body))
    with pytest.raises(UpstreamFailure) as caught:
        await translating(adapter, SETTINGS).send(call(Endpoint.CHAT))
    assert json.loads(caught.value.body or b"")["error"]["message"] == "no"
    assert "type" not in json.loads(caught.value.body or b"")


@attrs.define(eq=False)
class Losing(Recording):
    """One whose provider turns out not to have the endpoint of responses."""

    known: bool = True

    async def send(self, call: Call) -> Answer | Stream:
        if call.endpoint is not Endpoint.RESPONSES:
            return await super().send(call)
        self.calls.append(call)
        if self.known:
            self.endpoints -= {Endpoint.RESPONSES}
        raise UpstreamFailure(FailureKind.CALLER, "not found", status=404)


def asking_for_a_response() -> Call:
    return Call(endpoint=Endpoint.RESPONSES, body=b'{"model":"m","input":"hi"}', model="m", requested_model="m")


async def test_an_endpoint_that_turns_out_not_to_be_there_is_translated_from_then_on() -> None:
    adapter = Losing(frozenset({Endpoint.CHAT, Endpoint.RESPONSES}), COMPLETION)
    provider = translating(adapter, SETTINGS)
    for _ in range(2):
        answer = await provider.send(asking_for_a_response())
        assert isinstance(answer, Answer)
        assert json.loads(answer.body)["object"] == "response"
    assert [sent.endpoint for sent in adapter.calls] == [Endpoint.RESPONSES, Endpoint.CHAT, Endpoint.CHAT]
    assert Endpoint.RESPONSES in provider.endpoints


async def test_a_refusal_of_an_endpoint_that_is_there_is_the_callers() -> None:
    adapter = Losing(frozenset({Endpoint.CHAT, Endpoint.RESPONSES}), COMPLETION, known=False)
    with pytest.raises(UpstreamFailure, match="not found"):
        await translating(adapter, SETTINGS).send(asking_for_a_response())
    assert len(adapter.calls) == 1


async def test_tokens_that_nobody_counts_are_estimated() -> None:
    adapter = chat_only()
    provider = translating(adapter, SETTINGS)
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 400_000}}
    page = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "A" * 90_000}}
    tool = {"name": "look", "description": "d" * 400, "input_schema": {"type": "object"}}

    async def counted(content: Any, **more: Any) -> int:
        turns = [{"role": "user", "content": content}]
        answer = await provider.send(call(Endpoint.COUNT_TOKENS, messages=turns, **more))
        assert isinstance(answer, Answer)
        assert (answer.estimated, answer.usage) == (True, Usage())
        return int(json.loads(answer.body)["input_tokens"])

    short = await counted("four")
    assert 1 <= short < 10
    assert await counted("four" * 100) == pytest.approx(short + 99)
    assert await counted([picture]) == pytest.approx(IMAGE_TOKENS, abs=5)
    assert await counted([page]) == pytest.approx(PAGE_TOKENS, abs=5)
    assert await counted("four", system="four" * 50) == pytest.approx(short + 50)
    assert await counted("four", tools=[tool]) > short + 100
    assert not adapter.calls


async def test_all_else_is_the_adapters_own() -> None:
    adapter = chat_only()
    provider = translating(adapter, SETTINGS)
    assert provider.endpoints > adapter.endpoints
    assert provider.transport == "memory"
    assert await provider.probe(ProbeMethod.GENERATE, "m") == Usage(1, 1)
    assert await provider.list_models() == ("m",)
    await provider.aclose()
    assert adapter.closed


def test_an_adapter_that_serves_all_or_nothing_of_it_is_left_alone() -> None:
    for endpoints in (frozenset(Endpoint), frozenset({Endpoint.EMBEDDINGS})):
        adapter = Recording(endpoints)
        assert translating(adapter, SETTINGS) is adapter
    assert isinstance(translating(chat_only(), SETTINGS), Translating)
