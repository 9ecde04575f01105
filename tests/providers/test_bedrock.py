"""The Bedrock adapter against a mock that verifies every signature and every member of a request."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infermux.errors import FailureKind
from infermux.providers.bedrock import Bedrock
from infermux.providers.interface import Call, Endpoint
from infermux.secret import Secret
from tests.mocks.bedrock_rules import Identity
from tests.mocks.bedrock_upstream import BEARER, HAIKU, IDENTITY, NOVA, REGION, BedrockUpstream, Reply
from tests.providers._bedrock import adapter, asked, call, failure, let_in, opened
from tests.providers._both import inside_and_outside, inside_and_outside_at_length, over_both
from tests.providers._calls import drained

ARN = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc123def456"


@pytest.fixture
async def upstream(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BedrockUpstream]:
    async with BedrockUpstream() as running:
        let_in(running, monkeypatch)
        yield running


# Requests and answers.
@inside_and_outside
@pytest.mark.slow
async def test_a_chat_request_is_signed_and_answered_as_chat(upstream: BedrockUpstream) -> None:
    answer = await asked(adapter(upstream), call(max_tokens=50, temperature=0.5, stop=["END"]))
    assert answer["choices"][0]["message"]["content"] == "Hello from Bedrock."
    assert answer["model"] == HAIKU
    assert answer["usage"]["prompt_tokens"] == 7
    (request,) = upstream.requests
    assert request.json["inferenceConfig"] == {"maxTokens": 50, "temperature": 0.5, "stopSequences": ["END"]}
    assert "/eu-west-1/bedrock/aws4_request" in (request.header("authorization") or "")


@inside_and_outside
@pytest.mark.slow
async def test_an_anthropic_caller_is_served_too(upstream: BedrockUpstream) -> None:
    body = {"model": HAIKU, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    request = Call(endpoint=Endpoint.MESSAGES, body=json.dumps(body).encode(), model=HAIKU, requested_model=HAIKU)
    answer = await asked(adapter(upstream), request)
    assert answer["content"] == [{"type": "text", "text": "Hello from Bedrock."}]
    assert answer["model"] == HAIKU


@over_both
@pytest.mark.slow
@pytest.mark.parametrize("model", [HAIKU, ARN, "arn:aws:bedrock:us-east-1::foundation-model/a.b-v1:0"])
async def test_the_model_is_percent_encoded_in_the_path(upstream: BedrockUpstream, model: str) -> None:
    upstream.any_model = True
    await asked(adapter(upstream), call(model))
    path = upstream.requests[0].path
    assert path.count("/") == 3
    assert path == f"/model/{model.replace(':', '%3A').replace('/', '%2F')}/converse"


@over_both
@pytest.mark.slow
async def test_a_base_url_with_a_path_is_signed_as_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with BedrockUpstream(prefix="/proxy/bedrock") as upstream:
        let_in(upstream, monkeypatch)
        await asked(adapter(upstream))
        assert upstream.requests[0].path.startswith("/proxy/bedrock/model/")


@pytest.mark.slow
async def test_permanent_credentials_are_signed_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    async with BedrockUpstream(identities=[Identity(access_key="AKIA1", secret_key="secret/1")]) as upstream:
        let_in(upstream, monkeypatch)
        monkeypatch.delenv("AWS_SESSION_TOKEN")
        await asked(adapter(upstream))
        assert upstream.requests[0].header("x-amz-security-token") is None


@over_both
@pytest.mark.slow
async def test_large_bodies_and_any_text_are_signed(upstream: BedrockUpstream) -> None:
    await asked(adapter(upstream), call(messages=[{"role": "user", "content": "ä😀\n" * 100_000}]))
    assert len(upstream.requests[0].body) > 300_000


@pytest.mark.slow
async def test_a_bedrock_api_key_takes_the_place_of_signatures(upstream: BedrockUpstream) -> None:
    await asked(adapter(upstream, api_key=Secret(BEARER), region=None))
    assert upstream.requests[0].header("authorization") == f"Bearer {BEARER}"


@pytest.mark.slow
async def test_extra_body_and_headers_are_sent_and_the_caller_wins(upstream: BedrockUpstream) -> None:
    extra = {"guardrailConfig": {"guardrailIdentifier": "abc", "guardrailVersion": "1"}}
    provider = adapter(upstream, extra_body=extra, headers={"X-Team": "a", "Content-Type": "text/plain"})
    await asked(provider)
    theirs = {"guardrailIdentifier": "mine", "guardrailVersion": "2"}
    await asked(provider, call(guardrailConfig=theirs))
    first, second = upstream.requests
    assert (first.json["guardrailConfig"], second.json["guardrailConfig"]) == (extra["guardrailConfig"], theirs)
    assert first.header("x-team") == "a"


@pytest.mark.slow
async def test_an_answer_that_is_none_is_malformed(upstream: BedrockUpstream) -> None:
    provider = adapter(upstream)
    for body in (b"no json", b"{}", b'{"output":{"message":{"content":3}},"stopReason":"end_turn"}'):
        upstream.script.append(Reply(body=body))
        assert (await failure(provider)).kind is FailureKind.MALFORMED


# Translated, by way of the whole adapter.
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "get", "parameters": {"type": "object", "properties": {}}},
}
THOUGHT: dict[str, Any] = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig-1"}}}
USE: dict[str, Any] = {"toolUse": {"toolUseId": "tooluse_1", "name": "get", "input": {}}}


@inside_and_outside
@over_both
@pytest.mark.slow
@pytest.mark.parametrize("streamed", [False, True])
async def test_thinking_that_chat_cannot_carry_is_put_back_on_the_next_turn(
    upstream: BedrockUpstream, *, streamed: bool
) -> None:
    provider = adapter(upstream)
    upstream.script.append(Reply(content=(THOUGHT, USE), stop="tool_use"))
    first = {"role": "user", "content": "hi"}
    if streamed:
        await drained(await opened(provider, messages=[first], tools=[TOOL], reasoning_effort="low"))
    else:
        await asked(provider, call(messages=[first], tools=[TOOL], reasoning_effort="low"))
    made = {"id": "tooluse_1", "type": "function", "function": {"name": "get", "arguments": "{}"}}
    then = [
        first,
        {"role": "assistant", "content": None, "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "tooluse_1", "content": "42"},
    ]
    await asked(provider, call(messages=then, tools=[TOOL], reasoning_effort="low"))
    second = upstream.requests[1].json
    assert second["messages"][1]["content"] == [THOUGHT, USE]
    assert second["additionalModelRequestFields"]["thinking"]["type"] == "enabled"


@pytest.mark.slow
async def test_an_answer_by_a_forced_tool_is_text_again(upstream: BedrockUpstream) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}
    use = {"toolUse": {"toolUseId": "t", "name": "json_answer", "input": {"city": "Rome"}}}
    provider = adapter(upstream)
    upstream.script.extend([Reply(content=(use,), stop="tool_use")] * 2)
    answer = await asked(provider, call(NOVA, response_format=wanted))
    assert json.loads(answer["choices"][0]["message"]["content"]) == {"city": "Rome"}
    assert answer["choices"][0]["finish_reason"] == "stop"
    data = await drained(await opened(provider, model=NOVA, response_format=wanted))
    assert b'"finish_reason":"stop"' in data
    assert b"tool_calls" not in data


@inside_and_outside
@pytest.mark.slow
async def test_what_cannot_be_carried_is_named(upstream: BedrockUpstream) -> None:
    answer = await adapter(upstream).send(call(seed=3, temperature=2))
    assert answer.dropped == ("temperature(clamped)", "seed")


# Refusals.
@inside_and_outside_at_length
@pytest.mark.slow
@pytest.mark.parametrize("type_header", [True, False])
@pytest.mark.parametrize(
    ("name", "message", "kind"),
    [
        ("ThrottlingException", "Too many tokens, please wait before trying again.", FailureKind.RATE_LIMITED),
        ("ValidationException", "max_tokens: must be positive", FailureKind.CALLER),
        ("ValidationException", "Input is too long for requested model.", FailureKind.CALLER),
        ("ValidationException", "The provided model identifier is invalid.", FailureKind.MODEL_NOT_FOUND),
        (
            "ValidationException",
            "Invocation of model ID x with on-demand throughput isn’t supported.",  # noqa: RUF001
            FailureKind.MODEL_NOT_FOUND,
        ),
        ("AccessDeniedException", "User: u is not authorized to perform: bedrock:InvokeModel", FailureKind.CREDENTIALS),
        (
            "AccessDeniedException",
            "You don't have access to the model with the specified model ID.",
            FailureKind.MODEL_NOT_FOUND,
        ),
        ("ExpiredTokenException", "The security token included in the request is expired", FailureKind.CREDENTIALS),
        ("ResourceNotFoundException", "Could not resolve the foundation model", FailureKind.MODEL_NOT_FOUND),
        ("ModelTimeoutException", "Model has timed out", FailureKind.TOTAL_TIMEOUT),
        ("ModelErrorException", "oops", FailureKind.SERVER_ERROR),
        ("ModelNotReadyException", "not ready", FailureKind.SERVER_ERROR),
        ("InternalServerException", "oops", FailureKind.SERVER_ERROR),
        ("ServiceUnavailableException", "oops", FailureKind.SERVER_ERROR),
    ],
)
async def test_exceptions_are_told_apart_by_name_and_wording(
    upstream: BedrockUpstream, name: str, message: str, kind: FailureKind, *, type_header: bool
) -> None:
    upstream.script.append(Reply(error=(name, message), type_header=type_header, headers=(("Retry-After", "3"),)))
    found = await failure(adapter(upstream))
    assert found.kind is kind
    assert name in found.message
    assert found.retry_after == (3.0 if kind in (FailureKind.RATE_LIMITED, FailureKind.SERVER_ERROR) else None)
    error = json.loads(found.body or b"")["error"]
    assert error["message"] == message
    long = "too long" in message
    assert found.code == error["code"] == ("context_length_exceeded" if long else name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, FailureKind.CREDENTIALS),
        (404, FailureKind.CALLER),
        (408, FailureKind.TOTAL_TIMEOUT),
        (413, FailureKind.CALLER),
        (429, FailureKind.RATE_LIMITED),
        (500, FailureKind.SERVER_ERROR),
        (302, FailureKind.MALFORMED),
    ],
)
async def test_without_a_name_the_status_decides(upstream: BedrockUpstream, status: int, kind: FailureKind) -> None:
    upstream.script.append(Reply(status=status, body=b"<html>busy</html>"))
    assert (await failure(adapter(upstream))).kind is kind


# Secrets.
@pytest.mark.slow
async def test_no_credential_appears_in_any_repr_error_or_log(
    upstream: BedrockUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider = adapter(upstream, headers={"X-Secret-Key": "canary-of-a-header"})
    inner = getattr(provider, "adapter", provider)
    assert isinstance(inner, Bedrock)
    said = [repr(provider), repr(inner)]
    secrets = (IDENTITY.access_key, IDENTITY.secret_key, IDENTITY.token or "", "canary-of-a-header")
    await asked(provider)
    said += [repr(inner), repr(inner.__dict__["_signer"])]
    upstream.script.append(Reply(error=("ValidationException", f"your request had {' and '.join(secrets)}")))
    upstream.region = "us-east-2"  # from now on every signature is refused
    refused = await failure(provider)
    upstream.region = REGION
    told = await failure(provider)
    assert refused.kind is FailureKind.CREDENTIALS
    said += [repr(refused), str(refused), repr(refused.body), repr(told), str(told), repr(told.body), caplog.text]
    assert "***" in str(told)
    for secret in secrets:
        assert not any(secret in text for text in said)


@pytest.mark.slow
async def test_a_refused_signature_that_is_quoted_back_does_not_show_the_token(upstream: BedrockUpstream) -> None:
    provider = adapter(upstream)
    await asked(provider)
    upstream.identities = {
        IDENTITY.access_key: Identity(access_key=IDENTITY.access_key, secret_key="other", token=IDENTITY.token)
    }
    refused = await failure(provider)
    assert refused.code == "InvalidSignatureException"
    text = f"{refused} {refused!r} {(refused.body or b'').decode()}"
    assert "Canonical String" in text
    assert (IDENTITY.token or "") not in text
    assert IDENTITY.access_key not in text


@pytest.mark.slow
async def test_refused_credentials_are_looked_up_again(
    upstream: BedrockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = adapter(upstream)
    await asked(provider)
    renewed = Identity(access_key="AKIARENEWED", secret_key="renewed/secret")
    upstream.identities = {renewed.access_key: renewed}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", renewed.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", renewed.secret_key)
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    assert (await failure(provider)).kind is FailureKind.CREDENTIALS
    await asked(provider)
