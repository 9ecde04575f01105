"""The Bedrock adapter over the mock upstream: how it is made, asked and read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infermux.config.settings import ProviderSettings
from infermux.errors import UpstreamFailure
from infermux.providers.interface import Adapter, Answer, Call, Endpoint, Stream
from infermux.providers.registry import make_adapter
from tests.mocks.bedrock_upstream import HAIKU, REGION, BedrockUpstream
from tests.providers._both import offered, options


def let_in(upstream: BedrockUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in upstream.environ.items():
        monkeypatch.setenv(name, value)


def adapter(upstream: BedrockUpstream, **fields: Any) -> Adapter:
    given: dict[str, Any] = {
        "name": "p",
        "type": "bedrock",
        "region": REGION,
        "base_url": upstream.base_url,
        **options(),
        **fields,
    }
    made = offered(make_adapter(ProviderSettings(**given), environ={}))
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
    assert isinstance(answer, Answer), "a stream"
    found: dict[str, Any] = json.loads(answer.body)
    return found


async def opened(provider: Adapter, model: str = HAIKU, **fields: Any) -> Stream:
    stream = await provider.send(call(model, stream=True, **fields))
    assert not isinstance(stream, Answer), "a whole answer"
    return stream


async def failure(provider: Adapter, request: Call | None = None) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as caught:
        await provider.send(request or call())
    return caught.value
