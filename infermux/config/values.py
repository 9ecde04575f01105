"""How one value of the configuration is written: durations, sizes, numbers, addresses, URLs, names.

Every function takes the text and returns the value, or raises ValueError; the message for the reader is made by whoever
knows the key. Durations are seconds, sizes bytes.
"""

from __future__ import annotations

import ipaddress
import math
import re
from urllib.parse import SplitResult, urlsplit

import attrs

_WHOLE = re.compile(r"[+-]?(?:0|[1-9][0-9_]*)")
_DECIMAL = re.compile(r"[+-]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DURATION = re.compile(r"(?:(?P<h>[0-9.]+)h)?(?:(?P<m>[0-9.]+)m)?(?:(?P<s>[0-9.]+)s)?(?:(?P<ms>[0-9.]+)ms)?")
_DURATION_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_TAG = re.compile(r"[A-Za-z0-9._-]{1,64}=[\x20-\x2b\x2d-\x7e]+")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(KB|MB|GB|KiB|MiB|GiB)?")
_SIZE_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_NAME = re.compile(r"[a-zA-Z0-9._-]+")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2: token
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})

LONGEST_DURATION = 10 * 365 * 24 * 3600.0
LARGEST_WHOLE = 2**53
MOST_DOLLARS = 1e9  # of a budget: as nano-dollars, which is what is counted, 64 bits hold nine times as many


def whole(text: str) -> int:
    """A whole number in decimal. Octal, hexadecimal and base-60 forms of YAML 1.1 are refused: they surprise."""
    if len(text) > 20 or not _WHOLE.fullmatch(text):
        raise ValueError(text)
    number = int(text.replace("_", ""))
    if abs(number) > LARGEST_WHOLE:
        raise ValueError(text)
    return number


def decimal(text: str) -> float:
    """A finite number, with or without a fraction."""
    if not _DECIMAL.fullmatch(text):
        raise ValueError(text)
    number = float(text.replace("_", ""))
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def truth(text: str) -> bool:
    """The words YAML 1.1 takes for true and false, in any case."""
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(text)


def duration(text: str) -> float:
    """Seconds from `250ms`, `1.5s`, `1m30s`, `2h`, or a plain number of seconds. Never negative."""
    if _DECIMAL.fullmatch(text):
        seconds = decimal(text)
    else:
        match = _DURATION.fullmatch(text)
        if not match or not text:
            raise ValueError(text)
        parts = ((float(number), unit) for unit, number in match.groupdict().items() if number is not None)
        seconds = sum(number * _DURATION_UNITS[unit] for number, unit in parts)
    if not 0 <= seconds <= LONGEST_DURATION:
        raise ValueError(text)
    return round(seconds, 9)


def show_duration(seconds: float) -> str:
    """The shortest usual way to write it: 0.2 is `200ms`, 60 `60s`, 300 `5m`."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    if seconds >= 120 and seconds % 60 == 0:
        return f"{seconds / 60:g}m"
    return f"{seconds:g}s"


def size(text: str) -> int:
    """Bytes from `64KB`, `32MiB`, `1.5GiB` or a plain number of bytes."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(text)
    number, unit = match.groups()
    count = float(number) * _SIZE_UNITS.get(unit, 1)
    if count != int(count) or count > LARGEST_WHOLE:
        raise ValueError(text)
    return int(count)


def show_size(count: int) -> str:
    """`32MiB` for a whole number of binary units, else plain bytes."""
    for unit in ("GiB", "MiB", "KiB"):
        if count and count % _SIZE_UNITS[unit] == 0:
            return f"{count // _SIZE_UNITS[unit]}{unit}"
    return str(count)


def name(text: str) -> str:
    """A name fit for headers, URLs and log lines."""
    if not _NAME.fullmatch(text) or text in {".", ".."}:
        raise ValueError(text)
    return text


def tag(text: str) -> str:
    """`NAME=VALUE` as callers write their tags."""
    if not _TAG.fullmatch(text):
        raise ValueError(text)
    return text


def url(text: str) -> str:
    """An http or https URL with a host and without user information, query or fragment; a trailing slash is dropped."""
    parts = _web_url(text)
    if parts.query or parts.fragment or "?" in text or "#" in text or "@" in parts.netloc:
        raise ValueError(text)
    return text.rstrip("/")


def proxy_url(text: str) -> str:
    """The URL of an HTTP proxy; user information is allowed, it is how proxies take credentials."""
    _web_url(text)
    return text


def _web_url(text: str) -> SplitResult:
    if not _VISIBLE.fullmatch(text):
        raise ValueError(text)
    parts = urlsplit(text)  # raises ValueError for bad brackets
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(text)
    if parts.port == 0:  # reading the port raises ValueError when it is no number or out of range
        raise ValueError(text)
    return parts


def header_name(text: str) -> str:
    """A header's name by RFC 9110."""
    if not _HEADER_NAME.fullmatch(text):
        raise ValueError(text)
    return text


def header_value(text: str) -> str:
    """A header's value: ASCII without line breaks, so that none can be smuggled in."""
    if not _HEADER_VALUE.fullmatch(text):
        raise ValueError(text)
    return text


def credential(text: str) -> str:
    """A key that can stand in a header: visible ASCII, no spaces."""
    if not _VISIBLE.fullmatch(text):
        raise ValueError(text)
    return text


@attrs.frozen
class Address:
    """Where to listen. An empty `host` means every address of the machine."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address(text: str) -> Address:
    """`127.0.0.1:8080`, `localhost:8080`, `[::1]:8080` or `:8080`; port 0 lets the system choose."""
    host, colon, port_text = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port_text) or int(port_text) > 65535:
        raise ValueError(text)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        ipaddress.IPv6Address(host)
    elif host and not _HOST.fullmatch(host):
        raise ValueError(text)
    return Address(host, int(port_text))


def host(text: str) -> str:
    """A host name or address as a Host header has it, without the port; in lower case."""
    if text.startswith("[") and text.endswith("]"):
        ipaddress.IPv6Address(text[1:-1])
    elif not _HOST.fullmatch(text):
        raise ValueError(text)
    return text.lower()
