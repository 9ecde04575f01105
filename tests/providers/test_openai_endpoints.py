"""The openai adapter at its further endpoints, against a strict upstream on a real socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from infermux.errors import FailureKind, InvalidRequest, UpstreamFailure
from infermux.providers.interface import Answer, Call, Endpoint, Stream, Usage
from tests.mocks.openai_further import vector
from tests.mocks.openai_upstream import OpenAIUpstream, Reply
from tests.providers._both import inside_and_outside
from tests.providers._calls import adapter, drained

pytestmark = pytest.mark.slow

EMBEDDER = "text-embedding-3-small"


def asking(endpoint: Endpoint, *, model: str = "gpt-4o", named: str | None = None, **fields: Any) -> Call:
    body = {"model": named or model, **fields}
    options: dict[str, Any] = fields.get("stream_options") or {}
    return Call(
        endpoint=endpoint,
        body=json.dumps(body).encode(),
        model=model,
        requested_model=body["model"],
        stream=bool(fields.get("stream")),
        asked_usage=bool(options.get("include_usage")),
    )


async def whole(upstream: OpenAIUpstream, call: Call, **more: Any) -> Answer:
    answer = await adapter(upstream, **more).send(call)
    assert isinstance(answer, Answer)
    return answer


async def opened(upstream: OpenAIUpstream, call: Call) -> Stream:
    stream = await adapter(upstream).send(call)
    assert not isinstance(stream, Answer)
    return stream


# Legacy completions.


@inside_and_outside
async def test_a_legacy_completion_passes_through() -> None:
    async with OpenAIUpstream() as upstream:
        answer = await whole(upstream, asking(Endpoint.COMPLETIONS, prompt="Say", named="smart"))
        assert (upstream.requests[0].path, upstream.requests[0].json["model"]) == ("/v1/completions", "gpt-4o")
        assert json.loads(answer.body)["choices"][0]["text"] == "Hello from the mock."
        assert answer.usage == Usage(prompt_tokens=7, completion_tokens=5)


@inside_and_outside
@pytest.mark.parametrize("asked", [True, False])
async def test_the_usage_of_a_streamed_legacy_completion_is_asked_for_and_hidden(asked: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if asked else {}
    async with OpenAIUpstream() as upstream:
        stream = await opened(upstream, asking(Endpoint.COMPLETIONS, prompt="Say", stream=True, **options))
        said = await drained(stream)
        assert upstream.requests[0].json["stream_options"] == {"include_usage": True}
        assert (b'"usage": {' in said) is asked
        assert said.endswith(b"data: [DONE]\n\n")
        assert stream.has_content
        assert stream.usage == Usage(prompt_tokens=7, completion_tokens=5)


async def test_a_legacy_completion_has_content_with_its_first_text() -> None:
    chunk = {"object": "text_completion", "choices": [{"text": "", "index": 0, "finish_reason": None}]}
    spoken = {"object": "text_completion", "choices": [{"text": "x", "index": 0, "finish_reason": None}]}
    sent = [b"data: " + json.dumps(each).encode() + b"\n\n" for each in (chunk, spoken)]
    async with OpenAIUpstream() as upstream:
        upstream.script.append(Reply(events=(sent[0], b"WAIT", sent[1], b"CUT"), interval=0.05))
        stream = await opened(upstream, asking(Endpoint.COMPLETIONS, prompt="Say", stream=True))
        assert (await stream.receive(), stream.has_content) == (sent[0], False)
        assert (await stream.receive(), stream.has_content) == (sent[1], True)
        with pytest.raises(UpstreamFailure) as caught:
            await stream.receive()
        assert caught.value.kind is FailureKind.BROKEN
        stream.close()


async def test_stream_options_refused_for_completions_are_still_sent_for_chats() -> None:
    async with OpenAIUpstream() as upstream:
        provider = adapter(upstream)
        refused = b'{"error": {"message": "stream_options is not supported", "type": "invalid_request_error"}}'
        upstream.script.append(Reply(status=400, body=refused))
        for _ in range(2):
            stream = await provider.send(asking(Endpoint.COMPLETIONS, prompt="Say", stream=True))
            assert not isinstance(stream, Answer)
            await drained(stream)
        chat = asking(Endpoint.CHAT, messages=[{"role": "user", "content": "hi"}], stream=True)
        stream = await provider.send(chat)
        assert not isinstance(stream, Answer)
        await drained(stream)
        assert ["stream_options" in request.json for request in upstream.requests] == [True, False, False, True]


# Embeddings.


@inside_and_outside
async def test_embeddings_go_through_as_numbers_and_as_base64() -> None:
    async with OpenAIUpstream() as upstream:
        call = asking(Endpoint.EMBEDDINGS, model=EMBEDDER, input=["a", "b"], dimensions=4)
        answer = await whole(upstream, call)
        assert upstream.requests[0].body == call.body
        assert [row["embedding"] for row in json.loads(answer.body)["data"]] == [vector("a", 4), vector("b", 4)]
        assert answer.usage == Usage(prompt_tokens=2)
        packed = await whole(upstream, asking(Endpoint.EMBEDDINGS, model=EMBEDDER, input="a", encoding_format="base64"))
        assert isinstance(json.loads(packed.body)["data"][0]["embedding"], str)


@inside_and_outside
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[]", FailureKind.MALFORMED),
        (b"{}", FailureKind.MALFORMED),
        (b"<html>", FailureKind.MALFORMED),
        (b'{"error": {"message": "slow down", "type": "rate_limit_error"}}', FailureKind.RATE_LIMITED),
    ],
)
async def test_what_is_no_embedding_is_a_failure(body: bytes, kind: FailureKind, monkeypatch: Any) -> None:
    async with OpenAIUpstream() as upstream:
        monkeypatch.setattr(upstream, "check", _always(Reply(body=body)))
        with pytest.raises(UpstreamFailure) as caught:
            await whole(upstream, asking(Endpoint.EMBEDDINGS, model=EMBEDDER, input="a"))
        assert caught.value.kind is kind


def _always(reply: Reply) -> Callable[[object], Reply]:
    return lambda _: reply


async def test_azure_keeps_embeddings_by_deployment() -> None:
    async with OpenAIUpstream("azure") as upstream:
        call = asking(Endpoint.EMBEDDINGS, model=EMBEDDER, input="a")
        await whole(upstream, call, type_="azure_openai", azure_api_version=upstream.api_version)
        assert upstream.requests[0].path == f"/openai/deployments/{EMBEDDER}/embeddings"


async def test_ollama_keeps_them_below_v1() -> None:
    async with OpenAIUpstream("ollama") as upstream:
        await whole(upstream, asking(Endpoint.EMBEDDINGS, model=EMBEDDER, input="a"), type_="ollama", key=None)
        assert upstream.requests[0].path == "/v1/embeddings"


# Responses.

RESPONSE: dict[str, Any] = {
    "id": "resp_1", "object": "response", "status": "completed", "error": None, "output": [],
    "usage": {
        "input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 12,
    },
}  # fmt: skip
SPENT = Usage(prompt_tokens=9, completion_tokens=3, cached_tokens=4, reasoning_tokens=2)


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


CREATED = event("response.created", response={**RESPONSE, "status": "in_progress", "usage": None})
ADDED = event("response.output_item.added", item={"type": "message"})
DELTA = event("response.output_text.delta", delta='an "error" in "response.failed"')
COMPLETED = event("response.completed", response=RESPONSE)


async def test_a_response_passes_through_byte_for_byte() -> None:
    body = json.dumps(RESPONSE, indent=1).encode()
    async with OpenAIUpstream(responses=True) as upstream:
        upstream.script.append(Reply(body=body))
        call = asking(Endpoint.RESPONSES, input="hi", previous_response_id="resp_0", new_field=1)
        call = msgspec.structs.replace(call, headers=BETAS)
        answer = await whole(upstream, call)
        assert (answer.body, answer.usage, upstream.requests[0].body) == (body, SPENT, call.body)
        assert upstream.requests[0].header("openai-beta") == "responses=experimental"
        assert upstream.requests[0].header("anthropic-beta") is None


BETAS = ((b"openai-beta", b"responses=experimental"), (b"anthropic-beta", b"x"))


SEALED: dict[str, Any] = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "infermux:signed:abc"}
HELLO = {"role": "user", "content": "hi"}


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_that_another_provider_signed_stays_behind_and_is_told(stream: bool) -> None:
    async with OpenAIUpstream(responses=True) as upstream:
        upstream.script.append(
            Reply(events=(DELTA, COMPLETED)) if stream else Reply(body=json.dumps(RESPONSE).encode())
        )
        provider = adapter(upstream)
        request = asking(Endpoint.RESPONSES, input=[HELLO, SEALED], stream=stream)
        answer = await provider.send(request)
        assert upstream.requests[0].json["input"] == [HELLO]
        assert answer.dropped == ("input.encrypted_content",)
        if not isinstance(answer, Answer):
            answer.close()
        with pytest.raises(InvalidRequest, match=r"input\.encrypted_content"):
            await provider.send(msgspec.structs.replace(request, strict=True))
        assert len(upstream.requests) == 1


async def test_a_streamed_response_passes_through_byte_for_byte() -> None:
    for ending in ("completed", "incomplete", "failed"):
        last = event(f"response.{ending}", response=RESPONSE)
        async with OpenAIUpstream(responses=True) as upstream:
            sent = (CREATED, ADDED, DELTA, DELTA, last)
            upstream.script.append(Reply(events=sent))
            stream = await opened(upstream, asking(Endpoint.RESPONSES, input="hi", stream=True))
            assert await drained(stream) == b"".join(sent)
            assert stream.usage == SPENT


@inside_and_outside
async def test_a_streamed_response_has_content_with_its_first_words_or_call() -> None:
    call = event("response.output_item.added", item={"type": "function_call", "name": "f"})
    for first in (DELTA, call, event("response.reasoning_summary_text.delta", delta="hm")):
        async with OpenAIUpstream(responses=True) as upstream:
            waits = (CREATED, b"WAIT", ADDED, b"WAIT", first, b"WAIT", COMPLETED)
            upstream.script.append(Reply(events=waits, interval=0.03))
            stream = await opened(upstream, asking(Endpoint.RESPONSES, input="hi", stream=True))
            seen: list[bool] = []
            while await stream.receive() is not None:
                seen.append(stream.has_content)
            assert seen == [False, False, True, True]
            stream.close()


@inside_and_outside
@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (b"CUT", FailureKind.BROKEN),
        (event("error", code="rate_limit_exceeded", message="slow down"), FailureKind.RATE_LIMITED),
        (
            event("response.failed", response={**RESPONSE, "error": {"code": "server_error", "message": "x"}}),
            FailureKind.SERVER_ERROR,
        ),
        (b": only a comment\n\n", FailureKind.BROKEN),
    ],
)
@pytest.mark.parametrize("said", [False, True])
async def test_a_response_without_a_genuine_end_is_a_failure(last: bytes, kind: FailureKind, said: bool) -> None:
    if said and b"response.failed" in last:
        return  # a genuine end
    async with OpenAIUpstream(responses=True) as upstream:
        upstream.script.append(Reply(events=(CREATED, *((DELTA,) if said else ()), b"WAIT", last), interval=0.05))
        stream = await opened(upstream, asking(Endpoint.RESPONSES, input="hi", stream=True))
        with pytest.raises(UpstreamFailure) as caught:
            await drained(stream)
        assert caught.value.kind is (FailureKind.BROKEN if said else kind)


async def test_an_unknown_response_is_not_an_unknown_endpoint() -> None:
    told = b'{"error": {"message": "Item with id \'rs_0123456789\' not found.", "type": "invalid_request_error"}}'
    async with OpenAIUpstream(responses=True) as upstream:
        provider = adapter(upstream)
        for _ in range(2):
            upstream.script.append(Reply(status=404, body=told))
            with pytest.raises(UpstreamFailure) as caught:
                await provider.send(asking(Endpoint.RESPONSES, input="hi"))
            assert (caught.value.kind, caught.value.status) == (FailureKind.CALLER, 404)
        assert [request.path for request in upstream.requests] == ["/v1/responses"] * 2


# What is translated.


async def test_messages_go_through_chat_completions() -> None:
    async with OpenAIUpstream() as upstream:
        call = asking(Endpoint.MESSAGES, max_tokens=9, messages=[{"role": "user", "content": "hi"}])
        answer = await whole(upstream, call)
        told = json.loads(answer.body)
        assert (told["type"], told["content"][0]["text"]) == ("message", "Hello from the mock.")
        assert upstream.requests[0].path == "/v1/chat/completions"


async def test_tokens_are_counted_by_an_estimate_that_is_marked() -> None:
    async with OpenAIUpstream() as upstream:
        call = asking(Endpoint.COUNT_TOKENS, messages=[{"role": "user", "content": "x" * 400}])
        answer = await whole(upstream, call)
        assert json.loads(answer.body)["input_tokens"] >= 100
        assert answer.estimated
        assert upstream.requests == []


async def test_a_body_that_cannot_be_translated_is_refused_before_anything_is_sent() -> None:
    async with OpenAIUpstream() as upstream:
        with pytest.raises(InvalidRequest):
            await whole(upstream, asking(Endpoint.MESSAGES, messages=[{"role": "user", "content": 7}]))
        assert upstream.requests == []


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_that_the_provider_keeps_is_told_by_its_id(stream: bool) -> None:
    made: dict[str, object] = {"id": "resp_7", "object": "response", "status": "completed", "output": []}
    begun, done = (
        b"data: " + json.dumps({"type": f"response.{kind}", "response": made}).encode() + b"\n\n"
        for kind in ("created", "completed")
    )
    told: list[str] = []
    async with OpenAIUpstream(responses=True) as upstream:
        upstream.script.append(Reply(events=(begun, done)) if stream else Reply(body=json.dumps(made).encode()))
        call = msgspec.structs.replace(asking(Endpoint.RESPONSES, input="hi", stream=stream), kept=told.append)
        answer = await adapter(upstream).send(call)
        if not isinstance(answer, Answer):
            await drained(answer)
    assert told == ["resp_7"]


async def test_a_provider_without_responses_is_remembered_and_asked_for_chats() -> None:
    async with OpenAIUpstream() as upstream:
        provider = adapter(upstream)
        for _ in range(2):
            kept: list[str] = []
            call = msgspec.structs.replace(asking(Endpoint.RESPONSES, input="hi"), kept=kept.append)
            answer = await provider.send(call)
            assert not kept, "what is translated is kept by nobody"
            assert isinstance(answer, Answer)
            told = json.loads(answer.body)
            assert (told["object"], told["status"]) == ("response", "completed")
            assert told["output"][0]["content"][0]["text"] == "Hello from the mock."
        paths = [request.path for request in upstream.requests]
        assert paths == ["/v1/responses", "/v1/chat/completions", "/v1/chat/completions"]
        with pytest.raises(InvalidRequest, match="previous_response_id"):
            await provider.send(asking(Endpoint.RESPONSES, input="hi", previous_response_id="resp_1"))
