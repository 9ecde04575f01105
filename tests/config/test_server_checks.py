"""What a server could not start with is refused when the file is checked: certificates, addresses, reserved names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from infermux.config import load_text
from infermux.errors import ConfigError

ANYTHING = "providers: [{name: a, type: ollama}]\n"
UNUSABLE = (
    "infermux.yml:3: tls.cert_file: cannot be used with key_file: both must be PEM files, the key without a password"
)


def refused(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, environ={})
    return [str(problem) for problem in caught.value.problems]


def with_chain(cert_file: Path, key_file: Path) -> str:
    return f"{ANYTHING}tls:\n  cert_file: {cert_file}\n  key_file: {key_file}\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pairs of certificate and key, an authority, and a file that is none of these."""
    folder = tmp_path_factory.mktemp("certificates")
    authority: Any = trustme.CA()  # its signatures name pyOpenSSL, which is not installed
    for name in ("one", "two"):
        issued = authority.issue_cert("localhost")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    (folder / "text").write_text("not a certificate\n")
    return folder


def test_a_certificate_and_its_key_are_accepted(files: Path) -> None:
    assert load_text(with_chain(files / "one.pem", files / "one.key"), environ={}).tls.cert_file is not None


def test_a_certificate_that_is_not_there_is_named(files: Path) -> None:
    assert refused(with_chain(files / "none", files / "one.key")) == [
        "infermux.yml:3: tls.cert_file: cannot be read: No such file or directory"
    ]


def test_a_key_that_is_not_there_is_named(files: Path) -> None:
    assert refused(with_chain(files / "one.pem", files)) == [
        "infermux.yml:4: tls.key_file: cannot be read: Is a directory"
    ]


def test_the_key_of_another_certificate_is_refused(files: Path) -> None:
    assert refused(with_chain(files / "one.pem", files / "two.key")) == [
        "infermux.yml:4: tls.key_file: is not the key of the certificate in cert_file"
    ]


def test_what_is_no_certificate_is_refused(files: Path) -> None:
    assert refused(with_chain(files / "text", files / "one.key")) == [UNUSABLE]


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(files: Path) -> None:
    key: Any = load_pem_private_key((files / "one.key").read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"wxyz"))
    (files / "locked.key").write_bytes(locked)
    assert refused(with_chain(files / "one.pem", files / "locked.key")) == [UNUSABLE]


def test_authorities_are_read(files: Path) -> None:
    text = "providers:\n  - name: a\n    type: ollama\n    tls: {ca_file: %s}\n"
    assert load_text(text % (files / "ca.pem"), environ={}).providers[0].tls.ca_file is not None
    assert refused(text % (files / "none")) == [
        "infermux.yml:4: providers[0].tls.ca_file: cannot be read: No such file or directory"
    ]
    assert refused(text % (files / "text")) == [
        "infermux.yml:4: providers[0].tls.ca_file: must be a PEM file with certificates"
    ]


@pytest.mark.parametrize(
    ("listen", "management"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("127.0.0.1:9000", ":9000"),
        ("0.0.0.0:9000", "127.0.0.1:9000"),
        ("[::1]:9000", "[::]:9000"),
    ],
)
def test_management_cannot_listen_where_callers_do(listen: str, management: str) -> None:
    text = f"{ANYTHING}listen: '{listen}'\nmanagement_listen: '{management}'\n"
    assert refused(text) == [
        "infermux.yml:3: management_listen: is the address of `listen`: give it a port of its own, or leave it out"
    ]


@pytest.mark.parametrize(
    ("listen", "management"),
    [("127.0.0.1:0", "127.0.0.1:0"), ("127.0.0.1:8080", "127.0.0.1:8081"), ("127.0.0.1:8080", "127.0.0.2:8080")],
)
def test_management_may_listen_anywhere_else(listen: str, management: str) -> None:
    text = f"{ANYTHING}listen: '{listen}'\nmanagement_listen: '{management}'\n"
    assert load_text(text, environ={}).management_listen == management


def test_a_provider_cannot_have_the_name_of_one_of_the_routers_own_actors() -> None:
    assert refused("providers:\n  - name: infermux.router\n    type: ollama\n") == [
        'infermux.yml:2: providers[0].name: must not begin with "infermux.": such names are the router\'s own'
    ]
    assert load_text("providers: [{name: infermux, type: ollama}]\n", environ={}).providers[0].name == "infermux"
