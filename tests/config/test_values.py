"""How single values are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.config import values
from tests._properties import examples


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30.0),
        ("1m30s", 90.0),
        ("2h", 7200.0),
        ("1h1m1s1ms", 3661.001),
        ("1.5h", 5400.0),
        ("0s", 0.0),
        ("30", 30.0),
        ("0.5", 0.5),
    ],
)
def test_durations_are_seconds(written: str, seconds: float) -> None:
    assert values.duration(written) == seconds


REFUSED: list[tuple[Callable[[str], Any], str]] = [
    *((values.duration, text) for text in ("", "s", "1", "-1s", "1d", "1 s", "1S", "1s1m", "1.2.3s", "inf", "nan")),
    *((values.duration, text) for text in ("1e3s", "9999999h", "1:30", "\u0661s")),
    *((values.size, text) for text in ("", "1", "1 KB", "-1KB", "1kb", "1TB", "1.0001KB", "KB", "9999999999GB")),
    *((values.whole, text) for text in ("", "010", "0x10", "1.0", "1e3", "1:30", "+", "9" * 30, "\u0663")),
    *((values.decimal, text) for text in ("", ".", "1e999", "nan", ".inf", "1,5", "e3")),
    *((values.truth, text) for text in ("", "1", "0", "y", "truee")),
    *((values.name, text) for text in ("", "a b", "a/b", "é", ".", "..", "a\n")),
    *((values.header_name, text) for text in ("", "a b", "a:", "é", "a\n")),
    *((values.header_value, text) for text in ("a\r\nb: c", "é", "\x00")),
    *((values.credential, text) for text in ("", "a b", "a\n", "é")),
    *((values.address, text) for text in ("", "h", "8080", "h:", "h:x", "h:70000", "h:-1", "::1:80", "[::1]", "a b:1")),
    *((values.address, text) for text in ("http://h:1", "[1.2.3.4]:80", "h:\u0668\u0660")),
    *((values.url, text) for text in ("", "h", "ftp://h", "http://", "http:///p", "http://u@h", "http://u:p@h/")),
    *(
        (values.url, text)
        for text in ("http://h?q", "http://h#f", "http://h?", "http://h:x", "http://h:0", "http://[::1")
    ),
    *((values.url, text) for text in ("http://h /", "http://é", "//h", "https:h")),
    *((values.proxy_url, text) for text in ("", "socks5://h", "http://", "h:3128")),
    *((values.host, text) for text in ("", "a:1", "http://a", "[::g]", "a/b")),
]
ALLOWED = {(values.duration, "1"), (values.size, "1")}  # plain numbers: seconds and bytes


@pytest.mark.parametrize(("convert", "text"), [case for case in REFUSED if case not in ALLOWED])
def test_what_is_not_a_value_is_refused(convert: Callable[[str], Any], text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011, their message is made elsewhere
        convert(text)


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (values.size, "1", 1),
        (values.size, "64KB", 64_000),
        (values.size, "32MiB", 32 * 1024 * 1024),
        (values.size, "1.5GiB", 3 * 2**29),
        (values.size, "2GB", 2 * 10**9),
        (values.whole, "10_000", 10_000),
        (values.whole, "-5", -5),
        (values.decimal, "2.50", 2.5),
        (values.decimal, ".5", 0.5),
        (values.decimal, "1e3", 1000.0),
        (values.truth, "Yes", True),
        (values.truth, "OFF", False),
        (values.name, "a.B_9-", "a.B_9-"),
        (values.url, "https://h/v1/", "https://h/v1"),
        (values.url, "https://...", "https://..."),
        (values.url, "http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        (values.proxy_url, "http://u:p@h:3128", "http://u:p@h:3128"),
        (values.header_value, "", ""),
        (values.header_value, "a b\tc", "a b\tc"),
        (values.host, "Example.ORG", "example.org"),
        (values.host, "[::1]", "[::1]"),
    ],
)
def test_values_are_read(convert: Callable[[str], Any], text: str, value: object) -> None:
    assert convert(text) == value


@pytest.mark.parametrize(
    ("written", "host", "port", "loopback"),
    [
        (":8080", "", 8080, False),
        ("127.0.0.1:8080", "127.0.0.1", 8080, True),
        ("127.1.2.3:0", "127.1.2.3", 0, True),
        ("localhost:80", "localhost", 80, True),
        ("[::1]:8080", "::1", 8080, True),
        ("[::]:8080", "::", 8080, False),
        ("0.0.0.0:8080", "0.0.0.0", 8080, False),
        ("example.org:443", "example.org", 443, False),
    ],
)
def test_an_address_knows_whether_it_is_loopback(written: str, host: str, port: int, loopback: bool) -> None:
    address = values.address(written)
    assert (address.host, address.port, address.is_loopback, str(address)) == (host, port, loopback, written)


@given(st.integers(min_value=1, max_value=10_000_000))
@settings(max_examples=examples(100), deadline=None)
def test_a_shown_duration_reads_back(milliseconds: int) -> None:
    assert values.duration(values.show_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, rel=1e-5)


@given(st.integers(min_value=0, max_value=2**50))
@settings(max_examples=examples(100), deadline=None)
def test_a_shown_size_reads_back(count: int) -> None:
    assert values.size(values.show_size(count)) == count


@given(st.text(max_size=20))
@settings(max_examples=examples(150), deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    for convert in (
        values.duration,
        values.size,
        values.whole,
        values.decimal,
        values.url,
        values.address,
        values.host,
    ):
        try:
            convert(text)
        except ValueError:
            continue
