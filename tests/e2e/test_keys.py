"""Keys handed out by the command line and by the API, used with the official SDKs."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
import trio
from click.testing import CliRunner

from infermux.cli.root import cli
from infermux.config import load_text
from infermux.database.budgets import DatabaseBudgets
from infermux.database.store import Store
from infermux.http.application import open_application
from infermux.keys import Allowance, new_key
from tests.e2e._router import EITHER_WAY, HELLO, SAID, Router, provider, routing, until
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = pytest.mark.slow

MODES = ("open", "keys")


def ledger(tmp_path: Path) -> dict[str, Any]:
    """The sections of a router that asks for keys."""
    return {"auth": {"mode": "keys"}, "ledger": {"url": f"sqlite:///{tmp_path}/keys.db"}}


class CommandLine:
    """`infermux keys` on the router's database."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "infermux.yml"
        provider = {"name": "one", "type": "simulated", "models": ["gpt-4o"]}
        self.path.write_text(json.dumps({"providers": [provider], **ledger(tmp_path)}))

    def run(self, *words: str) -> Any:
        result = CliRunner().invoke(cli, ["keys", words[0], "-c", str(self.path), "--json", *words[1:]])
        assert result.exception is None, result.output
        return json.loads(result.stdout)


async def made(router: Router, **fields: Any) -> Any:
    answer = await router.web.post("/_infermux/keys", json={"name": "team-a", **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def ask(router: Router, key: str, model: str = "gpt-4o", **more: Any) -> Any:
    return await router.chat(model, headers={"authorization": f"Bearer {key}"}, **more)


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_a_key_opens_the_router_to_both_sdks_and_ends_at_once_when_revoked(way: str, tmp_path: Path) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), way=way, **ledger(tmp_path)) as router:
        key = await made(router)
        async with router.sdk(api_key=key["key"]) as sdk:
            answer = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
            assert answer.choices[0].message.content == SAID
            client = anthropic.AsyncAnthropic(base_url=router.url, api_key=key["key"], max_retries=0)
            message = await client.messages.create(model="gpt-4o", max_tokens=9, messages=HELLO)
            assert message.content[0].type == "text"
            assert key["key"] not in str([sent.headers for sent in upstream.requests])
            revoked = await router.web.delete(f"/_infermux/keys/{key['id']}")
            assert revoked.json()["state"] == "revoked"
            with pytest.raises(openai.AuthenticationError, match="was revoked"):
                await sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
            await client.close()


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_without_a_key_or_with_a_wrong_one_nobody_comes_in(way: str, tmp_path: Path) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), way=way, **ledger(tmp_path)) as router:
        key = (await made(router))["key"]
        other = "a" if key[-2] != "a" else "b"
        for wrong in (
            "nonsense",
            "ifx_aaaaaaaaaaaa_" + "a" * 52,
            key[:-2] + other + key[-1],
            key + "a",
            key.upper(),
        ):
            assert (await ask(router, wrong)).status_code == 401
            models = await router.web.get("/v1/models", headers={"x-api-key": wrong})
            assert models.status_code == 401
        assert (await router.chat()).status_code == 401
        assert not upstream.chats


async def test_a_key_sees_and_uses_its_models_only(tmp_path: Path) -> None:
    groups = {"groups": [{"name": "cheap", "models": ["gpt-4o-mini"]}]}
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("one", upstream), routing=groups, **ledger(tmp_path)) as router,
    ):
        for fields in ({"models": ["*-mini"]}, {"groups": ["cheap"]}):
            key = await made(router, name=f"k-{next(iter(fields))}", **fields)
            async with router.sdk(api_key=key["key"]) as sdk:
                assert [model.id async for model in sdk.models.list()] == ["gpt-4o-mini"]
                await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
                for model in ("gpt-4o", "one/gpt-4o", "nothing", "auto"):
                    with pytest.raises(openai.PermissionDeniedError) as refused:
                        await sdk.chat.completions.create(model=model, messages=HELLO)
                    assert refused.value.code == "model_not_allowed"
                with pytest.raises(openai.NotFoundError):
                    await sdk.models.retrieve("gpt-4o")
        assert {sent.json["model"] for sent in upstream.chats} == {"gpt-4o-mini"}


async def test_the_limits_of_a_key_are_its_own(tmp_path: Path) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), **ledger(tmp_path)) as router:
        slow = (await made(router, name="slow", requests_per_minute=1))["key"]
        free = (await made(router, name="free"))["key"]
        assert (await ask(router, slow)).status_code == 200
        refused = await ask(router, slow)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
        assert "the limit of the key 'slow'" in refused.json()["error"]["message"]
        assert 55 <= int(refused.headers["retry-after"]) <= 60
        assert (await ask(router, free)).status_code == 200


