"""Processes of Infinity's line protocol, behind the adapter, for callers of every dialect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from infermux.config.settings import ProbeMethod
from infermux.errors import FailureKind, NotCarried, UpstreamFailure
from infermux.providers.interface import Answer, Call, Endpoint, ModelInfo, Usage
from infermux.providers.process.adapter import Process
from tests._turns import within
from tests.mocks.infinity_provider import FINAL, InfinityProvider
from tests.providers.process._scripted import Scripted, drained, saying, scripted
from tests.providers.process._served import process

pytestmark = pytest.mark.slow

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = {
    "ToolCall": {
        "id": "t1",
        "internal_call_id": "i1",
        "call_id": None,
        "name": "look",
        "arguments": {"at": "it"},
        "signature": None,
        "additional_params": None,
    }
}


def adapter(nursery: trio.Nursery, tmp_path: Path, mock: InfinityProvider) -> Process:
    return process(mock.listen(nursery, tmp_path / "i.sock"))


def chat(content: Any = "hi", *, stream: bool = False, messages: list[Any] | None = None, **fields: Any) -> Call:
    body = {"model": "large", "messages": messages or [{"role": "user", "content": content}], "stream": stream}
    encoded = json.dumps({**body, **fields}).encode()
    return Call(endpoint=Endpoint.CHAT, body=encoded, model="large", requested_model="large", stream=stream)


async def answered(provider: Process, request: Call) -> dict[str, Any]:
    answer = await provider.send(request)
    assert isinstance(answer, Answer)
    found: dict[str, Any] = json.loads(answer.body)
    return found


async def test_it_is_found_out_by_listing_its_models(nursery: trio.Nursery, tmp_path: Path) -> None:
    mock = InfinityProvider()
    provider = adapter(nursery, tmp_path, mock)
    await provider.probe(ProbeMethod.MODELS, None)
    assert [line if isinstance(line, str) else line["type"] for line in mock.lines] == [
        "hello",
        "ListModels",
        "ListModels",
    ]
    assert provider.described == (
        ModelInfo(id="large", name="Large", context_window=200_000, max_output_tokens=8192, images=True),
        ModelInfo(id="plain", name="Large", context_window=200_000, images=False),
    )
    assert provider.endpoints >= {Endpoint.CHAT, Endpoint.MESSAGES, Endpoint.RESPONSES}


async def test_a_conversation_is_written_in_its_shapes(nursery: trio.Nursery, tmp_path: Path) -> None:
    mock = InfinityProvider()
    provider = adapter(nursery, tmp_path, mock)
    call = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"at":"it"}'}}
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [
            {"type": "text", "text": "what is this"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            {"type": "image_url", "image_url": {"url": "https://e.example/x.jpg"}},
        ]},
        {"role": "assistant", "content": "let me see", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t1", "content": "a cat"},
    ]  # fmt: skip
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    request = chat(
        messages=messages,
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "look"}},
        temperature=0.5,
        max_tokens=100,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
    )
    await answered(provider, request)
    assert mock.requests == [{
        "model_id": "large",
        "request": {
            "model": None,
            "preamble": "be brief",
            "chat_history": [
                {"role": "user", "content": [
                    {"type": "text", "text": "what is this"},
                    {"type": "image", "data": {"type": "base64", "value": "aGk="}, "media_type": "png"},
                    {"type": "image", "data": {"type": "url", "value": "https://e.example/x.jpg"}},
                ]},
                {"role": "assistant", "id": None, "content": [
                    {"text": "let me see"},
                    {"id": "t1", "call_id": None, "function": {"name": "look", "arguments": {"at": "it"}},
                     "signature": None, "additional_params": None},
                ]},
                {"role": "user", "content": [
                    {"type": "toolresult", "id": "t1", "content": [{"type": "text", "text": "a cat"}]},
                ]},
            ],
            "documents": [],
            "tools": [{"name": "look", "description": "", "parameters": {"type": "object"}}],
            "temperature": 0.5,
            "max_tokens": 100,
            "tool_choice": {"specific": {"function_names": ["look"]}},
            "additional_params": None,
            "output_schema": schema,
        },
    }]  # fmt: skip


async def test_what_has_no_place_is_named_or_refused(nursery: trio.Nursery, tmp_path: Path) -> None:
    mock = InfinityProvider()
    provider = adapter(nursery, tmp_path, mock)
    answer = await provider.send(
        chat(stop=["x"], top_p=0.5, user="u", reasoning_effort="low", additional_params={"thinking": {"a": 1}})
    )
    assert answer.dropped == ("stop", "top_p", "reasoning", "user")
    assert mock.requests[0]["request"]["additional_params"] == {"thinking": {"a": 1}}
    audio = [{"type": "file", "file": {"filename": "x.pdf", "file_data": "data:application/pdf;base64,aGk="}}]
    with pytest.raises(NotCarried, match="a document that is no plain text"):
        await provider.send(chat(audio))


async def test_a_text_document_stands_in_its_message(nursery: trio.Nursery, tmp_path: Path) -> None:
    mock = InfinityProvider()
    provider = adapter(nursery, tmp_path, mock)
    document = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "D"}}
    body = {"model": "large", "max_tokens": 9, "messages": [{"role": "user", "content": [document]}]}
    answer = await provider.send(
        Call(endpoint=Endpoint.MESSAGES, body=json.dumps(body).encode(), model="large", requested_model="large")
    )
    assert "messages.content(documents as text)" in answer.dropped
    (item,) = mock.requests[0]["request"]["chat_history"][0]["content"]
    assert item == {"type": "text", "text": "<document>\nT\nD\n</document>"}


async def test_text_comes_as_text_with_its_usage(nursery: trio.Nursery, tmp_path: Path) -> None:
    mock = InfinityProvider()
    provider = adapter(nursery, tmp_path, mock)
    mock.script += [[{"Message": "hel"}, {"Message": "lo"}, FINAL]] * 2
    body = await answered(provider, chat())
    assert body["choices"][0]["message"]["content"] == "hello"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["model"] == "large"
    stream = await provider.send(chat(stream=True))
    assert not isinstance(stream, Answer)
    received = await drained(stream)
    assert received.count(b'"content":"') == 3  # with the role, "hel", "lo"
    assert received.endswith(b"data: [DONE]\n\n")
    assert stream.usage == Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=2)


async def test_a_completed_call_counts_and_its_deltas_are_for_display(nursery: trio.Nursery, tmp_path: Path) -> None:
    mock = InfinityProvider()
    provider = adapter(nursery, tmp_path, mock)
    deltas = [
        {"ToolCallDelta": {"id": "t1", "internal_call_id": "i1", "content": {"Name": "look"}}},
        {"ToolCallDelta": {"id": "t1", "internal_call_id": "i1", "content": {"Delta": '{"at": "som'}}},
    ]
    mock.script += [[*deltas, CALL, FINAL], [CALL, FINAL]]
    for _ in range(2):
        body = await answered(provider, chat(tools=[TOOL]))
        (made,) = body["choices"][0]["message"]["tool_calls"]
        assert (made["id"], made["function"]) == ("t1", {"name": "look", "arguments": '{"at":"it"}'})
        assert body["choices"][0]["finish_reason"] == "tool_calls"


async def test_thinking_goes_to_those_who_can_take_it_and_comes_back_signed(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    mock = InfinityProvider()
    provider = adapter(nursery, tmp_path, mock)
    whole = {"Reasoning": {"id": None, "content": {"type": "text", "content": {"text": "hmm", "signature": "sig"}}}}
    mock.script.append([{"ReasoningDelta": {"id": None, "reasoning": "hm"}}, whole, CALL, FINAL])
    body: dict[str, Any] = {"model": "large", "max_tokens": 99, "messages": [{"role": "user", "content": "hi"}]}
    body["tools"] = [{"name": "look", "input_schema": {"type": "object"}}]

    def messages() -> Call:
        encoded = json.dumps(body).encode()
        return Call(endpoint=Endpoint.MESSAGES, body=encoded, model="large", requested_model="large")

    said = await answered(provider, messages())
    assert said["content"][0] == {"type": "thinking", "thinking": "hmm", "signature": "sig"}
    body["messages"] += [
        {"role": "assistant", "content": said["content"]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "x", "is_error": True}]},
    ]
    answer = await provider.send(messages())
    assert answer.dropped == ("tool_result.is_error",)
    assert mock.requests[1]["request"]["chat_history"][1]["content"][0] == {
        "id": None,
        "content": [{"type": "text", "content": {"text": "hmm", "signature": "sig"}}],
    }


async def test_an_error_that_the_answer_goes_on_after_does_not_end_it(nursery: trio.Nursery, tmp_path: Path) -> None:
    mock = InfinityProvider()
    provider = adapter(nursery, tmp_path, mock)
    mock.script.append([{"Message": "hel"}, {"Error": "a hiccup"}, {"Message": "lo"}, FINAL])
    body = await answered(provider, chat())
    assert body["choices"][0]["message"]["content"] == "hello"


@pytest.mark.parametrize(
    ("script", "kind", "what"),
    [
        ([{"Error": "ThrottlingException: slow down"}], FailureKind.RATE_LIMITED, "slow down"),
        ([{"Error": "it is gone"}], FailureKind.SERVER_ERROR, "it is gone"),
        ([{"Message": "x"}, {"Error": "it is gone"}], FailureKind.BROKEN, "it is gone"),
        ([], FailureKind.BROKEN, "without any content"),
        ([{"Message": "x"}, InfinityProvider.CUT], FailureKind.BROKEN, "broke off: it closed the connection"),
        ("Input is too long for requested model.", FailureKind.CALLER, "too long"),
        ("AccessDeniedException: no", FailureKind.CREDENTIALS, "AccessDenied"),
        ("something else", FailureKind.SERVER_ERROR, "something else"),
        ({"message": "no room", "class": "ContextOverflow"}, FailureKind.CALLER, "no room"),
        ({"message": "later", "class": "Transient"}, FailureKind.SERVER_ERROR, "later"),
        ({"message": "slower", "class": "Throttled"}, FailureKind.RATE_LIMITED, "slower"),
        ({"message": "no", "class": "Fatal"}, FailureKind.CALLER, "no"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_goes_wrong_is_a_failure_of_its_kind(
    nursery: trio.Nursery, tmp_path: Path, script: Any, kind: FailureKind, what: str, *, stream: bool
) -> None:
    mock = InfinityProvider()
    provider = adapter(nursery, tmp_path, mock)
    mock.script.append(script)
    with pytest.raises(UpstreamFailure, match=what) as caught:  # noqa: PT012 - whichever call it is
        answer = await provider.send(chat(stream=stream))
        assert not isinstance(answer, Answer)
        await drained(answer)
    assert caught.value.kind is kind
    if "room" in what or what == "too long":
        assert caught.value.code == "context_length_exceeded"


async def test_the_later_generation_is_read_too(nursery: trio.Nursery, tmp_path: Path) -> None:
    mock = InfinityProvider()
    provider = adapter(nursery, tmp_path, mock)
    call = {"id": "t1", "function": {"name": "look", "arguments": {"at": "it"}}}
    thought = {"id": None, "content": [{"type": "text", "content": {"text": "hm"}}]}
    items = [{"ReasoningDelta": {"id": None, "text": "hm"}}, {"Reasoning": thought}, {"Text": "hi"}, {"ToolCall": call}]
    mock.script.append([*({"Ok": item} for item in items), {"Ok": FINAL}])
    message = (await answered(provider, chat(tools=[TOOL])))["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("hi", "hm")
    assert message["tool_calls"][0]["function"]["arguments"] == '{"at":"it"}'
    mock.script.append([{"Err": {"message": "slow", "class": "Throttled"}}])
    with pytest.raises(UpstreamFailure) as caught:
        await provider.send(chat())
    assert caught.value.kind is FailureKind.RATE_LIMITED


async def test_leaving_closes_the_connection(nursery: trio.Nursery, tmp_path: Path) -> None:
    mock = InfinityProvider()
    provider = adapter(nursery, tmp_path, mock)
    mock.script.append([{"Message": "x"}, "HANG"])
    stream = await provider.send(chat(stream=True))
    assert not isinstance(stream, Answer)
    assert b"x" in (await stream.receive() or b"")
    stream.close()
    async with within(0.1):
        await mock.left.wait()


async def test_a_process_that_speaks_neither_is_told_so(nursery: trio.Nursery, tmp_path: Path) -> None:
    mute = Scripted(saying(b"what?\n"), hello=b"who is there\n")
    provider, _ = await scripted(nursery, tmp_path, mute)
    with pytest.raises(UpstreamFailure, match="speaks no protocol of infermux: it answered `hello` with something"):
        await provider.send(chat())


async def test_a_whole_answer_without_an_end_is_cut_at_the_limit(
    nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infermux.providers.process.adapter.BODY_LIMIT", 2000)
    mock = InfinityProvider()
    mock.script.append([{"Message": "x" * 100}] * 1000)
    with pytest.raises(UpstreamFailure, match="over 2000 bytes") as caught:
        await adapter(nursery, tmp_path, mock).send(chat())
    assert caught.value.kind is FailureKind.MALFORMED
    with trio.fail_after(30):
        await mock.left.wait()
