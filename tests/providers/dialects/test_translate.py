"""Whole translations: what is sent for a call, and how answers, streams and failures come back to the caller."""

from __future__ import annotations

import json

import attrs
import msgspec
import pytest

from infermux.errors import FailureKind, InvalidRequest, UpstreamFailure
from infermux.providers.dialects.dialect import Target
from infermux.providers.dialects.kept_thinking import ThinkingStore
from infermux.providers.interface import Answer, Call, Endpoint, Stream, Usage
from infermux.providers.translate import TranslatedStream, send_translated
from tests.providers.dialects._cases import (
    CHAT,
    CLAUDE,
    GPT,
    MESSAGES,
    SCHEMA,
    Json,
    block_stream,
    chat,
    chat_stream,
    chat_to_claude,
    chunk,
    claude_to_chat,
    message_events,
    messages,
    sse,
)


@attrs.define(eq=False)
class Upstream:
    """A `Stream` that gives `pieces`; an exception among them is raised."""

    pieces: list[bytes | UpstreamFailure]
    usage: Usage | None = None
    has_content: bool = True
    estimated_tokens: int = 5
    dropped: tuple[str, ...] = ()
    content_type: bytes = b"text/event-stream"
    closed: bool = False
    malformed_events: int = 0
    said_last: bytes | None = None

    async def receive(self) -> bytes | None:
        if not self.pieces:
            return None
        piece = self.pieces.pop(0)
        if isinstance(piece, UpstreamFailure):
            raise piece
        return piece

    def last_words(self) -> bytes | None:
        return self.said_last

    def close(self) -> None:
        self.closed = True


async def all_of(stream: Stream) -> bytes:
    out = b""
    while (data := await stream.receive()) is not None:
        assert data != b"", "a stream waits for something to pass on"
        out += data
    return out


def text_stream(*, end: Json | None = None) -> bytes:
    return message_events([{"type": "text", "text": ""}, {"type": "text_delta", "text": "Hi"}], end=end)


async def test_a_stream_is_translated_event_by_event_and_ends_with_the_provider_s() -> None:
    data = text_stream()
    upstream = Upstream([data[:70], data[70:200], data[200:]])
    stream = chat_to_claude(chat(stream=True, logit_bias={"1": 2})).stream(upstream)
    chunks = chat_stream(await all_of(stream))
    assert "".join(item["choices"][0]["delta"].get("content", "") for item in chunks) == "Hi"
    assert stream.dropped == ("logit_bias",)
    assert (stream.content_type, stream.estimated_tokens, stream.has_content) == (b"text/event-stream", 5, True)
    stream.close()
    assert upstream.closed


async def test_the_provider_s_stream_is_read_to_its_end_so_that_its_connection_is_kept() -> None:
    upstream = Upstream([text_stream(), b": the end of the framing\n\n"])
    stream = chat_to_claude(chat(stream=True)).stream(upstream)
    await all_of(stream)
    assert upstream.pieces == []
    assert await stream.receive() is None


async def test_a_stream_that_breaks_after_its_end_has_not_broken() -> None:
    upstream = Upstream([text_stream(), UpstreamFailure(FailureKind.BROKEN, "reset")])
    assert (await all_of(chat_to_claude(chat(stream=True)).stream(upstream))).endswith(b"data: [DONE]\n\n")


async def test_a_stream_without_its_end_is_broken_and_gets_no_clean_one() -> None:
    data = text_stream()
    stream = chat_to_claude(chat(stream=True)).stream(Upstream([data[: data.index(b"event: message_delta")]]))
    got = b""
    while b"Hi" not in got:
        got += await stream.receive() or b""
    with pytest.raises(UpstreamFailure) as caught:
        got += await all_of(stream)
    assert caught.value.kind is FailureKind.BROKEN
    assert b"[DONE]" not in got


@pytest.mark.parametrize(("has_content", "kind"), [(False, FailureKind.SERVER_ERROR), (True, FailureKind.BROKEN)])
async def test_an_error_inside_a_stream_is_a_failure_in_the_caller_s_words(
    has_content: bool, kind: FailureKind
) -> None:
    error = sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    stream = chat_to_claude(chat(stream=True)).stream(Upstream([error], has_content=has_content))
    with pytest.raises(UpstreamFailure, match="Overloaded") as caught:
        await stream.receive()
    assert (caught.value.kind, caught.value.status) == (kind, 529)
    body = json.loads(caught.value.body or b"")
    assert body == {"error": {"message": "Overloaded", "type": "overloaded_error", "param": None, "code": None}}


