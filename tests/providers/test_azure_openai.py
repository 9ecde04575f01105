"""Azure's addresses, credentials and odd chunks."""

from __future__ import annotations

from typing import Any

import pytest
from openai import AzureOpenAI

from infermux.config.settings import ProbeMethod, ProviderSettings
from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.azure_openai import azure_dialect, make
from infermux.providers.interface import Adapter, Usage
from infermux.providers.translated import Translating
from tests.mocks.openai_upstream import KEY, OpenAIUpstream
from tests.providers._both import over_both
from tests.providers._calls import adapter, call, drained, failure, opened, whole

VERSION = "2024-08-01-preview"


def azure(upstream: OpenAIUpstream, **more: Any) -> Adapter:
    return adapter(upstream, type_="azure_openai", azure_api_version=VERSION, **more)


@over_both
@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["", "/", "/openai"])
async def test_the_deployment_defaults_to_the_models_name(suffix: str) -> None:
    async with OpenAIUpstream("azure") as upstream:
        await whole(azure(upstream, base_url=upstream.base_url + suffix))
        request = upstream.requests[0]
        assert request.target == f"/openai/deployments/gpt-4o/chat/completions?api-version={VERSION}"
        assert request.header("api-key") == KEY
        assert request.header("authorization") is None


@pytest.mark.slow
async def test_a_deployment_has_a_name_of_its_own() -> None:
    async with OpenAIUpstream("azure", models=("my 4o/eu",)) as upstream:
        await whole(azure(upstream, azure_deployment="my 4o/eu"))
        assert upstream.requests[0].path == "/openai/deployments/my%204o%2Feu/chat/completions"


@over_both
@pytest.mark.slow
async def test_first_chunks_without_choices_and_content_filters_go_on_as_they_are() -> None:
    async with OpenAIUpstream("azure") as upstream:
        stream = await opened(azure(upstream))
        body = await drained(stream)
        assert b"prompt_filter_results" in body
        assert body.endswith(b"data: [DONE]\n\n")
        assert stream.usage == Usage(prompt_tokens=7, completion_tokens=5)
        answer = await whole(azure(upstream))
        assert b"content_filter_results" in answer.body


@pytest.mark.slow
async def test_a_missing_deployment_is_a_missing_model() -> None:
    async with OpenAIUpstream("azure") as upstream:
        missing = await failure(azure(upstream), call(model="gpt-9"))
        assert (missing.kind, missing.code) == (FailureKind.MODEL_NOT_FOUND, "DeploymentNotFound")


@pytest.mark.slow
async def test_a_wrong_key_or_version_is_told_apart() -> None:
    async with OpenAIUpstream("azure", api_version="2099-01-01") as upstream:
        assert (await failure(azure(upstream, key="wrong-key"))).kind is FailureKind.CREDENTIALS
        assert (await failure(azure(upstream))).kind is FailureKind.CALLER


@pytest.mark.slow
async def test_a_probe_goes_to_the_deployment() -> None:
    async with OpenAIUpstream("azure") as upstream:
        provider = azure(upstream)
        assert await provider.probe(ProbeMethod.GENERATE, "gpt-4o") == Usage(prompt_tokens=7, completion_tokens=5)
        assert upstream.requests[0].path == "/openai/deployments/gpt-4o/chat/completions"


@pytest.mark.slow
async def test_many_model_names_do_not_grow_the_adapter() -> None:
    async with OpenAIUpstream("azure") as upstream:
        provider = azure(upstream)
        for number in range(300):
            with pytest.raises(UpstreamFailure):
                await provider.send(call(model=f"m{number}"))
        assert isinstance(provider, Translating)
        assert len(vars(provider.adapter)["_heads"].templates) <= 256


def test_the_addresses_are_those_of_the_sdk() -> None:
    client = AzureOpenAI(azure_endpoint="https://x.example", api_version=VERSION, api_key="k", azure_deployment="d")
    dialect = azure_dialect("https://x.example", VERSION, "d")
    base = client.base_url.raw_path.decode().rstrip("/")
    assert dialect.target("gpt-4o", "/chat/completions").decode() == f"{base}/chat/completions?api-version={VERSION}"
    assert dialect.target("m", "/embeddings").decode() == f"{base}/embeddings?api-version={VERSION}"
    assert dialect.models.decode() == f"/openai/models?api-version={VERSION}"


@pytest.mark.parametrize("missing", ["base_url", "azure_api_version"])
def test_it_cannot_be_made_without_address_or_version(missing: str) -> None:
    given: dict[str, Any] = {"base_url": "https://x.example", "azure_api_version": VERSION}
    given[missing] = None
    with pytest.raises(ValueError, match=missing):
        make(ProviderSettings(name="p", type="azure_openai", **given), environ={})
