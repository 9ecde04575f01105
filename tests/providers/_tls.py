"""Certificates for tests."""

from __future__ import annotations

import ssl
from typing import Any

import trustme


class Authority:
    """A certificate authority that nobody trusts yet."""

    def __init__(self) -> None:
        # trustme's signatures name pyOpenSSL, which is not installed.
        self._ca: Any = trustme.CA()

    @property
    def pem(self) -> bytes:
        text: bytes = self._ca.cert_pem.bytes()
        return text

    def server_context(self, *protocols: str) -> ssl.SSLContext:
        """For a server that is `localhost` and speaks `protocols`."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._ca.issue_cert("localhost").configure_cert(context)
        context.set_alpn_protocols(list(protocols))
        return context

    def trust(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """Make the client's `context` trust this authority."""
        self._ca.configure_trust(context)
        return context
