"""Images by address are fetched from where callers may send us, and from nowhere else."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import ssl
from collections.abc import Sequence
from typing import Any

import pytest
import trio

from infermux.errors import InvalidRequest
from infermux.providers import fetch
from infermux.providers.dialects.neutral import Base64, Conversation, Image
from infermux.providers.fetch import ImageFetcher
from infermux.providers.interface import Endpoint
from infermux.providers.public_address import Address, is_public
from infermux.providers.translate import DIALECTS
from tests.providers._tls import Authority
from tests.providers._upstream import Peer, Script, Upstream, answering, ok, upstream

PNG = b"\x89PNG\r\n\x1a\n and so on"
IMAGE = ok(PNG, b"Content-Type: image/png")
WHERE = "messages[0].content[1].image_url.url"


class Names:
    """A resolver: hosts of the test are at loopback, others nowhere. `asked` are the names that were looked up."""

    def __init__(self, **hosts: Sequence[str]) -> None:
        self.hosts = {"images.example": ["127.0.0.1"], "localhost": ["127.0.0.1"]}
        self.hosts |= {name.replace("_", "."): list(addresses) for name, addresses in hosts.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        self.asked.append(host)
        if host not in self.hosts:
            raise OSError("no such name")
        return self.hosts[host]


def loopback_too(address: Address) -> bool:
    return str(address) == "127.0.0.1" or is_public(address)


def anywhere(address: Address) -> bool:
    return not address.is_unspecified


def body_of(*urls: str) -> bytes:
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    content = [{"type": "text", "text": "look"}, *images]
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode()


async def fetched(*urls: str, names: Names | None = None, **options: Any) -> list[Base64]:
    """What stands in a request in place of `urls`."""
    given: dict[str, Any] = {"resolve": names or Names(), "allows": loopback_too, **options}
    fetcher = ImageFetcher(**given)
    body = body_of(*urls)
    found = await fetcher.fetched(DIALECTS[Endpoint.CHAT].read_request(body), body)
    return [image.source for image in images_of(found) if isinstance(image.source, Base64)]


def images_of(conversation: Conversation) -> list[Image]:
    return [part for turn in conversation.turns for part in turn.parts if isinstance(part, Image)]


async def refusal(*urls: str, names: Names | None = None, **options: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        await fetched(*urls, names=names, **options)
    assert caught.value.status == 400
    return caught.value


def at(server: Upstream, path: str = "/a.png", host: str = "images.example") -> str:
    return f"http{'s' if server.origin.tls else ''}://{host}:{server.origin.port}{path}"


def redirect(to: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Go\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


def recording(heads: list[bytes], *answers: bytes) -> Script:
    """Every connection's request is kept and gets the next of `answers`."""

    async def script(peer: Peer) -> None:
        request = await peer.request()
        if request is not None:
            heads.append(request[0])
            await peer.send(answers[min(len(heads), len(answers)) - 1])

    return script


# What is fetched.
@pytest.mark.slow
async def test_an_image_is_in_place_of_its_address(nursery: trio.Nursery) -> None:
    server = await upstream(nursery, answering(IMAGE))
    found = await fetched(at(server))
    assert found == [Base64(data=base64.b64encode(PNG).decode(), media_type="image/png")]


