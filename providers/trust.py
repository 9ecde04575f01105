"""Whom a client trusts over TLS, and what to say when it does not."""

from __future__ import annotations

import functools
import os
import socket
import ssl
from typing import cast


def client_context(*, ca_file: str | None = None, verify: bool = True) -> ssl.SSLContext:
    """A new context that trusts `ca_file`, or the system's store (`SSL_CERT_FILE` and `SSL_CERT_DIR` included), or
    certifi's where the system has none; with `verify` false it trusts anybody.

    Raises ValueError if `ca_file` cannot be used. Takes 10 to 30 ms.
    """
    if ca_file is not None:
        try:
            context = ssl.create_default_context(cafile=os.path.expanduser(ca_file))
        except ssl.SSLError as error:
            raise ValueError(f"{ca_file}: not a file of certificates in PEM form") from error
        except OSError as error:
            raise ValueError(f"{ca_file}: {error.strerror}") from error
    else:
        context = ssl.create_default_context()
        if not context.cert_store_stats()["x509_ca"] and "SSL_CERT_DIR" not in os.environ:
            import certifi

            context.load_verify_locations(certifi.where())
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@functools.cache
def http1_context() -> ssl.SSLContext:
    """The context all express transports share: the default trust, HTTP/1.1 only."""
    context = client_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def reason(error: BaseException) -> str:
    """Why connecting failed, in a few words: of the first address that was tried where there were several."""
    while isinstance(error, OSError) and (cause := error.__cause__) is not None:
        error = _first(cause)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({_word(error)})"
    if isinstance(error, OSError) and error.strerror:
        # trio puts the address into it, which whoever asks for a reason names already; a resolver's numbers are its own
        if error.errno is None or isinstance(error, socket.gaierror):
            return error.strerror
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def _word(error: ssl.SSLError) -> str:
    """OpenSSL's word for it, which errors raised by Python code do not have."""
    return getattr(error, "reason", None) or type(error).__name__
