"""What becomes of errors: a sentence on stderr, an object on stdout for who asked for JSON, an exit code."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path

import pytest

from infermux.cli.root import cli, run
from infermux.errors import InfermuxError


def ended(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(sys, "argv", ["infermux", *arguments])
    with pytest.raises(SystemExit) as caught:
        run()
    return caught.value.code


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - pytest
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_failure_is_an_object_on_stdout_where_json_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended("provider", "show", "none", "--json", monkeypatch=monkeypatch) == 1
    out, err = capsys.readouterr()
    said = "there is no provider 'none'; there are: none"
    assert (json.loads(out), err) == ({"error": said}, f"infermux: {said}\n")
    assert ended("provider", "show", "none", monkeypatch=monkeypatch) == 1
    assert capsys.readouterr().out == ""


def test_so_is_a_configuration_that_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / ".infermux").mkdir()
    (tmp_path / ".infermux" / "providers.json").write_text("[]")
    assert ended("provider", "list", "--json", monkeypatch=monkeypatch) == 2
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem["file"] == str(tmp_path / ".infermux" / "providers.json")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EROFS, "Read-only file system", "/home/x"), "/home/x: Read-only file system"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError("odd"), "odd"),
        (InfermuxError("wrong"), "wrong"),
    ],
)
def test_an_error_of_the_system_names_its_file(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "main", fail)
    assert ended(monkeypatch=monkeypatch) == 1
    assert capsys.readouterr().err == f"infermux: {said}\n"
