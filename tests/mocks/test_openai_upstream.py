"""The mock upstream is itself right: the official SDK is content with it, and it refuses what the real APIs refuse."""

from __future__ import annotations

import json
import typing
from typing import Any

import httpx
import openai
import pytest
import trio
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

from tests.mocks.openai_rules import TOP_LEVEL, Refusal, check_chat, decode
from tests.mocks.openai_upstream import KEY, OpenAIUpstream, Reply

MESSAGES: Any = [{"role": "user", "content": "hi"}]


def test_the_known_parameters_are_those_of_the_sdk() -> None:
    assert set(typing.get_type_hints(CompletionCreateParamsStreaming)) <= TOP_LEVEL


@pytest.mark.slow
async def test_the_official_sdk_is_content_with_it() -> None:
    async with OpenAIUpstream() as upstream:

        def talk() -> None:
            with openai.OpenAI(api_key=KEY, base_url=upstream.base_url, max_retries=0) as client:
                whole = client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
                assert whole.choices[0].message.content == "Hello from the mock."
                options: Any = {"include_usage": True}
                chunks = client.chat.completions.create(
                    model="gpt-4o", messages=MESSAGES, stream=True, stream_options=options
                )
                last = list(chunks)[-1]
                assert last.usage is not None
                assert last.usage.total_tokens == 12
                with pytest.raises(openai.NotFoundError, match="does not exist"):
                    client.chat.completions.create(model="gpt-9", messages=MESSAGES)
                assert [model.id for model in client.models.list()] == list(upstream.models)

        await trio.to_thread.run_sync(talk)
        assert upstream.in_flight == 0
        assert all(request.finished_at for request in upstream.requests)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Authorization": ""}, {}, 401),
        ({"Authorization": "Bearer nope"}, {}, 401),
        ({"Content-Type": "text/plain"}, {}, 400),
        ({"Host": "elsewhere"}, {}, 400),
        ({}, {"unknown": 1}, 400),
        ({}, {"messages": []}, 400),
        ({}, {"model": "gpt-9"}, 404),
        ({}, {"stream_options": {"include_usage": True}}, 400),
        ({}, {}, 200),
    ],
)
async def test_bad_requests_are_refused(headers: dict[str, str], body: dict[str, Any], status: int) -> None:
    async with OpenAIUpstream() as upstream, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(
            upstream.base_url + "/chat/completions",
            headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **headers},
            content=json.dumps({"model": "gpt-4o", "messages": MESSAGES, **body}),
        )
        assert answer.status_code == status
        assert answer.headers["x-request-id"].startswith("req_mock_")
        assert (status == 200) is ("error" not in answer.json())


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"messages": MESSAGES}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "messages": ["hi"]}, "messages[0]"),
        ({"model": "m", "messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"model": "m", "messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"model": "m", "messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"model": "m", "messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[0].role"),
        (
            {"model": "m", "messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}, *MESSAGES]},
            "messages[1].role",
        ),
        ({"model": "m", "messages": MESSAGES, "max_tokens": "1"}, "max_tokens"),
        ({"model": "m", "messages": MESSAGES, "max_tokens": 0}, "max_tokens"),
        ({"model": "m", "messages": MESSAGES, "n": True}, "n"),
    ],
)
def test_each_rule_names_its_parameter(request_: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as caught:
        check_chat(request_)
    assert caught.value.param == param


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"a":1,"a":2}', b"\xff"])
def test_bodies_that_are_no_plain_object_are_refused(body: bytes) -> None:
    with pytest.raises(Refusal):
        decode(body)


@pytest.mark.slow
async def test_a_caller_that_leaves_is_seen_and_timed() -> None:
    async with OpenAIUpstream(default=Reply(endless=True, interval=0.005)) as upstream:
        body = json.dumps({"model": "gpt-4o", "messages": MESSAGES, "stream": True})
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{upstream.port}\r\nAuthorization: Bearer {KEY}\r\n"
        )
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        stream = await trio.open_tcp_stream("127.0.0.1", upstream.port)
        await stream.send_all((head + body).encode())
        await stream.receive_some()
        assert (upstream.in_flight, upstream.peak, upstream.open_connections) == (1, 1, 1)
        await stream.aclose()
        with trio.fail_after(30):
            await upstream.wait_idle()
        assert upstream.requests[0].closed_at is not None
        assert upstream.requests[0].finished_at is None
