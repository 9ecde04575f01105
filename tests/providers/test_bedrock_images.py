"""Images by address on their way to Bedrock, which takes only bytes: the whole adapter, both servers on loopback."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from infermux import load_config
from infermux.config.settings import ProviderSettings
from infermux.errors import InvalidRequest
from infermux.providers import fetch
from infermux.providers.fetch import ImageFetcher
from infermux.providers.interface import Adapter, Answer, Call, Endpoint
from infermux.providers.public_address import Address
from infermux.providers.registry import make_adapter
from tests.mocks.bedrock_upstream import HAIKU, REGION, BedrockUpstream
from tests.providers._calls import drained
from tests.providers._upstream import answering, ok, upstream

PNG = b"\x89PNG\r\n\x1a\n and so on"


@pytest.fixture
async def aws(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BedrockUpstream]:
    async with BedrockUpstream() as running:
        for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name, raising=False)
        for name, value in running.environ.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name is at loopback, and may be gone to."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        return ["127.0.0.1"]

    def allows(address: Address) -> bool:
        return address.is_loopback

    monkeypatch.setattr(fetch, "ImageFetcher", functools.partial(ImageFetcher, resolve=resolve, allows=allows))


def adapter(aws: BedrockUpstream, **fields: Any) -> Adapter:
    given: dict[str, Any] = {"name": "p", "type": "bedrock", "region": REGION, "base_url": aws.base_url, **fields}
    made = make_adapter(ProviderSettings(**given), environ={})
    aws.serves(made)
    return made


def body_for(endpoint: Endpoint, url: str) -> dict[str, Any]:
    """A request with an image at `url`, in the dialect of `endpoint`."""
    match endpoint:
        case Endpoint.MESSAGES:
            content = [{"type": "image", "source": {"type": "url", "url": url}}]
            return {"max_tokens": 9, "messages": [{"role": "user", "content": content}]}
        case Endpoint.RESPONSES:
            image = {"type": "input_image", "image_url": url, "detail": "auto"}
            return {"input": [{"role": "user", "content": [image]}]}
        case _:
            return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}


def call(url: str, endpoint: Endpoint = Endpoint.CHAT, *, stream: bool = False) -> Call:
    body = json.dumps({"model": HAIKU, "stream": stream, **body_for(endpoint, url)}).encode()
    return Call(endpoint=endpoint, body=body, model=HAIKU, requested_model=HAIKU, stream=stream)


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.MESSAGES, Endpoint.RESPONSES])
async def test_an_image_by_address_reaches_bedrock_as_bytes(
    aws: BedrockUpstream, loopback: None, nursery: trio.Nursery, endpoint: Endpoint
) -> None:
    images = await upstream(nursery, answering(ok(PNG, b"Content-Type: image/png")))
    url = f"http://images.example:{images.origin.port}/a.png"
    answer = await adapter(aws, fetch_images=True).send(call(url, endpoint))
    assert isinstance(answer, Answer)
    assert answer.status == 200
    (message,) = aws.requests[0].json["messages"]
    assert message["content"] == [{"image": {"format": "png", "source": {"bytes": base64.b64encode(PNG).decode()}}}]


@pytest.mark.slow
async def test_a_stream_has_its_images_fetched_too(aws: BedrockUpstream, loopback: None, nursery: trio.Nursery) -> None:
    images = await upstream(nursery, answering(ok(PNG, b"Content-Type: image/webp")))
    url = f"http://images.example:{images.origin.port}/a"
    stream = await adapter(aws, fetch_images=True).send(call(url, stream=True))
    assert not isinstance(stream, Answer)
    assert b"Bedrock" in await drained(stream)
    assert aws.requests[0].json["messages"][0]["content"][0]["image"]["format"] == "webp"


@pytest.mark.slow
async def test_without_the_setting_nothing_is_fetched_and_the_setting_is_named(
    aws: BedrockUpstream, loopback: None, nursery: trio.Nursery
) -> None:
    images = await upstream(nursery, answering(ok(PNG, b"Content-Type: image/png")))
    with pytest.raises(InvalidRequest, match="set fetch_images for this provider"):
        await adapter(aws).send(call(f"http://images.example:{images.origin.port}/a.png"))
    assert images.connections == len(aws.requests) == 0


@pytest.mark.slow
async def test_the_real_guard_keeps_callers_out_of_the_router_s_own_network(aws: BedrockUpstream) -> None:
    provider = adapter(aws, fetch_images=True)
    for host in ("127.0.0.1", "localhost", "[::1]", "169.254.169.254", "[::ffff:10.0.0.1]"):
        with pytest.raises(InvalidRequest, match="no public address") as caught:
            await provider.send(call(f"{aws.base_url.partition(':')[0]}://{host}/a.png"))
        assert caught.value.param == "messages[0].content[0].image_url.url"
    assert aws.requests == []


@pytest.mark.slow
async def test_images_in_the_account_s_own_store_are_left_to_bedrock(aws: BedrockUpstream, loopback: None) -> None:
    await adapter(aws, fetch_images=True).send(call("s3://bucket/a.webp"))
    image = aws.requests[0].json["messages"][0]["content"][0]["image"]
    assert image["source"] == {"s3Location": {"uri": "s3://bucket/a.webp"}}


def test_the_configuration_says_whether_images_are_fetched(tmp_path: Path) -> None:
    path = tmp_path / "infermux.yml"
    path.write_text("providers: [{name: a, type: bedrock, fetch_images: true}, {name: b, type: bedrock}]")
    assert [provider.fetch_images for provider in load_config(str(path)).providers] == [True, False]