async def test_usage_that_the_adapter_hid_is_given_to_the_caller() -> None:
    """OpenAI's adapter asks for usage and takes its event out again; an Anthropic caller always gets usage."""
    data = sse(chunk({"content": "Hi"}), chunk(finish="stop"), b"[DONE]")
    upstream = Upstream([data], usage=Usage(prompt_tokens=4, completion_tokens=2, cached_tokens=1))
    stream = claude_to_chat(messages(stream=True)).stream(upstream)
    end = block_stream(await all_of(stream))[-2]
    assert end["usage"]["input_tokens"] == 3
    assert end["usage"]["output_tokens"] == 2
    assert stream.usage == upstream.usage


async def test_a_provider_that_says_no_more_after_its_stop_reason_has_ended() -> None:
    whole = text_stream()
    cut = whole.index(b"event: message_stop")
    stream = chat_to_claude(chat(stream=True)).stream(Upstream([whole[:cut], whole[cut:]], said_last=whole[cut:]))
    said = await stream.receive() or b""
    last = stream.last_words()
    assert last is not None
    assert last.endswith(b"data: [DONE]\n\n")
    assert chat_stream(said + last) == chat_stream(
        await all_of(chat_to_claude(chat(stream=True)).stream(Upstream([whole])))
    )
    assert stream.last_words() == b""
    assert chat_to_claude(chat(stream=True)).stream(Upstream([whole])).last_words() is None


async def test_what_is_no_event_of_the_dialect_is_left_out_and_counted() -> None:
    broken = b"data: {\n\n", sse({"type": "content_block_delta", "index": "one"})
    stream = chat_to_claude(chat(stream=True)).stream(Upstream([broken[0], *broken, text_stream()]))
    whole = chat_to_claude(chat(stream=True)).stream(Upstream([text_stream()]))
    assert chat_stream(await all_of(stream)) == chat_stream(await all_of(whole))
    assert (stream.malformed_events, whole.malformed_events) == (3, 0)


async def test_thinking_of_a_stream_is_kept_for_the_next_turn() -> None:
    kept = ThinkingStore()
    thinking: Json = {"type": "thinking", "thinking": "", "signature": ""}
    use: Json = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
    data = message_events(
        [thinking, {"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": "s"}],
        [use],
        end={"stop_reason": "tool_use"},
    )
    first = chat_to_claude(chat(stream=True), kept=kept)
    await all_of(first.stream(Upstream([data[:300], data[300:]])))
    call = {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    again = chat(
        {"role": "user", "content": "u"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "toolu_1", "content": "r"},
        tools=[{"type": "function", "function": {"name": "f"}}],
    )
    blocks = json.loads(chat_to_claude(again, kept=kept).body)["messages"][1]["content"]
    assert blocks[0] == {"type": "thinking", "thinking": "hm", "signature": "s"}


FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}
OLD = "claude-3-7-sonnet-latest"