@pytest.mark.slow
async def test_the_request_names_the_host_and_carries_nothing_of_anybody(nursery: trio.Nursery) -> None:
    heads: list[bytes] = []
    server = await upstream(nursery, recording(heads, IMAGE))
    await fetched(at(server, "/a b.png?x=1#part"))
    request_line, *headers = heads[0].decode().split("\r\n")
    assert request_line == "GET /a%20b.png?x=1 HTTP/1.1"
    names = {line.partition(":")[0].lower() for line in headers}
    assert names == {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert f"Host: images.example:{server.origin.port}" in headers


@pytest.mark.slow
async def test_the_environment_s_proxy_is_not_used(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server = await upstream(nursery, answering(IMAGE))
    assert len(await fetched(at(server))) == 1


@pytest.mark.slow
async def test_an_address_given_twice_is_fetched_once(nursery: trio.Nursery) -> None:
    server = await upstream(nursery, answering(IMAGE))
    assert len(await fetched(at(server), at(server), at(server, "/b.png"))) == 3
    assert server.connections == 2


@pytest.mark.slow
async def test_tls_is_checked_for_the_name_that_was_asked_for(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority()
    server = await upstream(nursery, answering(IMAGE), context=authority.server_context("http/1.1"))
    trusting = authority.trust(ssl.create_default_context())
    monkeypatch.setattr(fetch, "http1_context", lambda: trusting)
    assert len(await fetched(at(server, host="localhost"))) == 1
    assert "could not be connected to" in str(await refusal(at(server)))


@pytest.mark.slow
async def test_the_next_address_is_tried_when_one_does_not_answer(nursery: trio.Nursery) -> None:
    server = await upstream(nursery, answering(IMAGE))
    names = Names(images_example=["127.0.0.2", "127.0.0.1"])
    assert len(await fetched(at(server), names=names, allows=anywhere)) == 1


async def test_a_request_without_images_by_address_is_left_as_it_is() -> None:
    fetcher = ImageFetcher(resolve=Names(), allows=loopback_too)
    body = body_of("data:image/png;base64,QUJD", "s3://bucket/a.png")
    conversation = DIALECTS[Endpoint.CHAT].read_request(body)
    assert await fetcher.fetched(conversation, body) is conversation


# Where it does not go.
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://2130706433/",
        "http://0x7f.1/",
        "HTTP://LOCALHOST:8080/",
        "http://no-such-name.invalid/",
    ],
)
async def test_what_is_inside_is_told_in_the_same_words_as_what_is_not_there(url: str) -> None:
    async def system(host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        if host.endswith(".invalid"):
            raise OSError("no such name")
        return [{"localhost": "127.0.0.1", "2130706433": "127.0.0.1", "0x7f.1": "127.0.0.1"}.get(host, host)]

    why = await refusal(url, resolve=system, allows=is_public)
    assert (str(why), why.param) == (f"{WHERE}: the image's host has no public address", WHERE)


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    names = Names(images_example=["93.184.216.34", "10.0.0.7"])
    assert "no public address" in str(await refusal("http://images.example/a.png", names=names, allows=is_public))


@pytest.mark.slow
async def test_the_address_that_was_checked_is_the_one_connected_to(nursery: trio.Nursery) -> None:
    server = await upstream(nursery, answering(IMAGE))
    names, checked = Names(), list[Address]()

    def allows(address: Address) -> bool:
        checked.append(address)
        names.hosts["images.example"] = ["127.0.0.9"]  # whoever looks it up again goes elsewhere
        return True

    assert len(await fetched(at(server), names=names, allows=allows)) == 1
    assert names.asked == ["images.example"]
    assert checked == [ipaddress.ip_address("127.0.0.1")]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://user:secret@images.example/", "user name"),
        ("http:///a.png", "none of http or https"),
        ("http://images.example:99999/", "no URL"),
        ("http://images.example/" + "a" * 9000, "too long"),
        ("http://a\x00b/", "no URL"),
    ],
)
async def test_an_address_that_is_none_is_refused(url: str, why: str) -> None:
    said = str(await refusal(url))
    assert why in said
    assert "secret" not in said


