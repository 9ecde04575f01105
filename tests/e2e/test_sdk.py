"""What a caller with the official SDK sees, by both ways in."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import openai
import pytest
import trio

from tests._turns import within
from tests.e2e._router import EITHER_WAY, HELLO, SAID, in_order, provider, refused_url, routing, until
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("way", EITHER_WAY)]


async def test_a_chat_is_answered(way: str) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), way=way) as router, router.sdk() as sdk:
        answer = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
        assert answer.choices[0].message.content == SAID
        assert answer.usage is not None
        assert answer.usage.total_tokens == 12
        assert upstream.chats[0].json == {"model": "gpt-4o", "messages": HELLO}


async def test_a_stream_is_answered_and_its_usage_hidden(way: str) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), way=way) as router, router.sdk() as sdk:
        stream = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SAID
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert all(chunk.usage is None for chunk in chunks)
        assert upstream.chats[0].json["stream_options"] == {"include_usage": True}


async def test_a_stream_carries_the_usage_that_was_asked_for(way: str) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), way=way) as router, router.sdk() as sdk:
        stream = await sdk.chat.completions.create(
            model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == 12


async def test_the_synchronous_sdk_is_answered_whole_and_streamed(way: str) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), way=way) as router:

        def talk() -> tuple[str | None, str]:
            with router.sync_sdk() as sdk:
                whole = sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
                stream = sdk.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
                said = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
                return whole.choices[0].message.content, said

        assert await trio.to_thread.run_sync(talk) == (SAID, SAID)


async def test_the_headers_of_a_whole_answer_say_who_answered(way: str) -> None:
    pricing = {"good": {"gpt-4o": {"input_per_million": 1.0, "output_per_million": 2.0}}}
    async with (
        OpenAIUpstream() as upstream,
        routing(
            provider("dead", refused_url()),
            provider("good", upstream),
            way=way,
            routing=in_order(groups=[{"name": "big", "models": ["gpt-4o"]}]),
            pricing=pricing,
        ) as router,
        router.sdk() as sdk,
    ):
        raw = await sdk.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=HELLO, extra_headers={"X-Request-Id": "mine-1"}
        )
        assert raw.headers["x-request-id"] == "mine-1"
        assert raw.headers["x-infermux-provider"] == "good"
        assert raw.headers["x-infermux-model"] == "gpt-4o"
        assert raw.headers["x-infermux-strategy"] == "priority"
        assert raw.headers["x-infermux-route-group"] == "big"
        assert raw.headers["x-infermux-attempts"] == "2"
        assert raw.headers["x-infermux-latency-ms"].isdigit()
        assert raw.headers["x-infermux-prompt-tokens"] == "7"
        assert raw.headers["x-infermux-completion-tokens"] == "5"
        assert float(raw.headers["x-infermux-cost"]) == pytest.approx((7 * 1.0 + 5 * 2.0) / 1e6)


async def test_the_headers_of_a_stream_say_who_answers(way: str) -> None:
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("dead", refused_url()), provider("good", upstream), way=way, routing=in_order()) as router,
        router.web.stream(
            "POST", "/v1/chat/completions", json={"model": "gpt-4o", "messages": HELLO, "stream": True}
        ) as answer,
    ):
        assert answer.headers["x-infermux-provider"] == "good"
        assert answer.headers["x-infermux-attempts"] == "2"
        assert answer.headers["x-request-id"].startswith("req-")
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        assert "x-infermux-cost" not in answer.headers
        assert (await answer.aread()).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_the_callers_own_errors_come_back_as_the_provider_wrote_them(way: str, status: int) -> None:
    body = json.dumps(
        {"error": {"message": "no", "type": "invalid_request_error", "param": "x", "code": "odd"}}
    ).encode()
    async with (
        OpenAIUpstream() as upstream,
        OpenAIUpstream() as other,
        routing(provider("one", upstream), provider("two", other), way=way, routing=in_order()) as router,
        router.sdk() as sdk,
    ):
        upstream.script.append(Reply(status=status, body=body))
        with pytest.raises(openai.APIStatusError) as caught:
            await sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
        assert caught.value.status_code == status
        assert caught.value.response.content == body
        assert caught.value.response.headers["x-infermux-provider"] == "one"
        assert other.chats == []


async def test_our_own_refused_credentials_are_not_the_callers_401(way: str) -> None:
    async with (
        OpenAIUpstream(keys=["another"]) as upstream,
        routing(provider("one", upstream), way=way) as router,
        router.sdk() as sdk,
    ):
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
        assert caught.value.status_code == 502
        assert "401" in caught.value.message


async def test_refused_credentials_are_replaced_by_another_provider(way: str) -> None:
    async with (
        OpenAIUpstream(keys=["another"]) as upstream,
        OpenAIUpstream() as good,
        routing(provider("one", upstream), provider("two", good), way=way, routing=in_order()) as router,
    ):
        assert (await router.chat()).headers["x-infermux-provider"] == "two"


async def test_a_malformed_request_is_refused_with_the_field_named(way: str) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), way=way) as router, router.sdk() as sdk:
        messages: Any = "Hello"
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk.chat.completions.create(model="gpt-4o", messages=messages)
        assert (caught.value.code, caught.value.param) == ("invalid_request", "messages")
        for content in (b"{", b"[]", b"", b"\xff\xfe", b'{"model": "gpt-4o"}', b"null"):
            refused = await router.web.post(
                "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
            )
            assert refused.status_code == 400, content
            assert refused.headers["x-infermux-error"] == "invalid_request"
        assert upstream.chats == []


async def test_unknown_models_paths_and_methods_are_named(way: str) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), way=way) as router, router.sdk() as sdk:
        with pytest.raises(openai.NotFoundError) as caught:
            await sdk.chat.completions.create(model="nobody-has-it", messages=HELLO)
        assert caught.value.code == "model_not_found"
        cases = [
            ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
            ("DELETE", "/v1/models", 405, "method_not_allowed"),
            ("POST", "/v1/nothing", 404, "not_found"),
            ("GET", "/", 404, "not_found"),
        ]
        for method, path, status, code in cases:
            answer = await router.web.request(method, path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        wrong = await router.web.post("/v1/chat/completions", content=b"{}", headers={"content-type": "text/plain"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (415, "unsupported_media_type")


async def test_models_are_listed_and_retrieved(way: str) -> None:
    async with (
        OpenAIUpstream() as upstream,
        routing(
            provider("one", upstream, models=["gpt-4o", "org/model"], model_aliases={"smart": "gpt-4o"}), way=way
        ) as router,
        router.sdk() as sdk,
    ):
        assert [model.id async for model in sdk.models.list()] == ["gpt-4o", "org/model", "smart"]
        assert (await sdk.models.retrieve("org/model")).id == "org/model"
        assert (await sdk.models.retrieve("smart")).owned_by == "one"
        with pytest.raises(openai.NotFoundError):
            await sdk.models.retrieve("nobody-has-it")


async def test_the_callers_own_time_limit_is_kept(way: str) -> None:
    async with (
        OpenAIUpstream(default=Reply(hang=True)) as upstream,
        routing(provider("one", upstream), way=way) as router,
    ):
        started = trio.current_time()
        async with within(1):
            answer = await router.chat(headers={"X-Infermux-Timeout": "200ms"})
        assert trio.current_time() - started >= 0.2
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
        wrong = await router.chat(headers={"X-Infermux-Timeout": "soon"})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "X-Infermux-Timeout")
        assert "must be a duration such as" in wrong.json()["error"]["message"]


async def test_upstreams_are_closed_at_once_when_the_caller_leaves_before_the_first_token(way: str) -> None:
    async with (
        OpenAIUpstream(default=Reply(hang=True)) as upstream,
        routing(provider("one", upstream), way=way) as router,
    ):
        for stream in (False, True):
            await _leave(partial(router.chat, stream=stream), upstream)
            async with within(0.1):
                await until(lambda: upstream.chats[-1].closed_at is not None)
            await router.wait_settled()


async def _leave(ask: Any, upstream: OpenAIUpstream) -> None:
    """Ask, and leave once the request is at the upstream."""
    seen = len(upstream.chats)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await until(lambda: len(upstream.chats) > seen)
        await trio.sleep(0.05)
        nursery.cancel_scope.cancel()


async def test_upstreams_are_closed_at_once_when_the_caller_leaves_in_the_middle(way: str) -> None:
    default = Reply(endless=True, interval=0.02)
    async with (
        OpenAIUpstream(default=default) as upstream,
        routing(provider("one", upstream), way=way) as router,
        router.sdk() as sdk,
    ):
        stream = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
        count = 0
        async for _ in stream:
            count += 1
            if count == 5:
                break
        assert (await router.status())["providers"][0]["in_flight"] == 1
        await stream.close()
        async with within(0.1):
            await until(lambda: upstream.chats[-1].closed_at is not None)
        await router.wait_settled()