async def test_a_forced_tool_is_unwrapped_while_streaming() -> None:
    data = message_events(
        [{"type": "text", "text": ""}, {"type": "text_delta", "text": "Here it is:"}],
        [
            {"type": "tool_use", "id": "toolu_1", "name": "json_answer", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"city":'},
            {"type": "input_json_delta", "partial_json": '"Oslo"}'},
        ],
        end={"stop_reason": "tool_use"},
    )
    translation = chat_to_claude(chat(stream=True, response_format=FORMAT), model=OLD)
    upstream = Upstream([data[:500], data[500:]])
    chunks = chat_stream(await all_of(translation.stream(upstream)))
    content = [found for item in chunks if (found := item["choices"][0]["delta"].get("content"))]
    assert content == ['{"city":', '"Oslo"}'], "in pieces, and without the words around it"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_text_in_place_of_a_forced_tool_is_given_after_all() -> None:
    translation = chat_to_claude(chat(stream=True, response_format=FORMAT), model=OLD)
    chunks = chat_stream(await all_of(translation.stream(Upstream([text_stream(end={"stop_reason": "refusal"})]))))
    assert "".join(item["choices"][0]["delta"].get("content", "") for item in chunks) == "Hi"
    assert chunks[-1]["choices"][0]["finish_reason"] == "content_filter"


CUSTOM = {"type": "custom", "custom": {"name": "patch", "description": "Apply.", "format": {"type": "text"}}}


async def test_a_tool_that_takes_text_is_a_function_for_providers_without_such_tools() -> None:
    translation = chat_to_claude(chat(stream=True, tools=[CUSTOM]))
    (tool,) = json.loads(translation.body)["tools"]
    assert tool["input_schema"]["properties"] == {"input": {"type": "string"}}
    assert translation.dropped == ("tools.custom(as function)",)
    use = {"type": "tool_use", "id": "toolu_1", "name": "patch", "input": {"input": "*** a\n"}}
    answer = {"id": "m", "model": "c", "content": [use], "stop_reason": "tool_use", "usage": {"output_tokens": 1}}
    whole = json.loads(translation.answer(Answer(200, b"", json.dumps(answer).encode())).body)
    call = whole["choices"][0]["message"]["tool_calls"][0]
    assert call == {"id": "toolu_1", "type": "custom", "custom": {"name": "patch", "input": "*** a\n"}}


async def test_the_text_of_such_a_tool_comes_whole_while_streaming() -> None:
    data = message_events(
        [
            {"type": "tool_use", "id": "toolu_1", "name": "patch", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"input":"a\\'},
            {"type": "input_json_delta", "partial_json": 'n"}'},
        ],
        end={"stop_reason": "tool_use"},
    )
    chunks = chat_stream(await all_of(chat_to_claude(chat(stream=True, tools=[CUSTOM])).stream(Upstream([data]))))
    calls = [found for item in chunks for found in item["choices"][0]["delta"].get("tool_calls", ())]
    assert calls[0]["custom"]["name"] == "patch"
    assert [json.dumps(found) for found in calls[1:]] == [json.dumps({"index": 0, "custom": {"input": "a\n"}})]


# Sending a call.


def call_of(request: Json, endpoint: Endpoint, **fields: object) -> Call:
    given = {"model": "alias", "requested_model": "m", "stream": bool(request.get("stream")), **fields}
    return msgspec.structs.replace(
        Call(endpoint=endpoint, body=json.dumps(request).encode(), model="alias", requested_model="m"), **given
    )


async def test_a_call_is_sent_in_the_provider_s_dialect_with_its_model() -> None:
    sent: list[Call] = []

    async def send(call: Call) -> Answer | Stream:
        sent.append(call)
        return Answer(200, b"application/json", json.dumps(completed()).encode(), usage=Usage(prompt_tokens=9))

    call = call_of(messages(top_k=3), Endpoint.MESSAGES, headers=((b"anthropic-beta", b"x"),), remove=("provider",))
    answer = await send_translated(send, call, endpoint=Endpoint.CHAT, provider=CHAT, target=Target(model=GPT))
    assert isinstance(answer, Answer)
    assert (sent[0].endpoint, sent[0].model, sent[0].requested_model) == (Endpoint.CHAT, GPT, GPT)
    assert (sent[0].headers, sent[0].remove) == ((), ())
    assert json.loads(sent[0].body)["model"] == GPT
    assert answer.dropped == ("top_k",)
    assert answer.usage == Usage(prompt_tokens=9)
    assert json.loads(answer.body)["content"] == [{"type": "text", "text": "Hi"}]


def completed() -> Json:
    return {**chunk(), "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Hi"}}]}


async def test_an_answer_that_names_no_model_is_that_of_the_one_asked_for() -> None:
    translation = claude_to_chat(messages(stream=True))
    nameless = {name: value for name, value in completed().items() if name != "model"}
    for model, told in ((nameless, GPT), ({**nameless, "model": ""}, GPT), ({**nameless, "model": "x"}, "x")):
        answer = translation.answer(Answer(200, b"application/json", json.dumps(model).encode()))
        assert json.loads(answer.body)["model"] == told
    for given, told in (("", GPT), ("x", "x")):
        events = sse(chunk({"content": "Hi"}, model=given), chunk(finish="stop", model=given), b"[DONE]")
        began = block_stream(await all_of(claude_to_chat(messages(stream=True)).stream(Upstream([events]))))[0]
        assert began["message"]["model"] == told


async def test_a_last_event_that_cannot_be_read_takes_nothing_from_a_whole_answer() -> None:
    events = sse(chunk({"content": "Hi"}), chunk(finish="stop"))
    stream = claude_to_chat(messages(stream=True)).stream(Upstream([events, b"data: {"]))
    assert block_stream(await all_of(stream))[-1]["type"] == "message_stop"
    assert stream.malformed_events == 1


