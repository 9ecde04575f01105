"""The ledger of a running router: what is in it, who reads it, and what it never does to a request."""

from __future__ import annotations

import csv
import io
import json
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.e2e._process import ROOT, minimal_environ, serving
from tests.e2e._router import Router, in_order, provider, refused_url, routing
from tests.mocks.openai_upstream import OpenAIUpstream

pytestmark = pytest.mark.slow

PRICING: Any = {"good": {"gpt-4o": {"input_per_million": 1000.0, "output_per_million": 1000.0}}}
TEAM = {"X-Infermux-Caller": "team-a", "X-Infermux-Tags": "app=chat"}
SIMULATED: Any = {
    "name": "quick", "type": "simulated", "models": ["m"], "simulate": {"first_token": "1ms"},
    "health_check": {"disabled": True},
}  # fmt: skip
ASK = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}


def at(folder: Path) -> dict[str, str]:
    return {"url": f"sqlite:///{folder}/ledger.db"}


def rows(folder: Path, what: str = "*") -> list[Any]:
    connection = sqlite3.connect(folder / "ledger.db")
    connection.row_factory = sqlite3.Row
    found = connection.execute(f"SELECT {what} FROM requests ORDER BY seq").fetchall()
    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    connection.close()
    return found


async def costs(router: Router, **question: str) -> Any:
    answer = await router.web.get("/_infermux/costs", params=question)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_each_request_is_a_row_with_what_its_answer_said(tmp_path: Path) -> None:
    async with OpenAIUpstream() as upstream:
        providers = provider("bad", refused_url()), provider("good", upstream)
        async with routing(*providers, pricing=PRICING, routing=in_order(), ledger=at(tmp_path)) as router:
            answered = await router.chat(headers={**TEAM, "X-Request-Id": "mine"})
            await router.chat(headers=TEAM, stream=True)
            await router.chat("nobody-serves-this")
            told = await costs(router, group_by="caller,provider")
    cost, prompt = float(answered.headers["x-infermux-cost"]), int(answered.headers["x-infermux-prompt-tokens"])
    first, streamed, refused = rows(tmp_path)
    assert (first["id"], first["caller"], first["provider"], first["model"]) == ("mine", "team-a", "good", "gpt-4o")
    assert (first["attempts"], first["outcome"], first["status"]) == (2, "ok", 200)
    assert (first["cost"], first["prompt_tokens"]) == (pytest.approx(cost), prompt)
    assert (streamed["stream"], streamed["cost"]) == (1, pytest.approx(cost))
    assert (refused["outcome"], refused["code"], refused["cost"]) == ("refused", "model_not_found", 0)
    top = told["costs"][0]
    assert (top["caller"], top["provider"], top["requests"]) == ("team-a", "good", 2)
    assert top["cost"] == told["total"]["cost"] == pytest.approx(2 * cost)
    assert (told["total"]["requests"], told["total"]["failed"], told["total"]["unpriced"]) == (3, 1, 0)


async def test_costs_come_as_csv_for_who_asks_and_as_the_command_says_it_while_the_server_runs(tmp_path: Path) -> None:
    file = tmp_path / "infermux.yml"
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("good", upstream), pricing=PRICING, ledger=at(tmp_path)) as router,
    ):
        await router.chat(headers=TEAM)
        for question in ({"params": {"format": "csv", "group_by": "tag:app"}}, {"headers": {"Accept": "text/csv"}}):
            answer = await router.web.get("/_infermux/costs", **question)  # type: ignore[arg-type]
            assert answer.headers["content-type"].startswith("text/csv")
        assert [row["requests"] for row in csv.DictReader(io.StringIO(answer.text))] == ["1"]
        file.write_text(json.dumps({"providers": [SIMULATED], "ledger": at(tmp_path)}))
        said = await command("costs", "-c", str(file), "--group-by", "caller", "--since", "1d", "--json", home=tmp_path)
        assert json.loads(said) == {
            **await costs(router, group_by="caller", since="1d"),
            "since": json.loads(said)["since"],
        }


