"""Short ways to call an adapter that speaks to the mock of Anthropic's API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infermux.config.settings import ProviderSettings
from infermux.errors import UpstreamFailure
from infermux.providers.interface import Adapter, Answer, Call, Endpoint, Stream
from infermux.providers.registry import make_adapter
from infermux.secret import Secret
from tests.mocks.anthropic_upstream import KEY, MODELS, AnthropicUpstream
from tests.providers._both import offered, options

MODEL = MODELS[0]
MESSAGES = [{"role": "user", "content": "hi"}]


def adapter(upstream: AnthropicUpstream, *, key: str | None = KEY, base_url: str | None = None, **more: Any) -> Adapter:
    """An adapter for `upstream`, closed with it."""
    declared = ProviderSettings(
        name="p",
        type="anthropic",
        base_url=base_url or upstream.base_url,
        api_key=None if key is None else Secret(key),
        **{**options(), **more},
    )
    made = offered(make_adapter(declared, environ={}))
    upstream.serves(made)
    return made


def call(*, model: str = MODEL, remove: tuple[str, ...] = (), **fields: Any) -> Call:
    """A request for a message."""
    body: dict[str, Any] = {"model": MODEL, "max_tokens": 64, "messages": MESSAGES, **fields}
    return Call(
        endpoint=Endpoint.MESSAGES,
        body=json.dumps(body).encode(),
        model=model,
        requested_model=body["model"],
        stream=bool(fields.get("stream")),
        asked_usage=True,
        remove=remove,
    )


def chat(*, model: str = MODEL, **fields: Any) -> Call:
    """The same of a caller that speaks chat completions."""
    body: dict[str, Any] = {"model": "gpt-4o", "messages": MESSAGES, **fields}
    return Call(
        endpoint=Endpoint.CHAT,
        body=json.dumps(body).encode(),
        model=model,
        requested_model="gpt-4o",
        stream=bool(fields.get("stream")),
        asked_usage="stream_options" in fields,
    )


def written(body: bytes, *, endpoint: Endpoint = Endpoint.MESSAGES, stream: bool = False) -> Call:
    """A request of exactly these bytes."""
    return Call(endpoint=endpoint, body=body, model=MODEL, requested_model=MODEL, stream=stream)


async def whole(provider: Adapter, request: Call | None = None) -> Answer:
    answer = await provider.send(request or call())
    assert isinstance(answer, Answer), f"a stream came: {answer!r}"
    return answer


async def opened(provider: Adapter, request: Call | None = None) -> Stream:
    stream = await provider.send(request or call(stream=True))
    assert not isinstance(stream, Answer), f"a whole answer came: {stream!r}"
    return stream


async def failure(provider: Adapter, request: Call | None = None) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as caught:
        await provider.send(request or call())
    return caught.value


async def drained(stream: Stream) -> bytes:
    received = b""
    try:
        while (data := await stream.receive()) is not None:
            received += data
    finally:
        stream.close()
    return received