async def test_a_stream_comes_back_translated() -> None:
    async def send(call: Call) -> Answer | Stream:
        assert call.stream
        assert not call.asked_usage
        return Upstream([text_stream()])

    call = call_of(chat(stream=True), Endpoint.CHAT, asked_usage=True)
    stream = await send_translated(
        send, call, endpoint=Endpoint.MESSAGES, provider=MESSAGES, target=Target(model=CLAUDE)
    )
    assert isinstance(stream, TranslatedStream)
    assert b"[DONE]" in await all_of(stream)


async def test_what_strict_insists_on_is_refused_before_anything_is_sent() -> None:
    async def send(call: Call) -> Answer | Stream:
        raise AssertionError(call)

    call = call_of(messages(top_k=3), Endpoint.MESSAGES, strict=True)
    with pytest.raises(InvalidRequest, match="top_k") as caught:
        await send_translated(send, call, endpoint=Endpoint.CHAT, provider=CHAT, target=Target(model=GPT))
    assert caught.value.param == "top_k"


@pytest.mark.parametrize(
    ("status", "error", "kind", "code"),
    [
        (400, {"type": "invalid_request_error", "message": "prompt is too long: 9"}, "invalid_request_error",
         "context_length_exceeded"),
        (413, {"type": "request_too_large", "message": "m"}, "request_too_large", None),
        (429, {"type": "rate_limit_error", "message": "m"}, "rate_limit_error", None),
        (529, {"type": "overloaded_error", "message": "m"}, "overloaded_error", None),
    ],
)  # fmt: skip
async def test_anthropic_s_errors_are_told_to_openai_callers(
    status: int, error: Json, kind: str, code: str | None
) -> None:
    body = json.dumps({"type": "error", "error": error}).encode()
    failure = UpstreamFailure(FailureKind.CALLER, "m", status=status, body=body)

    async def send(call: Call) -> Answer | Stream:
        raise failure

    call = call_of(chat(), Endpoint.CHAT)
    with pytest.raises(UpstreamFailure) as caught:
        await send_translated(send, call, endpoint=Endpoint.MESSAGES, provider=MESSAGES, target=Target(model=CLAUDE))
    assert caught.value.status == status
    found = json.loads(caught.value.body or b"")["error"]
    assert (found["type"], found["code"], found["message"]) == (kind, code, error["message"])


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"message": "m", "type": "invalid_request_error", "param": "stop"}, "invalid_request_error"),
        (401, {"message": "m", "type": "invalid_request_error", "code": "invalid_api_key"}, "authentication_error"),
        (403, {"message": "m"}, "permission_error"),
        (404, {"message": "m", "type": "invalid_request_error", "code": "model_not_found"}, "not_found_error"),
        (429, {"message": "m", "type": "insufficient_quota", "code": "insufficient_quota"}, "billing_error"),
        (429, {"message": "m", "type": "tokens", "code": "rate_limit_exceeded"}, "rate_limit_error"),
        (500, {"message": "m", "type": "server_error"}, "api_error"),
        (503, {"message": "m", "type": "server_error"}, "overloaded_error"),
        (504, {"message": "m"}, "timeout_error"),
    ],
)  # fmt: skip
def test_openai_s_errors_are_told_to_anthropic_callers(status: int, error: Json, kind: str) -> None:
    failure = UpstreamFailure(FailureKind.CALLER, "m", status=status, body=json.dumps({"error": error}).encode())
    told = json.loads(claude_to_chat(messages()).failure(failure).body or b"")
    assert told == {"type": "error", "error": {"type": kind, "message": "m"}}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": 5}', b"\xff\xfe"])
def test_an_error_body_of_no_dialect_still_is_an_error(body: bytes) -> None:
    for translation, path in ((claude_to_chat(messages()), "error"), (chat_to_claude(chat()), "error")):
        failure = translation.failure(UpstreamFailure(FailureKind.SERVER_ERROR, "m", status=500, body=body))
        assert json.loads(failure.body or b"")[path]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[{"message":null}]}',
        b'{"content":3}',
        b'{"choices":[{"message":{"tool_calls":[{}]}}]}',
    ],
)
def test_an_answer_that_is_none_is_malformed(body: bytes) -> None:
    for translation in (claude_to_chat(messages()), chat_to_claude(chat())):
        with pytest.raises(UpstreamFailure) as caught:
            translation.answer(Answer(200, b"application/json", body))
        assert caught.value.kind is FailureKind.MALFORMED
