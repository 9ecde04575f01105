"""Ollama's addresses and its list of models."""

from __future__ import annotations

import pytest

from infermux.config.settings import ProbeMethod, ProviderSettings
from infermux.errors import FailureKind
from infermux.providers.interface import Adapter, Usage
from infermux.providers.ollama import make
from tests.mocks.openai_upstream import OpenAIUpstream
from tests.providers._both import over_both
from tests.providers._calls import adapter, call, drained, failure, opened, whole


def ollama(upstream: OpenAIUpstream, suffix: str = "", key: str | None = None) -> Adapter:
    return adapter(upstream, type_="ollama", key=key, base_url=upstream.base_url + suffix)


def serving() -> OpenAIUpstream:
    return OpenAIUpstream("ollama", models=("gpt-4o", "llama3.2:latest"))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_the_base_url_may_end_in_v1_or_not(suffix: str) -> None:
    async with serving() as upstream:
        await whole(ollama(upstream, suffix))
        assert upstream.requests[0].path == "/v1/chat/completions"
        assert upstream.requests[0].header("authorization") is None


@pytest.mark.slow
async def test_a_key_for_a_proxy_in_front_is_sent() -> None:
    async with serving() as upstream:
        await whole(ollama(upstream, key="secret"))
        assert upstream.requests[0].header("authorization") == "Bearer secret"


@over_both
@pytest.mark.slow
async def test_a_stream_ends_well_and_has_usage() -> None:
    async with serving() as upstream:
        stream = await opened(ollama(upstream))
        assert (await drained(stream)).endswith(b"data: [DONE]\n\n")
        assert stream.usage == Usage(prompt_tokens=7, completion_tokens=5)


@pytest.mark.slow
async def test_a_model_that_was_not_pulled_is_missing() -> None:
    async with serving() as upstream:
        assert (await failure(ollama(upstream), call(model="phi"))).kind is FailureKind.MODEL_NOT_FOUND


@pytest.mark.slow
async def test_models_are_listed_and_probed_without_loading_one() -> None:
    async with serving() as upstream:
        provider = ollama(upstream, "/v1")
        assert await provider.list_models() == ["gpt-4o", "llama3.2:latest"]
        assert await provider.probe(ProbeMethod.MODELS, "gpt-4o") is None
        assert {request.path for request in upstream.requests} == {"/api/tags"}


def test_the_default_address_is_the_local_one() -> None:
    assert "http://localhost:11434" in repr(make(ProviderSettings(name="p", type="ollama"), environ={}))