# Redirects.
@pytest.mark.slow
async def test_redirects_are_followed_and_checked_again(nursery: trio.Nursery) -> None:
    heads: list[bytes] = []
    server = await upstream(nursery, recording(heads, redirect("/b.png"), redirect("c.png", 307), IMAGE))
    names = Names()
    assert len(await fetched(at(server), names=names)) == 1
    assert [head.split(b" ")[1] for head in heads] == [b"/a.png", b"/b.png", b"/c.png"]
    assert names.asked == ["images.example"] * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("http://169.254.169.254/latest/meta-data/", "no public address"),
        ("//inside.example/", "no public address"),
        ("file:///etc/passwd", "none of http or https"),
        ("http://u:p@images.example/", "user name"),
    ],
)
async def test_a_redirect_to_where_we_do_not_go_is_refused(nursery: trio.Nursery, to: str, why: str) -> None:
    server = await upstream(nursery, answering(redirect(to)))

    async def system(host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        return [{"images.example": "127.0.0.1", "inside.example": "10.0.0.1"}.get(host, host)]

    assert why in str(await refusal(at(server), resolve=system))


@pytest.mark.slow
async def test_three_redirects_are_followed_and_no_fourth(nursery: trio.Nursery) -> None:
    server = await upstream(nursery, answering(redirect("/again.png")))
    assert "more than 3 times" in str(await refusal(at(server)))
    assert server.connections == 4


# What it does not take.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (ok(b"{}", b"Content-Type: application/json"), "no image"),
        (ok(PNG), "no image"),
        (ok(b"", b"Content-Type: image/png"), "empty"),
        (ok(PNG, b"Content-Type: image/png", b"Content-Encoding: gzip"), "compresses"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "status 404"),
        (b"HTTP/1.1 302 Go\r\nContent-Length: 0\r\n\r\n", "status 302"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nshort", "broke off"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "broke off"),
    ],
)
async def test_what_is_no_image_is_refused(nursery: trio.Nursery, answer: bytes, why: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)

    server = await upstream(nursery, script)
    found = await refusal(at(server))
    assert why in str(found)
    assert found.param == WHERE


@pytest.mark.slow
@pytest.mark.parametrize("told", [True, False])
async def test_images_of_more_than_the_bound_are_not_read(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    monkeypatch.setattr(fetch, "MOST_BYTES", 2**20)
    sent = 0

    async def script(peer: Peer) -> None:
        await peer.request()
        with contextlib.suppress(trio.BrokenResourceError):
            await pour(peer)

    async def pour(peer: Peer) -> None:
        nonlocal sent
        length = b"Content-Length: 99999999\r\n" if told else b""
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n%b\r\n" % length)
        for _ in range(1024):
            await peer.stream.send_all(bytes(2**16))
            sent += 2**16

    server = await upstream(nursery, script)
    assert "1 MiB together" in str(await refusal(at(server)))
    assert sent < 2**25


@pytest.mark.slow
async def test_the_bound_counts_an_image_as_often_as_it_stands_in_the_request(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MOST_BYTES", 2 * len(PNG))
    server = await upstream(nursery, answering(IMAGE))
    assert len(await fetched(at(server), at(server))) == 2
    assert "together" in str(await refusal(*[at(server)] * 3))


async def test_more_than_twenty_images_are_refused_before_any_is_fetched() -> None:
    names = Names()
    why = await refusal(*[f"http://images.example/{number}" for number in range(21)], names=names)
    assert "21 images" in str(why)
    assert names.asked == []


async def test_time_is_bounded(autojump_clock: object) -> None:
    async def never(host: str, port: int) -> Sequence[str]:
        await trio.sleep(3600)
        return [host]

    began = trio.current_time()
    assert "within 10 s" in str(await refusal("http://images.example/", resolve=never, seconds=60.0))
    assert trio.current_time() - began == pytest.approx(10.0)


async def test_four_images_of_a_request_are_fetched_at_once(autojump_clock: object) -> None:
    now = most = 0

    async def slow(host: str, port: int) -> Sequence[str]:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await trio.sleep(0.1)
        now -= 1
        return ["10.0.0.1"]

    urls = [f"http://h{number}.example/" for number in range(20)]
    await refusal(*urls, resolve=slow, allows=is_public)
    assert most == 4


async def test_the_first_place_in_the_request_is_named() -> None:
    body = json.dumps(
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://gone.example/"}}] * 2},
            ],
        }
    ).encode()
    fetcher = ImageFetcher(resolve=Names(), allows=loopback_too)
    with pytest.raises(InvalidRequest) as caught:
        await fetcher.fetched(DIALECTS[Endpoint.CHAT].read_request(body), body)
    assert caught.value.param == "messages[1].content[0].image_url.url"
