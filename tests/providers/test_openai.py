"""The openai adapter against a strict upstream on a real socket, over the transport it chooses itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
import trio

from infermux.config.settings import ProviderSettings
from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.interface import Answer, Call, Endpoint, Usage
from infermux.providers.openai import make
from infermux.providers.ratelimits import Quota, Quotas
from infermux.secret import Secret
from tests._turns import within
from tests.mocks.openai_upstream import KEY, OpenAIUpstream, Reply
from tests.providers._both import cancelled_when_asked, inside_and_outside, over_both
from tests.providers._calls import MESSAGES, adapter, call, drained, failure, opened, whole

pytestmark = pytest.mark.slow


@over_both
async def test_a_body_that_needs_no_change_goes_on_byte_for_byte() -> None:
    async with OpenAIUpstream() as upstream:
        body = b'{ "messages": [{"role":"user","content":"h\\u00e9"}],\n"model" : "gpt-4o", "seed":1e2 }\n'
        answer = await whole(
            adapter(upstream), Call(endpoint=Endpoint.CHAT, body=body, model="gpt-4o", requested_model="gpt-4o")
        )
        assert upstream.requests[0].body == body
        assert upstream.requests[0].header("authorization") == f"Bearer {KEY}"
        assert upstream.requests[0].header("content-type") == "application/json"
        assert json.loads(answer.body)["choices"][0]["message"]["content"] == "Hello from the mock."
        assert answer.content_type == b"application/json"
        assert answer.usage == Usage(prompt_tokens=7, completion_tokens=5)


@inside_and_outside
async def test_alias_removed_members_and_extra_body_are_all_that_changes() -> None:
    async with OpenAIUpstream() as upstream:
        provider = adapter(upstream, extra_body={"temperature": 0.5, "seed": 1})
        await whole(provider, call(model="gpt-4o-mini", remove=("provider",), provider={"only": ["p"]}, seed=7))
        assert upstream.requests[0].json == {
            "model": "gpt-4o-mini",
            "messages": MESSAGES,
            "seed": 7,
            "temperature": 0.5,
        }


@inside_and_outside
async def test_a_request_without_a_model_gets_one() -> None:
    async with OpenAIUpstream() as upstream:
        body = json.dumps({"messages": MESSAGES}).encode()
        await whole(adapter(upstream), Call(endpoint=Endpoint.CHAT, body=body, model="gpt-4o", requested_model=None))
        assert upstream.requests[0].json["model"] == "gpt-4o"


@pytest.mark.parametrize("tail", ["", "/"])
async def test_the_base_urls_path_is_kept(tail: str) -> None:
    async with OpenAIUpstream(prefix="/openai/v1") as upstream:
        await whole(adapter(upstream, base_url=upstream.base_url + tail))
        assert upstream.requests[0].path == "/openai/v1/chat/completions"


async def test_headers_of_the_settings_are_sent_and_take_the_place_of_ours() -> None:
    async with OpenAIUpstream(keys=("sk-other",)) as upstream:
        headers = {"OpenAI-Organization": "org", "authorization": "Bearer sk-other"}
        await whole(adapter(upstream, headers=headers))
        assert upstream.requests[0].header("openai-organization") == "org"
        assert [value for name, value in upstream.requests[0].headers if name.lower() == "authorization"] == [
            "Bearer sk-other"
        ]


async def test_no_key_sends_no_authorization() -> None:
    async with OpenAIUpstream(keys=()) as upstream:
        await whole(adapter(upstream, key=None))
        assert upstream.requests[0].header("authorization") is None


@inside_and_outside
async def test_usage_of_a_stream_is_asked_for_and_hidden() -> None:
    async with OpenAIUpstream() as upstream:
        stream = await opened(adapter(upstream))
        body = await drained(stream)
        assert upstream.requests[0].json["stream_options"] == {"include_usage": True}
        assert b'"prompt_tokens"' not in body
        assert body.endswith(b"data: [DONE]\n\n")
        assert stream.usage == Usage(prompt_tokens=7, completion_tokens=5)


@inside_and_outside
async def test_usage_that_the_caller_asked_for_stays() -> None:
    async with OpenAIUpstream() as upstream:
        request = call(stream=True, asked_usage=True)
        stream = await adapter(upstream).send(request)
        assert not isinstance(stream, Answer)
        assert b'"prompt_tokens": 7' in await drained(stream)
        assert upstream.requests[0].body == request.body


@inside_and_outside
async def test_other_stream_options_of_the_caller_are_kept() -> None:
    async with OpenAIUpstream() as upstream:
        options = {"include_obfuscation": False, "include_usage": False}
        await drained(await opened(adapter(upstream), stream_options=options))
        assert upstream.requests[0].json["stream_options"] == {"include_obfuscation": False, "include_usage": True}


@inside_and_outside
async def test_a_provider_that_refuses_stream_options_is_remembered() -> None:
    async with OpenAIUpstream(stream_options=False) as upstream:
        provider = adapter(upstream)
        first = await opened(provider)
        assert b"[DONE]" in await drained(first)
        assert first.usage is None
        await drained(await opened(provider))
        assert ["stream_options" in request.json for request in upstream.requests] == [True, False, False]


async def test_two_streams_at_once_learn_that_stream_options_are_refused() -> None:
    async with OpenAIUpstream(stream_options=False) as upstream:
        provider = adapter(upstream)

        async def one() -> None:
            assert b"[DONE]" in await drained(await opened(provider))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            nursery.start_soon(one)


async def test_a_callers_own_refused_stream_options_are_its_own_error() -> None:
    async with OpenAIUpstream(stream_options=False) as upstream:
        refused = await failure(adapter(upstream), call(stream=True, asked_usage=True))
        assert refused.kind is FailureKind.CALLER
        assert len(upstream.requests) == 1


@over_both
async def test_the_connection_is_used_again_after_an_answer_an_error_and_a_stream() -> None:
    async with OpenAIUpstream() as upstream:
        provider = adapter(upstream)
        await whole(provider)
        await failure(provider, call(messages=[]))
        for _ in range(3):
            await drained(await opened(provider))
        assert upstream.connections == 1


@inside_and_outside
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(status=500), FailureKind.SERVER_ERROR),
        (Reply(status=529), FailureKind.SERVER_ERROR),
        (Reply(status=503, headers=(("Retry-After", "2"),)), FailureKind.SERVER_ERROR),
        (Reply(status=429, headers=(("retry-after-ms", "1500"),)), FailureKind.RATE_LIMITED),
        (Reply(status=408), FailureKind.TOTAL_TIMEOUT),
        (Reply(status=402), FailureKind.CREDENTIALS),
        (Reply(status=302, headers=(("Location", "http://127.0.0.1:1/"),), body=b""), FailureKind.MALFORMED),
        (Reply(body=b"<html>"), FailureKind.MALFORMED),
        (Reply(body=b"[]"), FailureKind.MALFORMED),
        (Reply(body=b'{"object":"chat.completion"}'), FailureKind.MALFORMED),
        (Reply(body=b'{"choices":{}}'), FailureKind.MALFORMED),
        (Reply(body=b'{"error":{"message":"busy","code":"rate_limit_exceeded"}}'), FailureKind.RATE_LIMITED),
        (Reply(body=b'{"error":{"message":"bad","code":503},"choices":[]}'), FailureKind.SERVER_ERROR),
        (Reply(reset=True), FailureKind.BROKEN),
        (Reply(cut_after=40), FailureKind.BROKEN),
        (Reply(reset_after=40), FailureKind.BROKEN),
    ],
)
async def test_what_an_upstream_does_wrong_is_a_failure_of_its_kind(reply: Reply, kind: FailureKind) -> None:
    async with OpenAIUpstream() as upstream:
        provider = adapter(upstream)
        upstream.script.append(reply)
        assert (await failure(provider)).kind is kind
        await whole(provider)


@inside_and_outside
@over_both
async def test_retry_after_is_read() -> None:
    async with OpenAIUpstream() as upstream:
        upstream.script.append(Reply(status=429, headers=(("Retry-After", "7"),)))
        assert (await failure(adapter(upstream))).retry_after == 7.0


@inside_and_outside
async def test_the_callers_errors_come_back_as_they_are() -> None:
    async with OpenAIUpstream() as upstream:
        refused = await failure(adapter(upstream), call(messages=[]))
        assert (refused.kind, refused.status) == (FailureKind.CALLER, 400)
        assert json.loads(refused.body or b"")["error"]["param"] == "messages"
        assert refused.content_type == b"application/json"


@inside_and_outside
async def test_a_missing_model_is_told_apart_from_a_wrong_path() -> None:
    async with OpenAIUpstream() as upstream:
        missing = await failure(adapter(upstream), call(model="gpt-9"))
        assert (missing.kind, missing.code) == (FailureKind.MODEL_NOT_FOUND, "model_not_found")
        wrong = await failure(adapter(upstream, base_url=upstream.origin + "/v7"))
        assert (wrong.kind, wrong.status) == (FailureKind.CALLER, 404)


@inside_and_outside
async def test_a_wrong_key_is_a_credentials_failure_that_does_not_show_it() -> None:
    async with OpenAIUpstream() as upstream:
        wrong = await failure(adapter(upstream, key="sk-canary-0123456789"))
        assert wrong.kind is FailureKind.CREDENTIALS
        assert wrong.code == "invalid_api_key"
        shown = f"{wrong!r} {wrong} {wrong.message} {wrong.body!r} {adapter(upstream, key='sk-canary-0123456789')!r}"
        assert "Incorrect API key provided: ***" in shown
        assert "canary" not in shown


async def test_a_long_error_body_is_cut() -> None:
    async with OpenAIUpstream() as upstream:
        upstream.script.append(Reply(status=400, body=b"x" * 1_000_000, content_type="text/plain"))
        refused = await failure(adapter(upstream))
        assert len(refused.body or b"") == 64 * 1024
        assert len(refused.message) < 600


@over_both
async def test_an_error_body_that_breaks_off_still_has_its_status() -> None:
    async with OpenAIUpstream() as upstream:
        upstream.script.append(Reply(status=500, body=b"x" * 1000, cut_after=10))
        assert (await failure(adapter(upstream))).kind is FailureKind.SERVER_ERROR


@inside_and_outside
@over_both
async def test_nobody_listening_is_a_connect_error() -> None:
    async with OpenAIUpstream() as upstream:
        provider = adapter(upstream)
    assert (await failure(provider)).kind is FailureKind.CONNECT


@inside_and_outside
@over_both
@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("how", ["cut_after", "reset_after"])
async def test_a_stream_that_breaks_has_no_clean_end(count: int, how: str) -> None:
    async with OpenAIUpstream() as upstream:
        fields: Mapping[str, Any] = {how: count}
        upstream.script.append(Reply(**fields))
        stream = await opened(adapter(upstream))
        with pytest.raises(UpstreamFailure) as caught:
            await drained(stream)
        assert caught.value.kind is FailureKind.BROKEN
        assert stream.has_content is (count > 0)


@over_both
@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_a_missing_done_after_a_finish_reason_is_added(framing: Any) -> None:
    async with OpenAIUpstream() as upstream:
        upstream.script.append(Reply(done=False, framing=framing))
        assert (await drained(await opened(adapter(upstream)))).endswith(b"data: [DONE]\n\n")


@inside_and_outside
async def test_an_end_without_a_finish_reason_is_broken() -> None:
    async with OpenAIUpstream() as upstream:
        upstream.script.append(Reply(done=False, finish=False))
        with pytest.raises(UpstreamFailure, match="finish reason"):
            await drained(await opened(adapter(upstream)))


@inside_and_outside
async def test_an_in_band_error_before_content_has_its_kind_and_after_it_is_broken() -> None:
    async with OpenAIUpstream() as upstream:
        provider = adapter(upstream)
        error = {"message": "slow down", "code": 429}
        for count, kind in ((0, FailureKind.RATE_LIMITED), (2, FailureKind.BROKEN)):
            upstream.script.append(Reply(error_after=count, error=error, interval=0.01))
            with pytest.raises(UpstreamFailure) as caught:
                await drained(await opened(provider))
            assert caught.value.kind is kind


@inside_and_outside
async def test_a_stream_that_is_answered_whole_is_malformed() -> None:
    async with OpenAIUpstream() as upstream:
        upstream.script.append(Reply(body=b'{"choices":[]}'))
        assert (await failure(adapter(upstream), call(stream=True))).kind is FailureKind.MALFORMED
        upstream.script.append(Reply(body=b'{"error":{"message":"full","code":503}}'))
        assert (await failure(adapter(upstream), call(stream=True))).kind is FailureKind.SERVER_ERROR


@inside_and_outside
@over_both
async def test_leaving_a_stream_closes_the_upstream_request() -> None:
    async with OpenAIUpstream() as upstream:
        upstream.script.append(Reply(endless=True, interval=0.005))
        stream = await opened(adapter(upstream))
        await stream.receive()
        stream.close()
        async with within(0.1):
            await upstream.wait_idle()
        assert upstream.requests[0].closed_at is not None


@inside_and_outside
@over_both
async def test_cancelling_a_silent_call_closes_it() -> None:
    async with OpenAIUpstream() as upstream:
        upstream.script.append(Reply(hang=True))
        provider = adapter(upstream)
        await cancelled_when_asked(provider, call(), upstream.requests)
        with trio.fail_after(30):
            await upstream.wait_idle()
        assert upstream.requests[0].closed_at is not None


@over_both
async def test_the_settings_choose_the_way_out(transport: str) -> None:
    async with OpenAIUpstream() as upstream:
        assert adapter(upstream).transport == transport


async def test_what_it_says_of_itself() -> None:
    async with OpenAIUpstream() as upstream:
        provider = adapter(upstream)
        assert provider.transport == "express"
        assert provider.endpoints >= {Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS, Endpoint.RESPONSES}
        await provider.aclose()
        assert (await failure(provider)).kind is FailureKind.CONNECT


def test_the_default_address_is_openais() -> None:
    provider = make(ProviderSettings(name="p", type="openai"), environ={})
    assert repr(provider) == "OpenAI('p', 'https://api.openai.com/v1', express)"


async def test_a_key_of_the_call_goes_in_the_place_of_the_settings_and_both_kinds_of_heads_are_kept() -> None:
    async with OpenAIUpstream(keys=["one", "two"], any_model=True) as upstream:
        provider = adapter(upstream, key="one")
        for key in (None, Secret("two"), Secret("two"), None):
            await whole(provider, msgspec.structs.replace(call(), key=key))
        assert [request.header("authorization") for request in upstream.requests] == [
            "Bearer one",
            "Bearer two",
            "Bearer two",
            "Bearer one",
        ]
        assert "two" not in repr(vars(provider))


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_head_says_of_limits_is_told_at_once(stream: bool) -> None:
    headers = (
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "1s"),
    )
    async with OpenAIUpstream() as upstream:
        upstream.script.extend([Reply(headers=headers), Reply(status=429, headers=headers)])
        provider, heard = adapter(upstream), list[Quotas]()
        asked = msgspec.structs.replace(call(stream=stream), heard=heard.append)
        if stream:
            answer = await provider.send(asked)
            assert not isinstance(answer, Answer)
            await drained(answer)
        else:
            await whole(provider, asked)
        assert (await failure(provider, asked)).kind is FailureKind.RATE_LIMITED
        assert heard == [Quotas(Quota(59, 1.0, 60))] * 2
