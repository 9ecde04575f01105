from __future__ import annotations

import pytest

from infermux.providers.proxies import proxy_for

HTTP, HTTPS = "http://api.test/v1", "https://api.test/v1"


def test_without_variables_there_is_no_proxy() -> None:
    assert proxy_for(HTTPS, {}) is None
    assert proxy_for(HTTPS, {"HTTPS_PROXY": " ", "HTTP_PROXY": "http://p:1"}) is None


def test_each_scheme_has_its_variable_and_all_proxy_stands_in() -> None:
    environ = {"HTTP_PROXY": "http://a:1", "HTTPS_PROXY": "http://b:2"}
    assert (proxy_for(HTTP, environ), proxy_for(HTTPS, environ)) == ("http://a:1", "http://b:2")
    assert proxy_for(HTTP, {"ALL_PROXY": "socks5://c:3"}) == "socks5://c:3"
    assert proxy_for(HTTP, environ | {"ALL_PROXY": "http://c:3"}) == "http://a:1"


def test_lower_case_wins_and_a_missing_scheme_is_http() -> None:
    assert proxy_for(HTTP, {"HTTP_PROXY": "http://a:1", "http_proxy": "b:2"}) == "http://b:2"


def test_under_cgi_the_upper_case_variable_is_the_callers_header() -> None:
    assert proxy_for(HTTP, {"REQUEST_METHOD": "GET", "HTTP_PROXY": "http://evil:1"}) is None
    assert proxy_for(HTTP, {"REQUEST_METHOD": "GET", "http_proxy": "http://a:1"}) == "http://a:1"


@pytest.mark.parametrize(
    ("url", "no_proxy", "direct"),
    [
        ("http://api.test", "*", True),
        ("http://api.test", "", False),
        ("http://api.test", "other.test, api.test", True),
        ("http://API.test", "api.TEST", True),
        ("http://api.test", "test", True),
        ("http://api.test", ".test", True),
        ("http://api.test", "*.test", True),
        ("http://api.test", "pi.test", False),
        ("http://api.test:81", "api.test:80", False),
        ("http://api.test", "api.test:80", True),
        ("https://api.test", "api.test:443", True),
        ("http://127.0.0.1:8080", "127.0.0.1", True),
        ("http://127.0.0.1:8080", "127.0.0.0/8", True),
        ("http://127.0.0.1:8080", "10.0.0.0/8,192.168.0.1", False),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", True),
        ("http://127.0.0.1:8080", "localhost", False),
        ("http://[::1]:8080", "::1", True),
        ("http://[::1]:8080", "[::1]", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://[::1]:8080", "127.0.0.0/8", False),
    ],
)
def test_no_proxy_names_what_is_reached_directly(url: str, no_proxy: str, direct: bool) -> None:
    proxy = proxy_for(url, {"ALL_PROXY": "http://p:1", "NO_PROXY": no_proxy})
    assert proxy == (None if direct else "http://p:1")
