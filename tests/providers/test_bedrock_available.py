"""Whether a Bedrock provider can be used, and what it says is missing: probes, models, regions."""

from __future__ import annotations

import builtins
import importlib.util
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from infermux.config.settings import ProbeMethod, ProviderSettings
from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers import bedrock
from infermux.providers.registry import TypeNotAvailable, make_adapter
from infermux.secret import Secret
from tests.mocks.bedrock_rules import Refusal
from tests.mocks.bedrock_upstream import BEARER, HAIKU, NOVA, REGION, BedrockUpstream, Reply
from tests.providers._bedrock import adapter, let_in


@pytest.fixture
async def upstream(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BedrockUpstream]:
    async with BedrockUpstream() as running:
        let_in(running, monkeypatch)
        yield running


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
        ("AccessDeniedException", "Authentication failed: Make sure your API Key is valid.", "check the Bedrock"),
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
