"""Which router is chatted with."""

from __future__ import annotations

import json
import os
from pathlib import Path

import attrs
import pytest

from infermux.cli import asking
from infermux.cli.asking import DEFAULT, Target, places
from infermux.cli.chat import router_of
from infermux.daemon.lock import Facts, Home
from infermux.errors import ConfigError

DAEMON = Facts(pid=1, fd=3, since=0.0, version="1", cwd="/", url="http://127.0.0.1:1", management="http://127.0.0.1:2")


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with nothing in it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("INFERMUX_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(**config: object) -> None:
    with open("infermux.yml", "w") as file:
        json.dump({"providers": [{"name": "one", "type": "simulated"}], **config}, file)


def runs(monkeypatch: pytest.MonkeyPatch, facts: Facts | None) -> None:
    def holder(home: Home) -> Facts | None:
        return facts

    monkeypatch.setattr(asking, "holder", holder)


def test_without_anything_it_is_where_a_router_listens_by_default() -> None:
    assert places(None, None) == (DEFAULT, DEFAULT)


def test_a_file_says_where_its_router_is_and_its_management() -> None:
    write(listen=":1", management_listen="127.0.0.1:2")
    assert places(None, None) == (Target(host="127.0.0.1", port=1), Target(host="127.0.0.1", port=2))


def test_a_named_file_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(ConfigError):
        places(None, "no.yml")


def test_a_daemon_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, DAEMON)
    assert [place.url for place in places(None, None)] == ["http://127.0.0.1:1", "http://127.0.0.1:2"]


def test_a_daemon_with_tls_on_its_one_address_is_asked_with_its_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://127.0.0.1:1"
    runs(monkeypatch, attrs.evolve(DAEMON, url=url, management=url, cert_file="own.pem"))
    there = Target(host="127.0.0.1", port=1, secure=True, cert_file="own.pem")
    assert places(None, None) == (there, there)


def test_an_address_that_is_named_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, DAEMON)
    write(listen=":3")
    assert {place.url for place in places("localhost:4", None)} == {"http://localhost:4"}


def test_a_file_here_comes_before_a_daemon_with_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, attrs.evolve(DAEMON, config=os.path.join("/", "other.yml")))
    write(listen=":3")
    assert places(None, None)[0].port == 3


def test_a_daemon_that_was_restarted_elsewhere_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, DAEMON)
    router, named = router_of(None, None), router_of("http://127.0.0.1:5", None)
    runs(monkeypatch, attrs.evolve(DAEMON, url="http://127.0.0.1:3", management="http://127.0.0.1:4"))
    assert (router.client.where, router.management.url) == ("http://127.0.0.1:3", "http://127.0.0.1:4")
    assert named.client.where == "http://127.0.0.1:5"
    runs(monkeypatch, None)
    assert router.client.where == "http://127.0.0.1:3"


def test_a_daemon_that_is_started_later_is_another_router(monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, None)
    router = router_of(None, None)
    runs(monkeypatch, DAEMON)
    assert router.client.where == DEFAULT.url
