"""TLS to Redis: which authorities are believed, and what is shown of ourselves, as the URL's options say."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import attrs
import trio

_NO: Final = frozenset({"0", "f", "false", "n", "no"})
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")

Stamp = tuple[tuple[int, int, int] | None, ...]


@attrs.define(eq=False)
class Trust:
    """The context for connections to `url`. It is kept until one of its files changes.

    To make one takes some 60 ms where it is to believe all that the system does, so it is made in a thread.
    """

    url: str = attrs.field(repr=False)
    _kept: tuple[Stamp, ssl.SSLContext] | None = None

    async def context(self) -> ssl.SSLContext | None:
        """None: it is to be plain. Raises OSError, with the name of the option and of its file."""
        parts = urlsplit(self.url)
        if parts.scheme not in {"rediss", "valkeys"}:
            return None
        options = {name: values[0] for name, values in parse_qs(parts.query).items()}
        stamp = tuple(_stamp(options[name]) for name in _FILES if name in options)
        if self._kept is None or self._kept[0] != stamp:
            made = await trio.to_thread.run_sync(context_of, options, abandon_on_cancel=True)
            self._kept = stamp, made
        return self._kept[1]


def context_of(options: Mapping[str, str]) -> ssl.SSLContext:
    """Who names authorities of their own believes no others. Raises OSError."""
    authorities, certificate, key = (options.get(name) for name in _FILES)
    try:
        if authorities is not None and Path(authorities).is_dir():
            context = ssl.create_default_context(capath=authorities)
        else:
            context = ssl.create_default_context(cafile=authorities)
    except OSError as error:
        raise _named(error, "ssl_ca_certs", authorities) from None
    if options.get("ssl_check_hostname", "").lower() in _NO:
        context.check_hostname = False
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key, password=lambda: "")  # it would ask at a terminal
        except OSError as error:
            raise _named(error, "ssl_certfile", certificate) from None
    return context


def _named(error: OSError, option: str, file: str | None) -> OSError:
    return OSError(f"{option} {file}: {error.strerror or error}")


def _stamp(file: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
