"""Short ways to call an adapter that speaks to the mock upstream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infermux.config.settings import ProviderSettings
from infermux.errors import UpstreamFailure
from infermux.providers.interface import Adapter, Answer, Call, Endpoint, Stream
from infermux.providers.registry import make_adapter
from infermux.secret import Secret
from tests.mocks.openai_upstream import KEY, OpenAIUpstream
from tests.providers._both import offered, options

MESSAGES = [{"role": "user", "content": "hi"}]


def adapter(
    upstream: OpenAIUpstream, *, key: str | None = KEY, base_url: str | None = None, type_: str = "openai", **more: Any
) -> Adapter:
    """An adapter for `upstream`, closed with it."""
    declared = ProviderSettings(
        name="p",
        type=type_,
        base_url=base_url or upstream.base_url,
        api_key=None if key is None else Secret(key),
        **{**options(), **more},
    )
    made = offered(make_adapter(declared, environ={}))
    upstream.serves(made)
    return made


def call(
    *,
    stream: bool = False,
    asked_usage: bool = False,
    model: str = "gpt-4o",
    remove: tuple[str, ...] = (),
    **fields: Any,
) -> Call:
    body: dict[str, Any] = {"model": "gpt-4o", "messages": MESSAGES, **fields}
    if stream:
        body["stream"] = True
    if asked_usage:
        body["stream_options"] = {"include_usage": True}
    return Call(
        endpoint=Endpoint.CHAT,
        body=json.dumps(body).encode(),
        model=model,
        requested_model=body["model"],
        stream=stream,
        asked_usage=asked_usage,
        remove=remove,
    )


async def whole(provider: Adapter, request: Call | None = None) -> Answer:
    answer = await provider.send(request or call())
    assert isinstance(answer, Answer)
    return answer


async def opened(provider: Adapter, **fields: Any) -> Stream:
    stream = await provider.send(call(stream=True, **fields))
    assert not isinstance(stream, Answer)
    return stream


async def drained(stream: Stream) -> bytes:
    received = b""
    try:
        while (data := await stream.receive()) is not None:
            received += data
    finally:
        stream.close()
    return received


async def told(stream: Stream) -> tuple[bytes, str]:
    """What comes of it, and of which kind its failure is, with its words: empty where it ends well."""
    received = b""
    try:
        while (data := await stream.receive()) is not None:
            received += data
    except UpstreamFailure as error:
        return received, f"{error.kind} {error}"
    return received, ""


async def failure(provider: Adapter, request: Call | None = None) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as caught:
        await provider.send(request or call())
    return caught.value
