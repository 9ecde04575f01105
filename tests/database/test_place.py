"""Where the database is: URLs that are taken, and those that are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from infermux.database.place import Place


def test_three_slashes_are_relative_and_four_absolute() -> None:
    assert Place.of("sqlite:///ledger.db").file == Path("ledger.db")
    assert Place.of("sqlite:////var/lib/ledger.db").file == Path("/var/lib/ledger.db")


def test_the_tilde_is_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Place.of("sqlite:///~/.infermux/ledger.db").file == Path("/home/somebody/.infermux/ledger.db")


def test_sqlite_without_a_path_is_in_memory() -> None:
    for url in ("sqlite://", "sqlite:///:memory:"):
        assert Place.of(url).in_memory
    assert not Place.of("sqlite:///ledger.db").in_memory


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_postgresql_is_spoken_to_by_psycopg_whatever_its_scheme_is_called(scheme: str) -> None:
    place = Place.of(f"{scheme}://somebody:hidden@db.example:5433/ledger?sslmode=require")
    assert place.url == "postgresql+psycopg://somebody:hidden@db.example:5433/ledger?sslmode=require"
    assert place.postgresql


def test_a_password_is_not_shown() -> None:
    place = Place.of("postgresql://somebody:hidden@db.example/ledger?password=hidden")
    assert str(place) == "postgresql://db.example/ledger"
    assert "hidden" not in repr(place)


def test_a_socket_of_this_machine_has_no_host() -> None:
    assert str(Place.of("postgresql:///ledger?host=/run/postgresql")) == "postgresql:///ledger"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///",
        "",
        "ledger.db",
        "mysql://hidden@host/ledger",
        "sqlite:/hidden",
        "sqlite://hidden/ledger.db",
        "sqlite:///hidden?mode=ro",
        "sqlite:///hid\nden",
        "postgresql://hidden@host",
        "postgresql://hidden@host:0/ledger",
        "postgresql://somebody:hidden/2@host/ledger",
        "postgresql://hidden@[host/ledger",
    ],
)
def test_what_names_no_database_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the message is looked at below
        Place.of(url)
    assert "hidden" not in str(refused.value)
