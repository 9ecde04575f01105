from __future__ import annotations

import errno
import socket
import ssl

import pytest

from infermux.providers import trust


def test_the_reason_of_several_addresses_is_the_first() -> None:
    group = ExceptionGroup("all", [ConnectionRefusedError(111, "Connection refused"), OSError(101, "No route")])
    error = OSError("all attempts to connect failed")
    error.__cause__ = ExceptionGroup("outer", [group])
    assert trust.reason(error) == "Connection refused"


def test_a_reason_names_no_address_but_the_systems_words() -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Error connecting to ('127.0.0.1', 1): Connection refused")
    assert trust.reason(refused) == "Connection refused"
    assert trust.reason(socket.gaierror(-2, "Name or service not known")) == "Name or service not known"


def test_a_reason_is_never_empty() -> None:
    assert trust.reason(OSError()) == "OSError"
    assert trust.reason(ssl.SSLError(1, "x")) == "TLS failed (SSLError)"


def test_verification_can_be_switched_off_only_on_purpose() -> None:
    assert trust.client_context().verify_mode is ssl.CERT_REQUIRED
    assert trust.client_context(verify=False).verify_mode is ssl.CERT_NONE


def test_where_the_system_trusts_nobody_certifi_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> None: ...

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", nothing)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    assert trust.client_context().cert_store_stats()["x509_ca"] > 50


def test_the_express_transports_share_one_context() -> None:
    assert trust.http1_context() is trust.http1_context()
