"""`infermux bench`: what it refuses, what it tells before money is spent, what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from infermux.bench import accounting
from infermux.bench.process import free_port
from infermux.cli.bench import Asked, bench, chosen
from tests.bench._made import SCENARIOS
from tests.bench._server import EVENTS, GOOD, STREAM, Server, serving

ROOT = Path(__file__).parent.parent
SHORT = ("--scenario", "whole-16", "--rounds", "2", "--requests", "5", "--callers", "1")


def run(*words: str, typed: str | None = None, **environ: str) -> Result:
    return CliRunner().invoke(bench, words, input=typed, env=environ)


def against(server: Server, *words: str, **environ: str) -> Result:
    return run("--url", server.url, "--model", "m", *words, **environ)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--scenario", "whole"), "there is no whole; there are: all, whole-16"),
        (("--scenario", "whole-16,"), "a name is missing in 'whole-16,'"),
        (("--scenario", "all,whole-16"), "all is said alone, without further names"),
        (("--seconds", "soon"), "'soon' is not a duration from 100ms to 1h"),
        (("--seconds", "2h"), "not a duration from 100ms to 1h"),
        (("--model", "m", "--pid", "1"), "--model, --pid: only with --url"),
        (("--url", "http://127.0.0.1:1"), "--url needs --model"),
        (("--url", "127.0.0.1:1", "--model", "m"), "must be an http:// or https:// URL"),
        (("--url", "http://me:sk-1@127.0.0.1", "--model", "m"), "without user information"),
        (("--url", "http://127.0.0.1:1", "--model", "m", "--key-env", "sk-live"), "there is no environment variable"),
        (("--url", "http://127.0.0.1:1", "--model", "m", "--direct-model", "x"), "belong to --direct"),
        (("--url", "http://127.0.0.1:1", "--model", "m", "--pid", str(10**20)), "--pid: there is no process 1000000"),
        (("--url", "http://127.0.0.1:1", "--model", "m", "--pid", str(2**31 - 1)), "there is no process 2147483647"),
        (("--url", "https://127.0.0.1:1", "--model", "m", "--generator", "c"), "plain http over IPv4 only"),
        (("--rate", "0"), "--rate"),
        (("--rounds", "0"), "--rounds"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: tuple[str, ...], complaint: str) -> None:
    found = run(*words)
    assert found.exit_code == 2
    assert complaint in found.stderr


def test_scenarios_are_listed() -> None:
    assert "streams-5000  " in run("--list").stdout
    names = [each["name"] for each in json.loads(run("--list", "--json").stdout)]
    assert names[0] == "whole-16"


def test_scenarios_of_ones_own_come_first_and_win(tmp_path: Path) -> None:
    file = tmp_path / "mine.yml"
    file.write_text("scenarios: {mine: {}, whole-16: {title: another}}")
    found = json.loads(run("--scenarios", str(file), "--list", "--json").stdout)
    assert [each["name"] for each in found[:2]] == ["mine", "whole-16"]
    assert found[1]["title"] == "another"


def test_all_for_a_deployment_are_those_that_differ_by_their_load() -> None:
    mine = {name: SCENARIOS[name] for name in ("whole-16", "failover", "translated-messages", "translated-chat")}
    for theirs, names in ((True, ["whole-16", "translated-messages"]), (False, list(mine))):
        assert [each.name for each in chosen(mine, "all", None, theirs=theirs)] == names


def test_a_folder_that_cannot_be_made_is_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with serving(GOOD) as server:
        found = against(server, *SHORT, "--out", str(tmp_path / "file" / "out"))
    assert found.exit_code == 2
    assert "--out: cannot be written to: Not a directory" in found.stderr
    assert server.heads == []


def test_a_title_tells_what_the_command_line_changed() -> None:
    asked = Asked(seconds=1.0, rounds=None, callers=None, rate=200.0, requests=None)
    assert asked.applied(SCENARIOS["whole-16"]).title.endswith("closed loop (here: seconds 1, rate 200)")
    nothing = Asked(seconds=None, rounds=None, callers=None, rate=None, requests=None)
    assert nothing.applied(SCENARIOS["whole-16"]) == SCENARIOS["whole-16"]


ELSEWHERE = ("--url", "http://192.0.2.1/v1", "--model", "m", "--scenario", "whole-16", "--rounds", "3")
TOLD = "at most 301 requests to http://192.0.2.1/v1: about 112875 tokens in and 15050 out, which may cost money"


@pytest.mark.parametrize("typed", [None, "n\n"])
def test_a_load_that_leaves_the_machine_needs_a_yes(typed: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if typed is not None:
        monkeypatch.setattr("infermux.cli.bench._is_interactive", lambda: True)
    found = run(*ELSEWHERE, typed=typed)
    assert found.exit_code == (2 if typed is None else 1)
    assert TOLD in found.stderr
    assert ("--yes" if typed is None else "Aborted") in found.stderr


@pytest.mark.slow
def test_what_was_measured_is_printed_and_written(tmp_path: Path) -> None:
    with serving(GOOD) as server:
        found = against(server, *SHORT, "--out", str(tmp_path / "out"), "--key-env", "MY_KEY", MY_KEY="sk-mine")
    assert found.exit_code == 0, found.stderr
    assert "| server | " in found.stdout
    assert len(server.heads) == 11  # one before the load
    assert all(b"Authorization: Bearer sk-mine" in head for head in server.heads)
    files = {file.name: file.read_text() for file in (tmp_path / "out").iterdir()}
    assert files.keys() == {"bench.json", "bench.md", "bench.svg"}
    written = json.loads(files["bench.json"])
    assert written["machine"].keys() >= {"cpu", "python", "infermux", "url", "time"}
    assert [row["requests"] for row in written["scenarios"][0]["rows"]] == [10]
    assert not any("sk-mine" in text for text in (found.output, *files.values()))


@pytest.mark.slow
def test_headers_of_a_scenario_are_sent_and_their_values_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "mine.yml"
    file.write_text("scenarios: {mine: {requests: 1, rounds: 1, callers: 1, headers: {X-Team: '${TEAM}'}}}")
    with serving(GOOD) as server:
        found = against(server, "--scenarios", str(file), "--json", TEAM="hush")
    assert all(b"\r\nX-Team: hush" in head for head in server.heads)
    assert json.loads(found.stdout)["scenarios"][0]["settings"]["headers"] == ["X-Team"]
    assert "hush" not in found.output + run("--scenarios", str(file), "--list", "--json", TEAM="hush").output


@pytest.mark.slow
def test_latency_over_direct_is_measured_in_turns() -> None:
    order: list[str] = []

    def says(name: str) -> Any:
        def said(_: int) -> bytes:
            order.append(name)
            time.sleep(0.1 if name == "server" else 0)
            return STREAM

        return said

    with serving(says("server")) as server, serving(says("direct")) as direct:
        words = ("--scenario", "stream-16", "--rounds", "2", "--requests", "3", "--callers", "1", "--json")
        found = against(server, *words, "--direct", direct.url)
    assert found.exit_code == 0, found.stderr
    one, other = json.loads(found.stdout)["scenarios"][0]["rows"]
    assert (one["target"], one["added_ms"], other["target"]) == ("direct", None, "server")
    assert 50 < other["added_ms"]["p50"] < 500
    # One of each before the load, then in turns.
    assert order == ["direct", "server", *(["direct"] * 3 + ["server"] * 3) * 2]


BUSY = b'HTTP/1.1 503 Busy\r\nContent-Length: 21\r\n\r\n{"error": "too busy"}\n'


@pytest.mark.slow
@pytest.mark.parametrize("bad", [BUSY, GOOD.replace(b"th: 8", b"th: 80"), None])
def test_a_server_that_fails_under_load_is_a_fail_without_figures(bad: bytes | None) -> None:
    with serving(lambda number: bad if number > 3 else GOOD, closes=True) as server:
        found = against(server, *SHORT)
    assert found.exit_code == 1
    assert "server: FAIL, 7 of 10 requests failed" in found.stdout
    assert "p50" not in found.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (BUSY, 'missing, status 503: {"error": "too busy"}'),
        (None, "missing, 127.0.0.1:"),
        (b"", "cannot be asked"),
        (GOOD.replace(b'{"a": 1}', b"<!doc..>"), "status 200, but what it says is no such answer: <!doc..>"),
        (STREAM.removesuffix(b"0\r\n\r\n"), f"broke off after {len(EVENTS)} bytes of its answer"),
    ],
)
def test_what_does_not_answer_once_is_told_in_its_own_words_and_not_loaded(said: bytes | None, complaint: str) -> None:
    if said is None:
        found = run("--url", f"http://127.0.0.1:{free_port()}/v1", "--model", "m", *SHORT)
    else:
        with serving(said, closes=True) as server:
            found = against(server, *SHORT)
            assert len(server.heads) == 1
    assert found.exit_code == 1
    assert complaint in found.stdout
    assert complaint in found.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "--key-env names the variable with its key"),
        (403, "--key-env names the variable with its key"),
        (404, "are the path of --url and --model right?"),
    ],
)
def test_what_to_do_about_a_refusal_is_told(status: int, advice: str) -> None:
    with serving(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status, closes=True) as server:
        found = against(server, *SHORT)
    assert f"- server: missing, status {status}: without a word ({advice})" in found.stdout


@pytest.mark.slow
def test_ctrl_c_ends_it_with_what_was_measured(tmp_path: Path) -> None:
    with serving(GOOD) as server:
        words = ["--url", server.url, "--model", "m", "--scenario", "whole-16", "--callers", "1"]
        command = [sys.executable, "-m", "infermux", "bench", *words, "--seconds", "0.3s", "--rounds", "1000"]
        process = subprocess.Popen(
            [*command, "--out", str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            assert process.stderr is not None
            while "2/1000" not in process.stderr.readline():
                assert process.poll() is None
            os.killpg(process.pid, signal.SIGINT)
            output, problems = process.communicate(timeout=20)
        finally:
            process.kill()
        assert process.returncode == 130, problems
        assert "interrupted: these are the rounds until then" in output
        assert "| server | " in output
        assert accounting.members(process.pid) == []
    assert json.loads((tmp_path / "bench.json").read_text())["scenarios"][0]["interrupted"] is True


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.needs("cc")
def test_without_a_url_a_router_is_started_and_compared_with_its_upstream(tmp_path: Path) -> None:
    file = tmp_path / "mine.yml"
    file.write_text("scenarios: {mine: {stream: true, tokens: 5, seconds: 0.1s, rounds: 1, server: {interval: 5ms}}}")
    found = run("--scenarios", str(file), "--json")
    assert found.exit_code == 0, found.stderr + found.stdout
    direct, own = json.loads(found.stdout)["scenarios"][0]["rows"]
    assert (direct["target"], own["target"], own["success"]) == ("direct", "infermux", 1.0)
    assert own["cpu_us_per_event"]["median"] > 0
    assert own["cpu_us_per_request"]["median"] > own["cpu_us_per_event"]["median"]
    assert own["resident_mib"] > 20
    assert own["added_ms"] is not None
