"""Several workers as real processes: one port, one set of limits, one management, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.e2e._process import LISTENS, Process, running, serving
from tests.e2e.test_openapi import Description

pytestmark = pytest.mark.slow

PATIENCE = 30.0
MERGED = ("ready", "status", "providers", "providers/slow", "requests", "explain", "overview", "cache", "budgets")
LIMIT = 30  # requests a minute
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # one for all clients: to make it takes longer than a request
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}


def simulated(name: str, model: str, **more: Any) -> dict[str, Any]:
    simulate = {"first_token": "1ms", "tokens_per_second": 10_000}
    return {
        "name": name,
        "type": "simulated",
        "models": [model],
        "simulate": simulate,
        "health_check": {"disabled": True},
        **more,
    }


async def until(what: Callable[[], Awaitable[Any]]) -> Any:
    """What it returns as soon as that is true; within half a minute."""
    with trio.fail_after(PATIENCE):
        while not (found := await what()):  # noqa: ASYNC110 - it is another process
            await trio.sleep(0.25)
    return found


def web_of(process: Process) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=process.url, verify=NO_TLS, trust_env=False, timeout=PATIENCE)


async def get(process: Process, path: str) -> Any:
    """By a connection of its own: it may come to either worker."""
    async with web_of(process) as web:
        return (await web.get(f"/_infermux/{path}")).json()


async def chat(process: Process, model: str = "m") -> int:
    """The status; 0 where the connection broke."""
    async with web_of(process) as web:
        try:
            return (await web.post("/v1/chat/completions", json={**BODY, "model": model})).status_code
        except httpx.TransportError:
            return 0


async def chats(process: Process, count: int, model: str = "m") -> list[int]:
    found: list[int] = []

    async def one() -> None:
        found.append(await chat(process, model))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    return found


def workers_of(leader: int) -> list[int]:
    """The processes that one has started and that have not ended."""
    found: list[int] = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                fields = (each / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[1] == str(leader) and fields[0] != "Z":
                found.append(int(each.name))
    return sorted(found)


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def both_listen(process: Process) -> Any:
    async def look() -> Any:
        status = await get(process, "status")
        return None if status["workers_missing"] else status

    return await until(look)


async def test_two_workers_are_one_router(tmp_path: Path) -> None:
    limited = simulated("slow", "m", rate_limits={"requests_per_minute": LIMIT})
    config = {"listen": "127.0.0.1:0", "workers": 2, "ledger": {"url": None}}
    file = tmp_path / "infermux.yml"
    file.write_text(json.dumps({**config, "providers": [limited, simulated("free", "f"), simulated("off", "o")]}))
    command = [sys.executable, "-m", "infermux", "serve", "-c", str(file)]
    async with running(command, environ={}, cwd=str(tmp_path), fresh=False) as process:
        process.port = int((await process.says(LISTENS, within=PATIENCE))[1])
        leader = process.process.pid
        first, second = workers_of(leader)
        began = trio.current_time()

        # What both admit is the limit, whoever is asked.
        admitted = (await chats(process, 3 * LIMIT)).count(200)
        assert LIMIT * 0.6 < admitted <= LIMIT + (trio.current_time() - began) * LIMIT / 60 + 1
        status = await both_listen(process)
        assert [row["worker"] for row in status["workers"]] == [0, 1]
        (row,) = [row for row in (await get(process, "providers"))["providers"] if row["name"] == "slow"]
        assert row["buckets"]["requests"]["limit"] == LIMIT
        assert [each["worker"] for each in row["workers"]] == [0, 1]

        # One page of metrics, with what both have counted.
        async with web_of(process) as web:
            page = (await web.get("/_infermux/metrics")).text
        assert _counted(page, "200") == admitted
        assert "infermux_workers_answering 2.0" in page

        # What is merged is what the description of the API says.
        async with web_of(process) as web:
            description = Description((await web.get("/_infermux/openapi.json")).json())
            for page in MERGED:
                description.check(await web.get(f"/_infermux/{page}"))
            description.check(await web.post("/_infermux/providers/slow/drain"))
            drained = (await web.post("/_infermux/providers/slow/enable")).json()
            assert [each["routable"] for each in drained["workers"]] == [False, False]  # the limit is used up
            listed = (await web.get("/_infermux/explain?limit=500")).json()["decisions"]
            assert {each["worker"] for each in listed} == {0, 1}
            description.check(await web.get(f"/_infermux/explain/{listed[0]['id']}"))
            assert (await web.get("/_infermux/explain/nobody-knows")).status_code == 404
            assert (await web.delete("/_infermux/requests/nobody-knows")).status_code == 404
            async with web.stream("GET", "/_infermux/events") as events:
                lines = events.aiter_lines()
                name, data = [await anext(lines) for _ in range(2)]
            assert name == "event: overview"
            assert [each["worker"] for each in json.loads(data.removeprefix("data: "))["workers"]] == [0, 1]

        # A worker that does not answer is named, and holds nobody up.
        os.kill(second, signal.SIGSTOP)

        async def missing() -> bool:
            with trio.move_on_after(2):
                return bool((await get(process, "status"))["workers_missing"])
            return False  # it came to the one that is stopped

        await until(missing)
        os.kill(second, signal.SIGCONT)
        await both_listen(process)

        # What an operator says of a provider is good for a worker that comes later, too.
        async def refuses() -> bool:
            rows = {row["name"]: row for row in (await get(process, "providers"))["providers"]}
            return [each["reason"] for each in rows["off"]["workers"]] == ["disabled", "disabled"]

        async with web_of(process) as web:
            (await web.post("/_infermux/providers/off/disable")).raise_for_status()
        assert await refuses()

        # One is killed under load: the other goes on, a new one comes, and the limit holds.
        found: list[int] = []

        async def load() -> None:
            while len(found) < 100:
                found.append(await chat(process, "f"))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(load)
            os.kill(first, signal.SIGKILL)
        assert found.count(200) > 80
        assert set(found) <= {200, 0}

        async def two_again() -> bool:
            return len(workers_of(leader)) == 2 and first not in workers_of(leader)

        await until(two_again)
        await both_listen(process)
        assert await refuses()
        admitted += (await chats(process, 2 * LIMIT)).count(200)
        assert admitted <= LIMIT + (trio.current_time() - began) * LIMIT / 60 + 1

        # All reload, or none.
        async def serves(*names: str) -> bool:
            status = await get(process, "status")
            rows = {row["name"]: len(row["workers"]) for row in status["providers"]}
            return not status["workers_missing"] and rows == dict.fromkeys(names, 2)

        file.write_text(json.dumps({**config, "providers": [limited, simulated("more", "n")]}))
        async with web_of(process) as web:
            done = (await web.post("/_infermux/reload")).json()["difference"]
            assert (done["added"], done["removed"], done["needs_restart"]) == (["more"], ["free", "off"], [])
            assert await serves("slow", "more")
            file.write_text(json.dumps({**config, "providers": []}))
            refused = await web.post("/_infermux/reload")
            assert (refused.status_code, refused.json()["problems"][0]["path"]) == (400, "providers")
            assert await serves("slow", "more")
        file.write_text(json.dumps({**config, "providers": [limited]}))
        process.send(signal.SIGHUP)
        await until(lambda: serves("slow"))

        # Drain and stop: nothing is left.
        processes = workers_of(leader)
        process.send(signal.SIGTERM)
        assert await process.ended() == 0
        assert not any(map(is_there, processes))
        assert "worker=0" in process.stderr
        assert "worker=1" in process.stderr


def _counted(page: str, status: str) -> float:
    lines = [line for line in page.splitlines() if line.startswith("infermux_requests_total")]
    return sum(float(line.rpartition(" ")[2]) for line in lines if f'status="{status}"' in line)


async def test_workers_with_a_database_count_every_cent_once_and_do_not_outlive_their_leader(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "workers": 2,
        "ledger": {"url": f"sqlite:///{tmp_path}/ledger.db"},
        "pricing": {"a": {"m": {"input_per_million": 0.0, "output_per_million": 500_000.0}}},  # a dollar for `BODY`
        "budgets": [{"limit_usd": 1000, "period": "month"}],
    }
    async with serving(simulated("a", "m"), **config) as process:
        leader, admitted = process.process.pid, 0

        async def spent(dollars: float) -> None:
            """What is shown, whichever is asked, and what is written down come to that, and never to more."""

            async def known() -> bool:
                pages = [await get(process, "budgets") for _ in range(4)]
                found = [row["spent_usd"] for page in pages for row in page["budgets"]]
                found.append(_stored(tmp_path / "ledger.db"))
                assert max(found) <= dollars
                return bool(min(found) == dollars)

            await until(known)

        async def all_admit() -> bool:
            nonlocal admitted
            found = await chats(process, 8)
            assert set(found) <= {200, 429}
            admitted += found.count(200)
            return found.count(200) == 8

        await until(all_admit)
        await spent(admitted)
        workers = workers_of(leader)
        os.kill(workers[0], signal.SIGKILL)

        async def two_again() -> bool:
            return len(workers_of(leader)) == 2 and workers[0] not in workers_of(leader)

        await until(two_again)
        await both_listen(process)
        await spent(admitted)
        await until(all_admit)  # the new one refuses until the other has let go of its part
        await spent(admitted)

        workers = workers_of(leader)
        process.send(signal.SIGKILL)

        async def gone() -> bool:
            return not any(map(is_there, workers))

        await until(gone)
        assert _stored(tmp_path / "ledger.db") == admitted


def _stored(file: Path) -> float:
    """Dollars. Who looks and leaves must not take the workers' rows with it."""
    with closing(sqlite3.connect(file)) as database:
        rows = database.execute("SELECT amount FROM budgets_spent").fetchall()
    return float(sum(amount for (amount,) in rows)) / 1e9
