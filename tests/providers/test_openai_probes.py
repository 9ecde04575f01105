"""Health probes of the openai adapter against a strict upstream on a real socket."""

from __future__ import annotations

import pytest

from infermux.config.settings import ProbeMethod
from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.interface import Usage
from tests.mocks.openai_upstream import OpenAIUpstream, Reply
from tests.providers._calls import adapter

pytestmark = pytest.mark.slow


async def test_a_generate_probe_is_a_one_token_request() -> None:
    async with OpenAIUpstream() as upstream:
        usage = await adapter(upstream, extra_body={"seed": 1}).probe(ProbeMethod.GENERATE, "gpt-4o")
        assert usage == Usage(prompt_tokens=7, completion_tokens=5)
        assert upstream.requests[0].json["max_tokens"] == 1
        assert upstream.requests[0].json["seed"] == 1


async def test_a_complaint_about_max_tokens_proves_the_provider_alive() -> None:
    async with OpenAIUpstream() as upstream:
        body = b'{"error":{"message":"Unsupported parameter: \'max_tokens\'. Use \'max_completion_tokens\'."}}'
        upstream.script.append(Reply(status=400, body=body))
        assert await adapter(upstream).probe(ProbeMethod.GENERATE, "gpt-4o") is None


async def test_any_other_complaint_fails_the_probe() -> None:
    async with OpenAIUpstream() as upstream:
        upstream.script += [Reply(status=400), Reply(status=500), Reply(body=b"hello")]
        provider = adapter(upstream)
        for kind in (FailureKind.CALLER, FailureKind.SERVER_ERROR, FailureKind.MALFORMED):
            with pytest.raises(UpstreamFailure) as caught:
                await provider.probe(ProbeMethod.GENERATE, "gpt-4o")
            assert caught.value.kind is kind


async def test_an_embedding_model_is_probed_with_an_embedding() -> None:
    async with OpenAIUpstream() as upstream:
        usage = await adapter(upstream).probe(ProbeMethod.GENERATE, "text-embedding-3-small")
        assert usage == Usage(prompt_tokens=1)
        assert upstream.requests[0].path == "/v1/embeddings"


@pytest.mark.parametrize("model", [None, "gpt-4o"])
async def test_a_models_probe_lists_the_models(model: str | None) -> None:
    async with OpenAIUpstream() as upstream:
        provider = adapter(upstream)
        method = ProbeMethod.MODELS if model else ProbeMethod.GENERATE
        assert await provider.probe(method, model) is None
        assert (upstream.requests[0].method, upstream.requests[0].path) == ("GET", "/v1/models")
        assert "gpt-4o" in await provider.list_models()
        wrong = adapter(upstream, key="sk-wrong")
        with pytest.raises(UpstreamFailure):
            await wrong.probe(method, model)
