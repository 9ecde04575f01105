"""The anthropic adapter against a strict upstream on a real socket, over the transport it chooses itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import trio

from infermux.config.settings import ProbeMethod, ProviderSettings
from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.anthropic import make
from infermux.providers.interface import Endpoint, Usage
from infermux.providers.ratelimits import Quotas
from infermux.secret import Secret
from tests.mocks.anthropic_upstream import KEY, MODELS, AnthropicUpstream, Recorded, Reply, betas_of
from tests.mocks.anthropic_upstream import Usage as MockUsage
from tests.providers._both import cancelled_when_asked, inside_and_outside, over_both
from tests.providers._messages import MESSAGES, MODEL, adapter, call, chat, drained, failure, opened, whole, written

pytestmark = pytest.mark.slow


async def test_a_body_that_needs_no_change_goes_on_byte_for_byte() -> None:
    async with AnthropicUpstream() as upstream:
        body = (
            b'{ "max_tokens":6e1, "messages": [{"role":"user","content":[{"type":"text","text":"h\\u00e9",'
            b'"cache_control":{"type":"ephemeral","ttl":"1h"}}]}],\n"model" : "claude-haiku-4-5" }\n'
        ).replace(b"6e1", b"60")
        answer = await whole(adapter(upstream), written(body))
        assert upstream.requests[0].body == body
        assert upstream.requests[0].header("x-api-key") == KEY
        assert upstream.requests[0].header("anthropic-version") == "2023-06-01"
        assert json.loads(answer.body)["content"] == [{"type": "text", "text": "Hello from the mock."}]
        assert answer.dropped == ()


@inside_and_outside
@over_both
async def test_unknown_fields_and_betas_go_on_as_they_came() -> None:
    async with AnthropicUpstream() as upstream:
        body = (
            b'{"model":"claude-haiku-4-5","max_tokens":9,"messages":[{"role":"user","content":"x"}],'
            b'"context_management":{"edits":[{"type":"clear_tool_uses_20250919","of_the_future":1.50}]}}'
        )
        betas = ((b"anthropic-beta", b"context-management-2025-06-27"), (b"anthropic-beta", b"another"))
        headers = (*betas, (b"anthropic-version", b"2023-06-01"))
        await whole(adapter(upstream), msgspec.structs.replace(written(body), headers=headers))
        assert upstream.requests[0].body == body
        assert betas_of(upstream.requests[0]) == ["context-management-2025-06-27", "another"]


@pytest.mark.parametrize("endpoint", [Endpoint.MESSAGES, Endpoint.CHAT])
async def test_a_place_in_a_trace_goes_on_also_with_a_translation(endpoint: Endpoint) -> None:
    async with AnthropicUpstream() as upstream:
        body = b'{"model":"claude-haiku-4-5","max_tokens":9,"messages":[{"role":"user","content":"x"}]}'
        headers = ((b"traceparent", b"00-1-2-01"), (b"tracestate", b"a=1"))
        await whole(adapter(upstream), msgspec.structs.replace(written(body, endpoint=endpoint), headers=headers))
        sent = upstream.requests[0]
        assert (sent.header("traceparent"), sent.header("tracestate")) == ("00-1-2-01", "a=1")
        assert versions_of(sent) == ["2023-06-01"]


def versions_of(request: Recorded) -> list[str]:
    return [value for name, value in request.headers if name.lower() == "anthropic-version"]


@pytest.mark.parametrize("endpoint", [Endpoint.MESSAGES, Endpoint.COUNT_TOKENS])
async def test_a_callers_version_goes_on_with_the_body_that_is_written_for_it(endpoint: Endpoint) -> None:
    async with AnthropicUpstream() as upstream:
        body = b'{"model":"claude-haiku-4-5","messages":[{"role":"user","content":"x"}]'
        body += b',"max_tokens":9}' if endpoint is Endpoint.MESSAGES else b"}"
        headers = ((b"anthropic-version", b"2026-10-21"), (b"anthropic-beta", b"one"))
        await whole(adapter(upstream), msgspec.structs.replace(written(body, endpoint=endpoint), headers=headers))
        assert versions_of(upstream.requests[0]) == ["2026-10-21"]


async def test_our_own_requests_and_translations_are_of_the_version_they_are_written_for() -> None:
    async with AnthropicUpstream() as upstream:
        provider = adapter(upstream)
        later = ((b"anthropic-version", b"2026-10-21"),)
        await whole(provider, msgspec.structs.replace(chat(temperature=0.5), headers=later))
        await provider.probe(ProbeMethod.GENERATE, MODEL)
        await provider.list_models()
        assert {version for request in upstream.requests for version in versions_of(request)} == {"2023-06-01"}


async def test_a_version_of_the_settings_is_the_only_one() -> None:
    async with AnthropicUpstream() as upstream:
        provider = adapter(upstream, headers={"Anthropic-Version": "2026-10-21"})
        await whole(provider)
        await whole(provider, msgspec.structs.replace(call(), headers=((b"anthropic-version", b"2023-06-01"),)))
        assert [versions_of(request) for request in upstream.requests] == [["2026-10-21"], ["2026-10-21"]]


async def test_a_whole_answer_comes_back_byte_for_byte() -> None:
    async with AnthropicUpstream() as upstream:
        body = b'{ "content":[],"stop_reason":"end_turn" , "usage":{"input_tokens":1,"output_tokens":2},"new":1e0 }\n'
        upstream.script.append(Reply(body=body))
        answer = await whole(adapter(upstream))
        assert answer.body == body
        assert answer.usage == Usage(prompt_tokens=1, completion_tokens=2)


async def test_alias_removed_members_and_extra_body_are_all_that_changes() -> None:
    async with AnthropicUpstream() as upstream:
        provider = adapter(upstream, extra_body={"temperature": 0.5, "top_k": 1})
        await whole(provider, call(model=MODELS[1], remove=("provider",), provider={"only": ["p"]}, top_k=7))
        assert upstream.requests[0].json == {
            "model": MODELS[1],
            "max_tokens": 64,
            "messages": MESSAGES,
            "top_k": 7,
            "temperature": 0.5,
        }


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/"])
async def test_the_base_url_may_end_in_v1_or_not(tail: str) -> None:
    async with AnthropicUpstream() as upstream:
        await whole(adapter(upstream, base_url=upstream.base_url + tail))
        assert upstream.requests[0].path == "/v1/messages"


async def test_headers_of_the_settings_are_sent_and_take_the_place_of_ours() -> None:
    async with AnthropicUpstream(keys=("sk-ant-other",)) as upstream:
        await whole(adapter(upstream, headers={"X-Api-Key": "sk-ant-other", "anthropic-beta": "mine"}))
        sent = upstream.requests[0]
        assert [value for name, value in sent.headers if name.lower() == "x-api-key"] == ["sk-ant-other"]
        assert betas_of(sent) == ["mine"]


@inside_and_outside
async def test_usage_counts_what_was_read_from_a_cache_and_written_to_one_as_prompt() -> None:
    usage = MockUsage(input_tokens=3, output_tokens=5, cache_creation_input_tokens=20, cache_read_input_tokens=100)
    expected = Usage(prompt_tokens=123, completion_tokens=5, cached_tokens=100, cache_write_tokens=20)
    async with AnthropicUpstream(default=Reply(usage=usage)) as upstream:
        provider = adapter(upstream)
        assert (await whole(provider)).usage == expected
        stream = await opened(provider)
        await drained(stream)
        assert stream.usage == expected


@inside_and_outside
async def test_tokens_are_counted_by_the_provider() -> None:
    async with AnthropicUpstream() as upstream:
        body = b'{ "model":"claude-haiku-4-5", "messages":[{"role":"user","content":"How many?"}]}'
        provider = adapter(upstream, extra_body={"temperature": 0.5})
        answer = await whole(provider, written(body, endpoint=Endpoint.COUNT_TOKENS))
        assert upstream.requests[0].body == body
        assert upstream.requests[0].path == "/v1/messages/count_tokens"
        assert json.loads(answer.body)["input_tokens"] > 0
        assert (answer.estimated, answer.usage) == (False, Usage())


@over_both
async def test_the_connection_is_used_again_after_an_answer_an_error_and_a_stream() -> None:
    async with AnthropicUpstream() as upstream:
        provider = adapter(upstream)
        await whole(provider)
        await failure(provider, call(messages=[]))
        for _ in range(3):
            await drained(await opened(provider))
        assert upstream.connections == 1


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, FailureKind.CALLER, "invalid_request_error"),
        (401, FailureKind.CREDENTIALS, "authentication_error"),
        (402, FailureKind.CREDENTIALS, "billing_error"),
        (403, FailureKind.CREDENTIALS, "permission_error"),
        (404, FailureKind.CALLER, "not_found_error"),
        (413, FailureKind.CALLER, "request_too_large"),
        (429, FailureKind.RATE_LIMITED, "rate_limit_error"),
        (500, FailureKind.SERVER_ERROR, "api_error"),
        (529, FailureKind.SERVER_ERROR, "overloaded_error"),
    ],
)
async def test_each_status_is_a_failure_of_its_kind(status: int, kind: FailureKind, code: str) -> None:
    async with AnthropicUpstream(default=Reply(status=status)) as upstream:
        for request in (call(), call(stream=True)):
            failed = await failure(adapter(upstream), request)
            assert (failed.kind, failed.status, failed.code) == (kind, status, code)
            assert json.loads(failed.body or b"")["error"]["type"] == code


@pytest.mark.parametrize(
    ("reply", "kind", "code"),
    [
        (
            Reply(status=400, message="prompt is too long: 210000 tokens > 200000 maximum"),
            FailureKind.CALLER,
            "context_length_exceeded",
        ),
        (
            Reply(status=400, message="input length and `max_tokens` exceed context limit: 195000 + 8192 > 200000"),
            FailureKind.CALLER,
            "context_length_exceeded",
        ),
        (
            Reply(status=400, message="Your credit balance is too low to access the Anthropic API."),
            FailureKind.CREDENTIALS,
            "invalid_request_error",
        ),
    ],
)
async def test_what_a_refusal_says_decides_as_well(reply: Reply, kind: FailureKind, code: str) -> None:
    async with AnthropicUpstream(default=reply) as upstream:
        failed = await failure(adapter(upstream))
        assert (failed.kind, failed.code) == (kind, code)


async def test_a_model_nobody_knows_is_the_models_failure() -> None:
    async with AnthropicUpstream() as upstream:
        failed = await failure(adapter(upstream), call(model="claude-none"))
        assert (failed.kind, failed.code) == (FailureKind.MODEL_NOT_FOUND, "not_found_error")


async def test_a_wrong_key_is_ours_and_is_not_repeated() -> None:
    async with AnthropicUpstream() as upstream:
        upstream.script.append(Reply(status=401, message="no such key: sk-ant-wrong-canary"))
        failed = await failure(adapter(upstream, key="sk-ant-wrong-canary"))
        assert failed.kind is FailureKind.CREDENTIALS
        assert "canary" not in str(failed) + repr(failed.body)


async def test_retry_after_says_how_long_a_limit_lasts() -> None:
    async with AnthropicUpstream(default=Reply(status=429, headers=(("retry-after", "7"),))) as upstream:
        assert (await failure(adapter(upstream))).retry_after == 7


async def test_without_it_the_limits_that_are_used_up_say_so() -> None:
    soon, late = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (5, 40))
    headers = (
        ("anthropic-ratelimit-input-tokens-remaining", "0"),
        ("anthropic-ratelimit-input-tokens-reset", late.strftime("%Y-%m-%dT%H:%M:%SZ")),
        ("anthropic-ratelimit-requests-remaining", "0"),
        ("anthropic-ratelimit-requests-reset", soon.strftime("%Y-%m-%dT%H:%M:%SZ")),
    )
    async with AnthropicUpstream(default=Reply(status=429, headers=headers)) as upstream:
        assert (await failure(adapter(upstream))).retry_after == pytest.approx(39.5, abs=2)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", FailureKind.MALFORMED),
        (b"[]", FailureKind.MALFORMED),
        (b"{}", FailureKind.MALFORMED),
        (b'{"content":"text","stop_reason":"end_turn"}', FailureKind.MALFORMED),
        (b'{"content":[],"stop_reason":null}', FailureKind.MALFORMED),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', FailureKind.SERVER_ERROR),
        (b'{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}', FailureKind.RATE_LIMITED),
        (b'{"type":"error","error":{"type":"what_is_this","message":"no"}}', FailureKind.SERVER_ERROR),
    ],
)
async def test_a_200_that_is_no_whole_message_is_a_failure(body: bytes, kind: FailureKind) -> None:
    async with AnthropicUpstream(default=Reply(body=body)) as upstream:
        assert (await failure(adapter(upstream))).kind is kind


@over_both
async def test_an_answer_cut_in_the_middle_is_broken() -> None:
    async with AnthropicUpstream() as upstream:
        for reply in (Reply(cut_after=40), Reply(reset_after=40), Reply(reset=True)):
            upstream.script.append(reply)
            assert (await failure(adapter(upstream))).kind is FailureKind.BROKEN


async def test_a_whole_message_where_a_stream_was_asked_for_is_malformed() -> None:
    async with AnthropicUpstream() as upstream:
        upstream.script.append(Reply(body=b'{"content":[],"stop_reason":"end_turn"}'))
        assert (await failure(adapter(upstream), call(stream=True))).kind is FailureKind.MALFORMED


async def test_a_body_that_is_no_object_is_refused_in_the_callers_words() -> None:
    async with AnthropicUpstream() as upstream:
        request = msgspec.structs.replace(written(b"[1]"), model="another")
        failed = await failure(adapter(upstream), request)
        assert failed.kind is FailureKind.CALLER
        assert json.loads(failed.body or b"")["error"]["type"] == "invalid_request_error"
        assert not upstream.requests


async def test_a_generating_probe_asks_for_one_token() -> None:
    async with AnthropicUpstream() as upstream:
        used = await adapter(upstream).probe(ProbeMethod.GENERATE, MODEL)
        assert upstream.requests[0].json["max_tokens"] == 1
        assert used == Usage(prompt_tokens=7, completion_tokens=5)


async def test_a_refused_bound_proves_a_provider_alive_and_nothing_else_does() -> None:
    async with AnthropicUpstream() as upstream:
        upstream.script.append(Reply(status=400, message="max_tokens: must be greater than 1"))
        assert await adapter(upstream).probe(ProbeMethod.GENERATE, MODEL) is None
        upstream.script.append(Reply(status=400, message="messages: no"))
        with pytest.raises(UpstreamFailure):
            await adapter(upstream).probe(ProbeMethod.GENERATE, MODEL)


@pytest.mark.parametrize(("method", "model"), [(ProbeMethod.MODELS, MODEL), (ProbeMethod.GENERATE, None)])
async def test_a_probe_without_a_model_lists_models(method: ProbeMethod, model: str | None) -> None:
    async with AnthropicUpstream() as upstream:
        assert await adapter(upstream).probe(method, model) is None
        assert [request.path for request in upstream.requests] == ["/v1/models"]
        with pytest.raises(UpstreamFailure) as caught:
            await adapter(upstream, key="sk-ant-wrong").probe(method, model)
        assert caught.value.kind is FailureKind.CREDENTIALS


async def test_all_pages_of_models_are_listed() -> None:
    async with AnthropicUpstream() as upstream:
        assert await adapter(upstream).list_models() == list(MODELS)
        assert len(upstream.requests) == 2


@inside_and_outside
@over_both
async def test_a_cancelled_request_closes_its_connection() -> None:
    async with AnthropicUpstream(default=Reply(hang=True)) as upstream:
        provider = adapter(upstream)
        await cancelled_when_asked(provider, call(), upstream.requests)
        with trio.fail_after(30):
            await upstream.wait_idle()
        assert upstream.requests[0].closed_at is not None


def test_the_hosted_address_is_the_default() -> None:
    assert "'https://api.anthropic.com', express" in repr(make(settings(), environ={}))


@pytest.mark.parametrize("more", [{"base_url": "ftp://x"}, {"proxy": "nonsense"}])
def test_an_address_that_cannot_be_used_is_refused(more: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        make(settings(**more), environ={})


def settings(**more: Any) -> ProviderSettings:
    return ProviderSettings(name="p", type="anthropic", **more)


async def test_a_key_of_the_call_goes_in_the_place_of_the_settings() -> None:
    async with AnthropicUpstream(keys=[KEY, "two"]) as upstream:
        provider = adapter(upstream)
        for key in (None, Secret("two"), None):
            await whole(provider, msgspec.structs.replace(call(), key=key))
        await provider.probe(ProbeMethod.MODELS, None, Secret("two"))
        assert [request.header("x-api-key") for request in upstream.requests] == [KEY, "two", KEY, "two"]


async def test_what_the_head_says_of_limits_is_told_at_once() -> None:
    at = (datetime.now(UTC) + timedelta(seconds=30)).isoformat(timespec="seconds")
    headers = (("anthropic-ratelimit-requests-remaining", "4"), ("anthropic-ratelimit-requests-reset", at))
    async with AnthropicUpstream() as upstream:
        upstream.script.append(Reply(headers=headers))
        heard = list[Quotas]()
        await whole(adapter(upstream), msgspec.structs.replace(call(), heard=heard.append))
        assert [quotas.requests is not None and quotas.requests.remaining for quotas in heard] == [4]