async def command(*words: str, home: Path) -> str:
    done = await trio.run_process(
        [sys.executable, "-m", "infermux", *words],
        capture_stdout=True,
        env=minimal_environ(str(home), {}),
        cwd=home,
    )
    return done.stdout.decode()


async def test_a_question_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("good", upstream), ledger=at(tmp_path)) as router:
        for question, param in (({"group_by": "x"}, "group_by"), ({"since": "x"}, "since"), ({"format": "x"}, "format"),
                                ({"group": "caller"}, "group")):  # fmt: skip
            answer = await router.web.get("/_infermux/costs", params=question)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert (await costs(router, group_by="caller"))["costs"] == []


async def test_without_a_ledger_there_are_no_costs() -> None:
    async with OpenAIUpstream() as upstream, routing(provider("good", upstream)) as router:
        assert (await router.chat()).status_code == 200
        answer = await router.web.get("/_infermux/costs")
        assert (answer.status_code, answer.json()["error"]["message"]) == (
            404,
            "there is no ledger: ledger.url is null",
        )
        assert (await router.status())["ledger"] is None


async def test_a_ledger_that_cannot_be_written_costs_no_request(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    url = f"sqlite:///{tmp_path}/file/ledger.db"
    async with OpenAIUpstream() as upstream, routing(provider("good", upstream), ledger={"url": url}) as router:
        assert (await router.chat()).status_code == 200
        answer = await router.web.get("/_infermux/costs")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
        ledger = (await router.status())["ledger"]
        assert (ledger["database"], ledger["pending"], ledger["written"]) == (url, 1, 0)
        assert "file/ledger.db: " in ledger["error"]


async def test_a_stop_in_order_loses_nothing(tmp_path: Path) -> None:
    async with serving(SIMULATED, ledger=at(tmp_path)) as process, httpx.AsyncClient(base_url=process.url) as web:
        for _ in range(5):
            assert (await web.post("/v1/chat/completions", json=ASK)).status_code == 200
        process.send(signal.SIGTERM)
        assert await process.ended() == 0
        assert len(rows(tmp_path)) == 5


async def test_a_disk_that_is_full_costs_no_request_and_no_row_once_there_is_room(tmp_path: Path) -> None:
    async with serving(SIMULATED, ledger=at(tmp_path)) as process, httpx.AsyncClient(base_url=process.url) as web:

        async def ask() -> None:
            assert (await web.post("/v1/chat/completions", json=ASK)).status_code == 200

        async def ledger() -> Any:
            return (await web.get("/_infermux/status")).json()["ledger"]

        async def until(holds: Callable[[Any], bool]) -> None:
            with trio.fail_after(10):
                while not holds(await ledger()):  # noqa: ASYNC110 - it is another process
                    await trio.sleep(0.02)

        await ask()
        await web.get("/_infermux/costs")  # which writes what waits
        room = resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE)
        size = (tmp_path / "ledger.db-wal").stat().st_size
        resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (size, room[1]))
        await ask()
        await until(lambda ledger: ledger["error"] is not None)
        await ask()
        resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, room)
        await until(lambda ledger: ledger["written"] == 3)
        assert (await ledger())["shed"] == 0
        assert len(rows(tmp_path)) == 3


def test_a_kill_loses_at_most_a_second_and_leaves_the_file_whole(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    command = [sys.executable, "-m", "tests.e2e._ledger_writer", url, "2000"]
    environ = minimal_environ(str(tmp_path), {})
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environ) as process:
        assert process.stdout is not None
        first = last = float(process.stdout.readline().split()[0])
        while last - first < 1.7:
            last = float(process.stdout.readline().split()[0])
        process.kill()
        whole = [line for line in process.stdout if line.endswith("\n")]
    # By the clock of the process itself: its last sign of life, and when the last request ended that it has not lost.
    alive = float(whole[-1].split()[0]) if whole else last
    kept = rows(tmp_path, "id, at")
    assert [int(row["id"]) for row in kept] == list(range(len(kept)))
    assert alive - max(row["at"] for row in kept) <= 1.0
