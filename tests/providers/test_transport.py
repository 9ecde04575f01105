"""The choice between the two ways out, and the small parts both are made of."""

from __future__ import annotations

import subprocess
import sys

import pytest

from infermux.config.settings import ClientTls, ProviderSettings, Timeouts
from infermux.providers.transport import Origin, choose_transport, is_framed, target_of

URL = "https://api.test/v1"


def settings(**options: object) -> ProviderSettings:
    return ProviderSettings(name="p", type="openai", **options)  # type: ignore[arg-type]


async def chosen(options: ProviderSettings, environ: dict[str, str], url: str = URL) -> str:
    transport = choose_transport(options, url, environ)
    await transport.aclose()
    return transport.name


async def test_express_is_the_way_out_unless_something_asks_for_httpx() -> None:
    assert await chosen(settings(), {}) == "express"
    assert await chosen(settings(timeouts=Timeouts(connect=1.0)), {"HTTP_PROXY": "http://p:1"}) == "express"
    assert await chosen(settings(http2=True), {}) == "httpx"
    assert await chosen(settings(proxy="http://p:1"), {}) == "httpx"
    assert await chosen(settings(tls=ClientTls(verify=False)), {}) == "httpx"


async def test_the_environments_proxy_counts_for_each_url() -> None:
    environ = {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "localhost,api2.test"}
    assert await chosen(settings(), environ) == "httpx"
    assert await chosen(settings(), environ, "https://api2.test/v1") == "express"
    assert await chosen(settings(), environ, "http://api.test/v1") == "express"


@pytest.mark.parametrize("proxy", ["ftp://user:s3cret@p:1", "http://[s3cret", "socks5://user:s3cret@p:1"])
def test_an_unusable_proxy_is_refused_without_showing_it(proxy: str) -> None:
    with pytest.raises(ValueError, match="proxy") as caught:
        choose_transport(settings(proxy=proxy), URL, {})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "api.test/v1", "ftp://api.test", "https://", "http://x:99999"])
def test_an_unusable_base_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|Port"):
        choose_transport(settings(), url, {})


def test_httpx_is_not_imported_for_express() -> None:
    code = (
        "import sys; from infermux.config.settings import ProviderSettings as P;"
        "from infermux.providers.transport import choose_transport as c;"
        "c(P(name='p', type='openai'), 'http://127.0.0.1:1', {}); sys.exit('httpx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("url", "authority", "port"),
    [
        ("http://api.test/v1", "api.test", 80),
        ("https://api.test", "api.test", 443),
        ("https://api.test:80", "api.test:80", 80),
        ("http://[::1]:8080/x", "[::1]:8080", 8080),
        ("http://user:s3cret@api.test", "api.test", 80),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, authority: str, port: int) -> None:
    origin = Origin.of(url)
    assert (origin.authority, origin.port, origin.tls) == (authority, port, url.startswith("https"))
    assert "s3cret" not in str(origin)


@pytest.mark.parametrize(
    ("base", "path", "target"),
    [
        ("http://h/v1", "/chat", b"/v1/chat"),
        ("http://h/v1/", "/chat", b"/v1/chat"),
        ("http://h", "", b"/"),
        ("http://h", "/chat?a=1", b"/chat?a=1"),
        ("http://h/v1?b=2", "/chat?a=1", b"/v1/chat?b=2&a=1"),
        ("http://h/v1?b=2", "", b"/v1?b=2"),
    ],
)
def test_a_target_stands_below_the_base_url(base: str, path: str, target: bytes) -> None:
    assert target_of(base, path) == target


@pytest.mark.parametrize(
    ("status", "headers", "framed"),
    [
        (200, [(b"content-length", b"1")], True),
        (200, [(b"transfer-encoding", b"gzip, Chunked")], True),
        (200, [(b"transfer-encoding", b"gzip")], False),
        (200, [], False),
        (204, [], True),
    ],
)
def test_an_answer_is_framed_by_its_length_or_its_chunks(
    status: int, headers: list[tuple[bytes, bytes]], framed: bool
) -> None:
    assert is_framed(status, headers) is framed
