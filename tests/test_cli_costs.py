"""`infermux costs`: what it prints, and what it says where there is nothing to print."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from infermux.actors.identity import Identity
from infermux.actors.ledger_rows import entry_of
from infermux.actors.record import Record
from infermux.cli.root import cli
from infermux.database.place import Place
from infermux.database.rows import write_entries
from infermux.database.store import Store
from infermux.errors import InfermuxError
from infermux.providers.interface import Usage


def config(folder: Path, url: str | None) -> str:
    file = folder / "infermux.yml"
    file.write_text(json.dumps({"providers": [{"name": "a", "type": "ollama"}], "ledger": {"url": url}}))
    return str(file)


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> str:
    """A configuration whose ledger has two requests, one of them two days old."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    now = time.time()
    usage = Usage(prompt_tokens=1000, completion_tokens=10)
    dear = Record(id="1", at=now, who=Identity(caller="team-a"), model="m", usage=usage, cost=1.5)
    unknown = Record(id="2", at=now - 2 * 86_400, who=Identity(caller="team-b"), model="n", usage=usage, cost=None)
    store = Store(Place.of(url))
    store.write(lambda connection: write_entries(connection, [entry_of(1, dear), entry_of(2, unknown)]))
    store.close()
    return config(tmp_path, url)


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["costs", *words])


def failure(*words: str) -> str:
    error = run(*words).exception
    assert isinstance(error, InfermuxError)
    return error.message


def test_a_table_has_the_dearest_first_and_the_total_last(file: str) -> None:
    head, *lines = run("-c", file).output.splitlines()
    assert head.split() == ["CALLER", "MODEL", "REQUESTS", "FAILED", "INPUT", "CACHED", "OUTPUT", "COST", "UNPRICED"]
    assert [line.split() for line in lines] == [
        ["team-a", "m", "1", "0", "1000", "0", "10", "$1.5000", "0"],
        ["team-b", "n", "1", "0", "1000", "0", "10", "unknown", "1"],
        ["total", "2", "0", "2000", "0", "20", "$1.5000", "1"],
    ]


def test_a_time_and_other_groups_narrow_it(file: str) -> None:
    lines = run("-c", file, "--since", "1d", "--group-by", "model").output.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["m", "total"]


def test_json_and_csv_are_for_programs(file: str) -> None:
    told = json.loads(run("-c", file, "--json").output)
    assert [line["cost"] for line in told["costs"]] == [1.5, None]
    rows = list(csv.DictReader(io.StringIO(run("-c", file, "--csv", "--group-by", "caller").output)))
    assert [(row["caller"], row["cost"]) for row in rows] == [("team-a", "1.5"), ("team-b", "")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--group-by", "colour"), "--group-by takes caller, model, provider"),
        (("--since", "yesterday"), "since must be an age such as"),
        (("--json", "--csv"), "--json and --csv exclude each other"),
    ],
)
def test_mistakes_are_named_with_the_exit_code_of_usage(file: str, words: tuple[str, ...], said: str) -> None:
    result = run("-c", file, *words)
    assert result.exit_code == 2
    assert said in result.output


def test_where_there_is_no_ledger_it_says_why(tmp_path: Path) -> None:
    assert "ledger.url is null" in failure("-c", config(tmp_path, None))
    assert "only the running server has it" in failure("-c", config(tmp_path, "sqlite://"))
    missing = f"sqlite:///{tmp_path}/none.db"
    assert failure("-c", config(tmp_path, missing)) == f"{missing}: No such file or directory"
    assert not (tmp_path / "none.db").exists()
