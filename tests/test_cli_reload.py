"""`infermux reload`: whom it asks, and what it makes of the answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from infermux.cli import root
from infermux.cli.asking import Target, declared, named
from infermux.config import load_text
from tests._asked import Asked, asked

Run = Callable[..., tuple[int, str, str]]
PROVIDERS = "providers: [{name: a, type: ollama}]\n"
DONE: dict[str, Any] = {
    "file": "/x.yml",
    "dry_run": False,
    "changed": True,
    "difference": {},
    "summary": ["+ provider a"],
}
PROBLEM = {"file": "/x.yml", "line": 3, "path": "a.b", "message": "is wrong"}


class Stub(Asked):
    """Answers as it is told."""

    status = 200
    body: bytes = b""

    def do_POST(self) -> None:
        self.note()
        self.answer(self.status, self.body)


@pytest.fixture
def stub() -> Generator[tuple[type[Stub], str]]:
    with asked(Stub) as found:
        yield found


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs `infermux reload` in an empty directory: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    for name in ("INFERMUX_CONFIG", "INFERMUX_MANAGEMENT_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["infermux", "reload", *arguments])
        with pytest.raises(SystemExit) as caught:
            root.run()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


def test_what_was_done_is_printed_and_a_token_is_sent(
    run: Run, stub: tuple[type[Stub], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = stub
    server.body = json.dumps({**DONE, "warnings": [PROBLEM]}).encode()
    assert run("--url", url) == (0, "/x.yml: reloaded\n+ provider a\n", "/x.yml:3: a.b: warning: is wrong\n")
    server.body = json.dumps({**DONE, "warnings": []}).encode()
    monkeypatch.setenv("INFERMUX_MANAGEMENT_TOKEN", "tok-en")
    assert run("--url", url, "--dry-run")[1] == "/x.yml: would change\n+ provider a\n"
    code, out, _ = run("--url", url, "--json")
    assert (code, json.loads(out)) == (0, {**DONE, "warnings": []})
    server.body = json.dumps({**DONE, "warnings": [], "changed": False, "summary": []}).encode()
    assert run("--url", url)[1] == "/x.yml: nothing has changed\n"
    assert [path.partition("=")[2] for path, _ in server.asked] == ["false", "true", "false", "false"]
    assert [token for _, token in server.asked] == [None, *["Bearer tok-en"] * 3]


def test_a_refused_file_is_exit_code_2_with_every_problem(run: Run, stub: tuple[type[Stub], str]) -> None:
    server, url = stub
    server.status, server.body = 400, json.dumps({"error": {"message": "x"}, "problems": [PROBLEM]}).encode()
    code, out, err = run("--url", url)
    assert (code, out, err.splitlines()[0]) == (2, "", "/x.yml:3: a.b: is wrong")
    code, out, _ = run("--url", url, "--json")
    assert (code, json.loads(out)["problems"]) == (2, [PROBLEM])


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (
            401,
            b'{"error": {"message": "management asks for the token"}}',
            "answered 401: management asks for the token",
        ),
        (503, b'{"error": {"message": "shutting down"}}', "answered 503: shutting down"),
        (200, b"<html>", "is no infermux: 200"),
        (404, b"[]", "is no infermux: 404"),
    ],
)
def test_any_other_answer_is_exit_code_1_with_a_sentence(
    run: Run, stub: tuple[type[Stub], str], status: int, body: bytes, said: str
) -> None:
    server, url = stub
    server.status, server.body = status, body
    code, out, err = run("--url", url)
    assert (code, out) == (1, "")
    assert said in err
    assert "Traceback" not in err


def test_without_a_router_it_says_where_it_looked(run: Run) -> None:
    Path("infermux.yml").write_text(PROVIDERS + "listen: 127.0.0.1:1\n")
    code, out, err = run()
    assert (code, out) == (1, "")
    assert "no router answers at http://127.0.0.1:1: " in err
    assert "--url" in err


def test_a_bad_file_of_its_own_is_exit_code_2_and_nobody_is_asked(run: Run) -> None:
    Path("infermux.yml").write_text(PROVIDERS + "colour: red\n")
    code, _, err = run()
    assert code == 2
    assert "infermux.yml:2: colour: " in err
    assert "goes on with the one it has" in err


def test_management_is_found_by_the_file() -> None:
    assert declared(load_text(PROVIDERS)).url == "http://127.0.0.1:8080"
    assert declared(load_text(PROVIDERS + "listen: ':9'\n")).url == "http://127.0.0.1:9"
    assert declared(load_text(PROVIDERS + "listen: ':9'\nmanagement_listen: '[::1]:10'\n")).url == "http://[::1]:10"


def test_an_address_may_be_named_with_and_without_its_scheme() -> None:
    assert named("127.0.0.1:8081") == Target(host="127.0.0.1", port=8081)
    assert named("https://router.example") == Target(host="router.example", port=443, secure=True)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://u:secret@h", "http://h:port"])
def test_other_addresses_are_refused(run: Run, url: str) -> None:
    code, _, err = run("--url", url)
    assert (code, "--url takes an address" in err) == (2, True)