async def test_what_the_command_line_does_a_running_router_sees(tmp_path: Path) -> None:
    command = CommandLine(tmp_path)
    before = await trio.to_thread.run_sync(command.run, "create", "--name", "early", "--budget", "50/month")
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), **ledger(tmp_path)) as router:
        assert (await ask(router, before["key"])).status_code == 200
        rotated = await trio.to_thread.run_sync(command.run, "rotate", "early")
        await trio.to_thread.run_sync(command.run, "create", "--name", "late", "--expires", "90d", "--rpm", "5")
        status = 200
        with trio.move_on_after(5):
            while status == 200:
                await trio.sleep(0.2)
                status = (await ask(router, before["key"])).status_code
        assert status == 401
        assert (await ask(router, rotated["key"])).status_code == 200
        listed = (await router.web.get("/_infermux/keys")).json()["keys"]
        assert [(key["name"], key["budget"]) for key in listed] == [("early", "50/month"), ("late", None)]


async def test_an_old_secret_is_good_for_the_overlap(tmp_path: Path) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), **ledger(tmp_path)) as router:
        first = await made(router)
        second = await router.web.post("/_infermux/keys/team-a/rotate", json={"keep_old": "1h"})
        assert second.json()["id"] == first["id"]
        assert second.json()["old_secret_until"] is not None
        for key in (first["key"], second.json()["key"]):
            assert (await ask(router, key)).status_code == 200
        third = (await router.web.post("/_infermux/keys/team-a/rotate")).json()["key"]
        for key, status in ((first["key"], 401), (second.json()["key"], 401), (third, 200)):
            assert (await ask(router, key)).status_code == status


async def test_while_the_database_is_away_known_keys_go_on_and_others_are_told_to_wait(tmp_path: Path) -> None:
    sections = ledger(tmp_path)
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), **sections) as router:
        known = (await made(router))["key"]
        application = router.application
        assert application is not None
        keys = application.inference.keys
        assert keys is not None
        for name in ("keys.db", "keys.db-wal", "keys.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / "keys.db").mkdir()  # nothing that can be opened
        await keys.look()
        assert (await ask(router, known)).status_code == 200
        refused = await ask(router, "ifx_aaaaaaaaaaaa_" + "a" * 52)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "keys_unavailable")
        assert refused.headers["retry-after"] == "2"
        assert (await router.web.post("/_infermux/keys", json={"name": "new"})).status_code == 503
        (tmp_path / "keys.db").rmdir()
        await keys.look()
        assert (await ask(router, "ifx_aaaaaaaaaaaa_" + "a" * 52)).status_code == 401


async def test_the_api_says_what_is_wrong_with_a_declaration(tmp_path: Path) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), **ledger(tmp_path)) as router:
        await made(router)
        for fields, status, said in (
            ({}, 400, "name is required"),
            ({"name": "b", "rpm": 5}, 400, "unknown field 'rpm'"),
            ({"name": "b", "budget": "many"}, 400, "50/month"),
            ({"name": "b", "requests_per_minute": True}, 400, "whole number"),
            ({"name": "team-a"}, 409, "already"),
        ):
            answer = await router.web.post("/_infermux/keys", json=fields)
            assert (answer.status_code, said in answer.json()["error"]["message"]) == (status, True), answer.text
        assert (await router.web.post("/_infermux/keys", content=b"[]")).status_code == 400
        assert (await router.web.delete("/_infermux/keys/nobody")).status_code == 404
        foreign = {"origin": "http://evil.example"}
        assert (await router.web.post("/_infermux/keys", json={"name": "x"}, headers=foreign)).status_code == 403


def database(tmp_path: Path) -> tuple[str, bytes]:
    """The rows of the keys, and every byte of the database's files."""
    connection = sqlite3.connect(tmp_path / "keys.db")
    try:
        rows = str(connection.execute("select * from api_keys").fetchall())
    finally:
        connection.close()
    return rows, b"".join(path.read_bytes() for path in tmp_path.glob("keys.db*"))


async def test_the_api_says_what_is_strange_and_what_was_spent(tmp_path: Path) -> None:
    pricing = {"one": {"gpt-4o": {"per_request": 0.25}}}
    config: dict[str, Any] = {**ledger(tmp_path), "pricing": pricing}
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), **config) as router:
        strange = await made(router, groups=["fats"])
        assert strange["warnings"] == ["the configuration declares no route group named 'fats'"]
        key = await made(router, name="team-b", budget="5/day")
        assert (key["warnings"], key["spent_usd"]) == ([], 0)
        await ask(router, key["key"])
        assert (await router.web.get("/_infermux/keys/team-b")).json()["spent_usd"] == 0.25
        [row] = (await router.web.get("/_infermux/budgets")).json()["budgets"]
        assert (row["name"], row["key_name"]) == (key["id"], "team-b")
        told = (await router.web.get("/_infermux/costs?group_by=key")).json()["costs"]
        assert [(line["key"], line["key_name"], line["cost"]) for line in told] == [(key["id"], "team-b", 0.25)]
        twice = await router.web.post("/_infermux/keys", content=b'{"name": "x", "budget": "1/day", "name": "y"}')
        assert (twice.status_code, twice.json()["error"]["message"]) == (400, "'name' is given twice")


