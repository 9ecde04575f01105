"""`infermux keys`: what it prints, and what it is told when something is wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infermux.actors.purse import bounds
from infermux.cli import root
from infermux.database.budgets import Added, Batch, add
from infermux.database.place import Place
from infermux.database.store import Store

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `infermux keys ...` on a database of its own: exit code, stdout, stderr."""
    path = tmp_path / "infermux.yml"
    path.write_text(
        "auth: {mode: keys}\n"
        f"ledger: {{url: 'sqlite:///{tmp_path}/keys.db'}}\n"
        "providers: [{name: a, type: ollama}]\n"
        "routing: {groups: [{name: fast, models: [x]}]}\n"
    )

    def run(*words: str, config: Path = path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["infermux", "keys", words[0], "-c", str(config), *words[1:]])
        with pytest.raises(SystemExit) as left:
            root.run()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


def shown(run: Run, *words: str) -> Any:
    code, out, err = run(*words, "--json")
    assert code == 0, err
    return json.loads(out)


def test_a_key_is_printed_alone_and_once(run: Run) -> None:
    code, out, err = run("create", "--name", "team-a")
    assert code == 0
    assert out.startswith("ifx_")
    assert len(out.split()) == 1
    assert "the only time the key is shown" in err
    secret = out.strip().rpartition("_")[2]
    for words in (("list",), ("list", "--json"), ("show", "team-a"), ("show", "team-a", "--json")):
        code, again, _ = run(*words)
        assert code == 0
        assert "team-a" in again
        assert secret not in again


def test_everything_a_key_can_have(run: Run) -> None:
    words = "--models gpt-*,o3 --models claude-* --groups fast --rpm 60 --tpm 100000 --max-concurrent 4"
    more = "--budget 50/month --expires 90d --priority batch --names-callers"
    made = shown(run, "create", "--name", "all", *words.split(), *more.split())
    assert made.pop("key").startswith(f"ifx_{made['id']}_")
    assert {**made, "spent_usd": 0} == shown(run, "show", made["id"])
    assert made["models"] == ["gpt-*", "o3", "claude-*"]
    assert (made["budget"], made["priority"], made["names_callers"]) == ("50/month", "batch", True)
    _, table, _ = run("list")
    assert "60 rpm, 100000 tpm, 4 at once" in table
    assert "gpt-*, o3, claude-*" in table


def test_a_revoked_key_is_listed_only_when_asked_for(run: Run) -> None:
    made = shown(run, "create", "--name", "a")
    assert run("revoke", "a")[:2] == (0, f"revoked a ({made['id']})\n")
    assert shown(run, "list") == {"keys": []}
    assert [key["state"] for key in shown(run, "list", "--all")["keys"]] == ["revoked"]
    assert shown(run, "revoke", made["id"])["state"] == "revoked"
    assert run("revoke", "a")[0] == 1


def test_a_rotated_key_is_another_text_of_the_same_key(run: Run) -> None:
    made = shown(run, "create", "--name", "a")
    again = shown(run, "rotate", "a", "--keep-old", "1h")
    assert again["id"] == made["id"]
    assert again["key"] != made["key"]
    assert again["old_secret_until"] is not None
    code, out, _ = run("rotate", "a")
    assert (code, out.startswith(f"ifx_{made['id']}_")) == (0, True)
    run("revoke", "a")
    code, _, err = run("rotate", made["id"])
    assert (code, "was revoked" in err) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rpm", "0"), "--rpm must be a whole number above zero"),
        (("--budget", "50"), "--budget must be US dollars per day, week or month, such as 50/month"),
        (("--budget", "0/month"), "--budget must be more than 0 and at most 1000000000 US dollars, not 0"),
        (("--budget", "1e23/day"), "at most 1000000000 US dollars, not 1e23"),
        (("--expires", "99999999d"), "--expires must be a time above zero, and at most 36500d, not 99999999d"),
        (("--expires", "90"), "--expires must be a time above zero such as 90d"),
        (("--models", ""), "--models must not be empty: nothing could be asked for. Left out, it is everything"),
        (("--models", ",,,"), "--models must not be empty"),
        (("--groups", " "), "--groups must not be empty"),
        (("--name", "a b"), "--name must be 1 to 100 letters"),
        (("--priority", "urgent"), "'urgent' is not one of"),
    ],
)
def test_what_is_wrong_is_named_by_its_option(run: Run, words: tuple[str, str], said: str) -> None:
    code, out, err = run("create", "--name", "a", *words)
    assert (code, out) == (2, "")
    assert said in " ".join(err.split())


def test_a_name_that_is_taken_and_one_that_is_not_there(run: Run) -> None:
    run("create", "--name", "a")
    assert run("create", "--name", "a")[0] == 1
    code, _, err = run("show", "b")
    assert (code, err) == (1, "infermux: there is no key with the id or name 'b'\n")
    assert run("rotate", "a", "--keep-old", "soon")[0] == 2


def test_what_will_not_work_is_said(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "open.yml"
    other.write_text(f"ledger: {{url: 'sqlite:///{tmp_path}/keys.db'}}\nproviders: [{{name: a, type: ollama}}]\n")
    code, _, err = run("create", "--name", "a", "--groups", "fats", config=other)
    assert code == 0
    assert "no route group named 'fats'" in err
    assert "has auth.mode: open; keys are asked for with auth.mode: keys" in err
    other.write_text("ledger: {url: null}\nproviders: [{name: a, type: ollama}]\n")
    code, _, err = run("list", config=other)
    assert (code, "ledger.url: null" in err) == (1, True)


def test_an_expired_key_is_not_rotated(run: Run) -> None:
    """Its new secret could open nothing."""
    run("create", "--name", "a", "--expires", "1ms")
    code, out, err = run("rotate", "a")
    assert (code, out, err) == (1, "", "infermux: the key 'a' has expired: create another one\n")


def test_no_key_is_called_as_another_one_is_identified(run: Run) -> None:
    made = shown(run, "create", "--name", "a")
    code, _, err = run("create", "--name", made["id"])
    assert (code, err) == (1, f"infermux: '{made['id']}' is the id of another key: choose another name\n")


def test_what_a_key_has_spent_of_its_budget_is_shown(run: Run, tmp_path: Path) -> None:
    made = shown(run, "create", "--name", "a", "--budget", "5/month")
    start = int(bounds("month", time.time())[0])
    rows = [Added("key", who, "month", start, much, much) for who, much in ((made["id"], 2_500_000_000), ("other", 7))]
    store = Store(Place.of(f"sqlite:///{tmp_path}/keys.db"))
    store.write(lambda connection: add(connection, Batch(1, 1, rows)))
    store.close()
    assert shown(run, "show", "a")["spent_usd"] == 2.5
    assert shown(run, "show", shown(run, "create", "--name", "b")["id"])["spent_usd"] is None
