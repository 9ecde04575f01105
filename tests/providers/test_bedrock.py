"""The Bedrock adapter against a mock that verifies every signature and every member of a request."""

from __future__ import annotations

import builtins
import importlib.util
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import trio

from infermux.config.settings import ProbeMethod, ProviderSettings
from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers import bedrock
from infermux.providers.bedrock import Bedrock
from infermux.providers.interface import Adapter, Answer, Call, Endpoint, Stream
from infermux.providers.registry import TypeNotAvailable, make_adapter
from infermux.secret import Secret
from tests.mocks.bedrock_rules import Identity, Refusal
from tests.mocks.bedrock_upstream import (
    BEARER,
    HAIKU,
    IDENTITY,
    NOVA,
    REGION,
    BedrockUpstream,
    Reply,
    exception,
    frame,
    frames,
    unmodeled,
)
from tests.providers._calls import drained

ARN = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc123def456"


@pytest.fixture
async def upstream(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BedrockUpstream]:
    async with BedrockUpstream() as running:
        let_in(running, monkeypatch)
        yield running


def let_in(upstream: BedrockUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in upstream.environ.items():
        monkeypatch.setenv(name, value)


def adapter(upstream: BedrockUpstream, **fields: Any) -> Adapter:
    given: dict[str, Any] = {"name": "p", "type": "bedrock", "region": REGION, "base_url": upstream.base_url, **fields}
    made = make_adapter(ProviderSettings(**given), environ={})
    upstream.serves(made)
    return made


def call(model: str = HAIKU, *, stream: bool = False, **fields: Any) -> Call:
    """A chat completion request."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream, **fields}
    return Call(
        endpoint=Endpoint.CHAT, body=json.dumps(body).encode(), model=model, requested_model=model, stream=stream
    )


async def asked(provider: Adapter, request: Call | None = None) -> dict[str, Any]:
    answer = await provider.send(request or call())
    assert isinstance(answer, Answer)
    found: dict[str, Any] = json.loads(answer.body)
    return found


async def opened(provider: Adapter, model: str = HAIKU, **fields: Any) -> Stream:
    stream = await provider.send(call(model, stream=True, **fields))
    assert not isinstance(stream, Answer)
    return stream


async def drain_into(received: list[bytes], stream: Stream) -> None:
    try:
        while (data := await stream.receive()) is not None:
            received.append(data)
    finally:
        stream.close()


async def failure(provider: Adapter, request: Call | None = None) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as caught:
        await provider.send(request or call())
    return caught.value


# Requests and answers.
@pytest.mark.slow
async def test_a_chat_request_is_signed_and_answered_as_chat(upstream: BedrockUpstream) -> None:
    answer = await asked(adapter(upstream), call(max_tokens=50, temperature=0.5, stop=["END"]))
    assert answer["choices"][0]["message"]["content"] == "Hello from Bedrock."
    assert answer["model"] == HAIKU
    assert answer["usage"]["prompt_tokens"] == 7
    (request,) = upstream.requests
    assert request.json["inferenceConfig"] == {"maxTokens": 50, "temperature": 0.5, "stopSequences": ["END"]}
    assert "/eu-west-1/bedrock/aws4_request" in (request.header("authorization") or "")


@pytest.mark.slow
async def test_an_anthropic_caller_is_served_too(upstream: BedrockUpstream) -> None:
    body = {"model": HAIKU, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    request = Call(endpoint=Endpoint.MESSAGES, body=json.dumps(body).encode(), model=HAIKU, requested_model=HAIKU)
    answer = await asked(adapter(upstream), request)
    assert answer["content"] == [{"type": "text", "text": "Hello from Bedrock."}]
    assert answer["model"] == HAIKU


@pytest.mark.slow
@pytest.mark.parametrize("model", [HAIKU, ARN, "arn:aws:bedrock:us-east-1::foundation-model/a.b-v1:0"])
async def test_the_model_is_percent_encoded_in_the_path(upstream: BedrockUpstream, model: str) -> None:
    upstream.any_model = True
    await asked(adapter(upstream), call(model))
    path = upstream.requests[0].path
    assert path.count("/") == 3
    assert path == f"/model/{model.replace(':', '%3A').replace('/', '%2F')}/converse"


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


# Streams.
@pytest.mark.slow
async def test_a_stream_is_passed_on_as_chunks_with_its_usage(upstream: BedrockUpstream) -> None:
    stream = await opened(adapter(upstream), stream_options={"include_usage": True})
    data = await drained(stream)
    assert b'"content":"Hello fro"' in data
    assert data.endswith(b"data: [DONE]\n\n")
    assert stream.has_content
    assert stream.usage is not None
    assert (stream.usage.prompt_tokens, stream.usage.completion_tokens) == (7, 5)
    assert upstream.requests[0].path.endswith("/converse-stream")


@pytest.mark.slow
async def test_the_connection_is_used_again_after_a_stream(upstream: BedrockUpstream) -> None:
    provider = adapter(upstream)
    for _ in range(3):
        await drained(await opened(provider))
    assert upstream.connections == 1


@pytest.mark.slow
async def test_leaving_a_stream_closes_its_connection(upstream: BedrockUpstream) -> None:
    def endless() -> Any:
        yield from list(frames(Reply()))[:3]
        while True:
            yield frame("contentBlockDelta", contentBlockIndex=0, delta={"text": "more"})

    upstream.script.append(Reply(events=endless()))
    stream = await opened(adapter(upstream))
    await stream.receive()
    stream.close()
    with trio.fail_after(2):
        await upstream.left.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("event", "kind", "status"),
    [
        (exception("throttlingException", "slow down"), FailureKind.RATE_LIMITED, 429),
        (exception("validationException", "Input is too long for requested model."), FailureKind.CALLER, 400),
        (exception("modelStreamErrorException", "oops"), FailureKind.SERVER_ERROR, 500),
        (exception("internalServerException", "oops"), FailureKind.SERVER_ERROR, 500),
        (exception("serviceUnavailableException", "oops"), FailureKind.SERVER_ERROR, 503),
        (unmodeled("InternalFailure", "oops"), FailureKind.SERVER_ERROR, 500),
    ],
)
async def test_an_exception_before_any_content_is_a_failure_of_its_own_kind(
    upstream: BedrockUpstream, event: bytes, kind: FailureKind, status: int
) -> None:
    upstream.script.append(Reply(events=(frame("messageStart", role="assistant"), event)))
    stream = await opened(adapter(upstream))
    with pytest.raises(UpstreamFailure) as caught:
        await drained(stream)
    assert (caught.value.kind, caught.value.status) == (kind, status)
    assert not stream.has_content
    assert json.loads(caught.value.body or b"")["error"]["message"]


@pytest.mark.slow
async def test_an_exception_after_content_breaks_the_stream_without_an_end(upstream: BedrockUpstream) -> None:
    event = exception("throttlingException", "slow down")
    upstream.script.append(Reply(events=(*list(frames(Reply()))[:3], event)))
    stream = await opened(adapter(upstream))
    received: list[bytes] = []
    with pytest.raises(UpstreamFailure, match="ThrottlingException: slow down") as caught:
        await drain_into(received, stream)
    assert caught.value.kind is FailureKind.BROKEN
    assert b"Hello fro" in b"".join(received)
    assert b"[DONE]" not in b"".join(received)
    with pytest.raises(UpstreamFailure):
        await stream.receive()


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["connection", "framing", "message"])
async def test_a_stream_that_ends_early_is_broken(upstream: BedrockUpstream, cut: str) -> None:
    events = tuple(frames(Reply()))[:3]
    tail = {"connection": (b"CUT",), "framing": (), "message": (events[0][:20],)}[cut]
    upstream.script.append(Reply(events=(*events, *tail)))
    stream = await opened(adapter(upstream))
    with pytest.raises(UpstreamFailure) as caught:
        await drained(stream)
    assert caught.value.kind is FailureKind.BROKEN


@pytest.mark.slow
async def test_a_stream_may_end_without_its_metadata(upstream: BedrockUpstream) -> None:
    upstream.script.append(Reply(events=tuple(frames(Reply()))[:-1]))
    stream = await opened(adapter(upstream))
    assert (await drained(stream)).endswith(b"[DONE]\n\n")
    assert stream.usage is None


@pytest.mark.slow
async def test_a_break_after_the_stop_reason_takes_nothing_of_the_answer_with_it(upstream: BedrockUpstream) -> None:
    upstream.script.append(Reply(events=(*tuple(frames(Reply()))[:-1], b"CUT")))
    assert (await drained(await opened(adapter(upstream)))).endswith(b"[DONE]\n\n")


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 2, 3])
async def test_a_corrupt_message_is_never_passed_on(upstream: BedrockUpstream, at: int) -> None:
    events = list(frames(Reply()))
    events[at] = events[at][:-6] + bytes([events[at][-6] ^ 1]) + events[at][-5:]
    upstream.script.append(Reply(events=tuple(events)))
    with pytest.raises(UpstreamFailure, match="corrupt") as caught:
        await drained(await opened(adapter(upstream)))
    assert caught.value.kind is FailureKind.MALFORMED


@pytest.mark.slow
async def test_a_whole_answer_to_a_streaming_request_is_malformed(upstream: BedrockUpstream) -> None:
    upstream.script.append(Reply(body=b"{}"))
    found = await failure(adapter(upstream), call(stream=True))
    assert found.kind is FailureKind.MALFORMED


# Translated, by way of the whole adapter.
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "get", "parameters": {"type": "object", "properties": {}}},
}
THOUGHT: dict[str, Any] = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig-1"}}}
USE: dict[str, Any] = {"toolUse": {"toolUseId": "tooluse_1", "name": "get", "input": {}}}


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


@pytest.mark.slow
async def test_what_cannot_be_carried_is_named(upstream: BedrockUpstream) -> None:
    answer = await adapter(upstream).send(call(seed=3, temperature=2))
    assert answer.dropped == ("temperature(clamped)", "seed")


# Refusals.
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


# What is missing.
@pytest.mark.slow
async def test_a_probe_of_a_model_costs_one_token(upstream: BedrockUpstream) -> None:
    used = await adapter(upstream).probe(ProbeMethod.GENERATE, NOVA)
    assert used is not None
    assert used.completion_tokens == 5
    assert upstream.requests[0].json["inferenceConfig"] == {"maxTokens": 1}


@pytest.mark.slow
async def test_a_probe_that_is_refused_for_its_one_token_proves_it_alive(upstream: BedrockUpstream) -> None:
    upstream.script.append(Reply(error=("ValidationException", "maxTokens must be at least 16")))
    assert await adapter(upstream).probe(ProbeMethod.GENERATE, NOVA) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message", "advice"),
    [
        ("AccessDeniedException", "You don't have access to the model with the specified model ID.", "Model access"),
        ("ValidationException", "The provided model identifier is invalid.", "Model access"),
        ("AccessDeniedException", "not authorized to perform: bedrock:InvokeModel", "allow bedrock:InvokeModel and"),
        ("ExpiredTokenException", "The security token included in the request is expired", "aws sso login"),
        ("UnrecognizedClientException", "The security token included in the request is invalid.", "access key"),
    ],
)
async def test_a_probe_says_what_is_missing(upstream: BedrockUpstream, name: str, message: str, advice: str) -> None:
    upstream.script.append(Reply(error=(name, message)))
    with pytest.raises(UpstreamFailure, match=advice) as caught:
        await adapter(upstream).probe(ProbeMethod.GENERATE, NOVA)
    assert caught.value.kind is FailureKind.CREDENTIALS
    assert message in caught.value.message


@pytest.mark.slow
async def test_a_probe_without_credentials_says_where_they_are_looked_for(
    upstream: BedrockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    with pytest.raises(UpstreamFailure, match=r"AWS_PROFILE.*aws sso login") as caught:
        await adapter(upstream).probe(ProbeMethod.GENERATE, NOVA)
    assert caught.value.kind is FailureKind.CREDENTIALS
    assert upstream.requests == []


@pytest.mark.slow
async def test_models_are_those_that_can_be_called_as_they_are(upstream: BedrockUpstream) -> None:
    provider = adapter(upstream)
    assert await provider.probe(ProbeMethod.MODELS, None) is None
    assert await provider.list_models() == [NOVA, "meta.llama3-8b-instruct-v1:0", HAIKU]


@pytest.mark.slow
async def test_an_identity_that_may_not_list_models_is_alive(
    upstream: BedrockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = adapter(upstream)

    def denied(path: str, query: Mapping[str, str]) -> Any:
        what = "User: u is not authorized to perform: bedrock:ListFoundationModels"
        raise Refusal(403, "AccessDeniedException", what)

    monkeypatch.setattr(upstream, "_listing", denied)
    assert await provider.probe(ProbeMethod.MODELS, None) is None
    with pytest.raises(UpstreamFailure):
        await provider.list_models()


def settings(**fields: Any) -> ProviderSettings:
    return ProviderSettings(name="p", type="bedrock", **fields)


@pytest.fixture
def _no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")


@pytest.mark.usefixtures("_no_region")
def test_without_a_region_the_reason_says_where_to_set_it() -> None:
    with pytest.raises(TypeNotAvailable, match=r"`region`.*AWS_REGION.*profile"):
        make_adapter(settings(), environ={})


def test_without_botocore_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def none_of_it(name: str, package: str | None = None) -> Any:
        return None if name.startswith("botocore") else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", none_of_it)
    with pytest.raises(TypeNotAvailable, match=r"pip install 'infermux\[bedrock\]'"):
        make_adapter(settings(region=REGION), environ={})


def test_with_an_api_key_botocore_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        assert not name.startswith("botocore")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    make_adapter(settings(region=REGION, api_key=Secret(BEARER)), environ={})
    make_adapter(settings(), environ={"AWS_BEARER_TOKEN_BEDROCK": BEARER, "AWS_REGION": REGION})


@pytest.mark.usefixtures("_no_region")
@pytest.mark.parametrize(
    ("fields", "environ", "base_url"),
    [
        ({"region": "eu-central-1"}, {"AWS_REGION": "us-east-1"}, "https://bedrock-runtime.eu-central-1.amazonaws.com"),
        ({}, {"AWS_REGION": "us-east-1"}, "https://bedrock-runtime.us-east-1.amazonaws.com"),
        ({}, {"AWS_DEFAULT_REGION": "cn-north-1"}, "https://bedrock-runtime.cn-north-1.amazonaws.com.cn"),
        (
            {"base_url": "https://vpce-0.bedrock-runtime.eu-west-3.vpce.amazonaws.com"},
            {},
            "https://vpce-0.bedrock-runtime.eu-west-3.vpce.amazonaws.com",
        ),
    ],
)
def test_the_address_follows_from_the_region(fields: Any, environ: dict[str, str], base_url: str) -> None:
    assert base_url in repr(bedrock.make(settings(**fields), environ=environ))


@pytest.mark.usefixtures("_no_region")
def test_the_region_may_be_that_of_the_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    config = tmp_path / "config"
    config.write_text("[profile work]\nregion = ap-south-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert "ap-south-1" in repr(bedrock.make(settings(), environ={}))
    monkeypatch.setenv("AWS_PROFILE", "gone")
    with pytest.raises(TypeNotAvailable, match=r"profile cannot be used.*gone"):
        bedrock.make(settings(), environ={})


def test_what_is_no_region_is_refused() -> None:
    with pytest.raises(TypeNotAvailable, match="is no AWS region"):
        make_adapter(settings(region="evil.example/"), environ={})


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