async def test_only_a_hash_of_a_key_is_kept(tmp_path: Path) -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), **ledger(tmp_path)) as router:
        key = await made(router, budget="5/day", groups=["g"])
        secret = key["key"].rpartition("_")[2]
        pages = [
            (await router.web.get(f"/_infermux/{page}")).text for page in ("keys", "keys/team-a", "config", "status")
        ]
        assert not any(secret in page for page in pages)
        assert router.application is not None
        assert secret not in repr(router.application.inference)
        rows, kept = await trio.to_thread.run_sync(database, tmp_path)
        assert key["id"] in rows
        assert secret not in rows
        assert secret.encode() not in kept


async def test_a_key_is_seen_in_no_log_error_or_page(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with (
        OpenAIUpstream() as upstream,
        routing(
            provider("one", upstream),
            routing={"strategy": "sticky", "sticky": {"key": "caller"}},
            retry={"max_attempts": 1},
            **ledger(tmp_path),
        ) as router,
    ):
        text = (await made(router, models=["gpt-4o"], requests_per_minute=20))["key"]
        secret = text.rpartition("_")[2]
        seen: list[httpx.Response] = []
        for reply in (
            Reply(),
            Reply(status=400),
            Reply(status=401),
            Reply(status=429),
            Reply(status=500),
            Reply(reset=True),
        ):
            for stream in (False, True):
                upstream.script.append(reply)
                seen.append(await ask(router, text, stream=stream))
        seen += [await ask(router, key) for key in (f"{text}x", text.upper(), secret, f"ifx_{secret}")]
        seen.append(await ask(router, text, model="gpt-4o-mini"))
        seen += [await ask(router, text) for _ in range(12)]
        assert seen[-1].status_code == 429
        assert (await router.web.delete("/_infermux/keys/team-a")).status_code == 200
        seen.append(await ask(router, text))
        pages = ("status", "providers", "config", "keys", "keys/nobody", "metrics", "requests", "costs", "budgets")
        seen += [await router.web.get(f"/_infermux/{page}") for page in pages]
        assert secret not in str([sent.headers for sent in upstream.requests])
    told = "\n".join(f"{answer.headers}{answer.text}" for answer in seen)
    logged = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpcore", "httpx"))]
    for text in (told, *logged):
        assert secret not in text.lower()
    assert secret.encode() not in b"".join((tmp_path / name).read_bytes() for name in os.listdir(tmp_path))


async def test_a_reload_begins_and_ends_to_ask_for_keys(tmp_path: Path) -> None:
    simulated = {"name": "one", "type": "simulated", "models": ["m"]}
    texts = {mode: json.dumps({"providers": [simulated], **ledger(tmp_path), "auth": {"mode": mode}}) for mode in MODES}
    wanted = "open"
    async with open_application(
        load_text(texts["open"], environ={}), environ={}, load=lambda: (load_text(texts[wanted], environ={}), [])
    ) as application:
        keys = application.inference.keys
        assert keys is not None
        assert not keys.table.watched
        for wanted in ("keys", "open", "keys"):
            await application.reloader.reload()
            await until(lambda: keys.table.loaded)
            assert keys.table.watched is (wanted == "keys")
        assert keys.table.loaded


async def test_a_key_is_revoked_while_what_is_spent_cannot_be_written(tmp_path: Path) -> None:
    simulated = {"name": "one", "type": "simulated", "models": ["m"]}
    text = json.dumps({"providers": [simulated], **ledger(tmp_path), "budgets": [{"limit_usd": 5, "period": "day"}]})
    held_up, go_on = threading.Event(), threading.Event()

    def waits(_: Store) -> None:  # as where the ledger's table is locked, whose rows are taken along
        held_up.set()
        go_on.wait(60)

    async with open_application(load_text(text, environ={}), environ={}) as application, trio.open_nursery() as nursery:
        keys, store = application.inference.keys, application.fleet.treasury.store
        assert keys is not None
        assert isinstance(store, DatabaseBudgets)
        await keys.create(new_key(name="team-a", allows=Allowance(), now=time.time())[1])
        nursery.start_soon(store.database.turn, waits)
        try:
            await until(held_up.is_set, seconds=30)
            with trio.fail_after(30):
                assert (await keys.revoke("team-a")).revoked_at is not None
        finally:
            go_on.set()
