"""Which printed lines name a socket that may be used."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator
from pathlib import Path

import pytest

from infermux.processes.socket_path import names_a_path, trusted
from infermux.processes.spec import NotLaunched


@pytest.fixture
def listening(tmp_path: Path) -> Generator[Path]:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        yield path


def test_a_socket_of_ours_is_taken_and_removed(listening: Path) -> None:
    found = trusted(bytes(listening))
    assert found.path == listening
    found.unlink()
    assert not listening.exists()
    found.unlink()


def test_a_later_socket_at_the_same_path_stays(listening: Path) -> None:
    found = trusted(bytes(listening))
    listening.rename(listening.with_name("first"))  # its inode stays in use
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(listening))
    found.unlink()
    assert listening.exists()


@pytest.mark.parametrize(
    ("printed", "complaint"),
    [
        ("{tmp}/nothing", "does not exist .*listen first"),
        ("{tmp}/file", "is not a socket"),
        ("{tmp}", "is not a socket"),
        ("{tmp}/link", "is not a socket"),
        ("{tmp}/file/socket", "cannot be looked at: Not a directory"),
        ("/" + "x" * 107, "longer than 107 bytes"),
        ("/etc/\x00", "not a usable path"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, listening: Path, printed: str, complaint: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(listening)
    with pytest.raises(NotLaunched, match=complaint):
        trusted(printed.format(tmp=tmp_path).encode())


def test_a_socket_of_somebody_else_is_refused(listening: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(NotLaunched, match="a socket of another user"):
        trusted(bytes(listening))


@pytest.mark.parametrize(
    ("name", "more", "goes"), [("infermux-x", False, True), ("infermux-x", True, False), ("mine", False, False)]
)
def test_the_folder_that_was_made_for_it_alone_goes_with_it(tmp_path: Path, name: str, more: bool, goes: bool) -> None:
    folder = tmp_path / name
    folder.mkdir()
    if more:
        (folder / "notes").touch()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s"))
        trusted(bytes(folder / "s")).unlink()
    assert not (folder / "s").exists()
    assert folder.exists() is not goes


def test_only_an_absolute_path_is_the_announcement() -> None:
    assert names_a_path(b"/run/x.sock")
    assert not any(map(names_a_path, [b"", b"Listening on /run/x.sock", b"x.sock", b" /run/x.sock", b"~/x"]))
