"""Reloading behind the front door: what is refused, what is adopted with the router, and what the pages show."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from infermux.config import Config, load_text_checked
from infermux.errors import ConfigError, InvalidRequest, Problem, ShuttingDown
from infermux.http.application import Application, open_application

CANARY = "c4n4ry-do-not-show"
ONE: dict[str, Any] = {"name": "one", "type": "simulated", "models": ["m"], "health_check": {"disabled": True}}
TWO = {**ONE, "name": "two"}
KEYED = {**ONE, "type": "openai", "api_key": CANARY, "headers": {"X-Key": CANARY}, "proxy": f"http://u:{CANARY}@h:1"}


@attrs.define(eq=False)
class File:
    """What a reload reads."""

    text: str

    def write(self, *providers: dict[str, Any], **config: Any) -> None:
        self.text = json.dumps({"providers": providers, "ledger": {"url": None}, **config})

    def load(self) -> tuple[Config, list[Problem]]:
        return load_text_checked(self.text, source="/etc/infermux.yml", environ={})


@asynccontextmanager
async def opened(*providers: dict[str, Any], **config: Any) -> AsyncGenerator[tuple[Application, File]]:
    file = File("")
    file.write(*providers, **config)
    async with open_application(file.load()[0], environ={}, load=file.load) as application:
        yield application, file


async def test_a_dry_run_tells_the_difference_and_changes_nothing() -> None:
    async with opened(ONE) as (application, file):
        file.write(ONE, TWO, auth={"mode": "static_key", "key": "k-1"})
        web = application.app
        before = application.config
        told = await _post(web, "/_infermux/reload?dry_run=true")
        assert (told["dry_run"], told["changed"], told["file"]) == (True, True, "/etc/infermux.yml")
        assert told["difference"]["added"] == ["two"]
        assert application.config is before
        done = await _post(web, "/_infermux/reload")
        assert done == {**told, "dry_run": False}
        assert list(application.fleet.members) == ["one", "two"]
        assert application.inference.rules.config is application.config
        assert not application.inference.rules.host_ruled
        assert (await _post(web, "/_infermux/reload"))["changed"] is False
        assert (await _post(web, "/_infermux/reload?dry_run=maybe"))["error"]["param"] == "dry_run"


async def test_a_bad_file_is_a_400_with_every_problem() -> None:
    async with opened(ONE) as (application, file):
        file.write({**ONE, "colour": "red"}, {**ONE, "size": 1})
        told = await _post(application.app, "/_infermux/reload", status=400)
        assert told["error"]["code"] == "config_error"
        assert {problem["path"] for problem in told["problems"]} >= {"providers[0].colour", "providers[1].size"}
        assert {(problem["file"], problem["line"]) for problem in told["problems"]} == {("/etc/infermux.yml", 1)}
        assert list(application.fleet.members) == ["one"]


async def test_a_reload_that_was_asked_for_is_logged_with_what_it_changed_or_what_was_wrong(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "infermux.door")
    async with opened(ONE) as (application, file):
        file.write(ONE, TWO)
        await _post(application.app, "/_infermux/reload")
        file.write({**ONE, "colour": "red"})
        await _post(application.app, "/_infermux/reload", status=400)
    done, refused = (record.getMessage() for record in caplog.records if record.name == "infermux.door")
    assert 'changes=["+ provider two' in done
    assert "code=config_error" in refused
    assert "providers[0].colour" in refused


async def test_the_page_of_the_configuration_shows_no_secret() -> None:
    async with opened(KEYED) as (application, _):
        shown = await _get(application.app, "/_infermux/config")
        assert shown["providers"][0]["headers"] == {"X-Key": "***"}
        assert shown["listen"] == "127.0.0.1:8080"
        assert CANARY not in json.dumps(shown)


async def test_the_cache_is_turned_on_and_off_and_loses_its_answers_when_they_may_be_others() -> None:
    group = {"routing": {"groups": [{"name": "g", "models": ["m"], "cache": True}]}}
    async with opened(ONE) as (application, file):
        seen = [application.inference.caching]
        on = {"enabled": True}
        for providers, config in (
            ([ONE], {"cache": on}),
            ([ONE], {"cache": on, "log": {"level": "warn"}}),
            ([ONE, TWO], {"cache": on}),
            ([ONE, TWO], {}),
        ):
            file.write(*providers, **group, **config)
            await application.reloader.reload()
            seen.append(application.inference.caching)
        off, first, same, other, off_again = seen
        assert off is None
        assert first is not None
        assert same is first
        assert other not in (None, first)
        assert off_again is None


async def test_credentials_are_not_opened_to_strangers_by_a_listen_that_waits_for_a_restart() -> None:
    guarded = {"mode": "static_key", "key": "k-1"}
    async with opened(KEYED, listen=":8080", auth=guarded) as (application, file):
        file.write(KEYED, listen="127.0.0.1:8080")
        with pytest.raises(ConfigError, match="listens on :8080 until it is restarted"):
            await application.reloader.reload()
        assert application.inference.rules.config.auth.key is not None
        file.write(KEYED, listen="127.0.0.1:8080", auth=guarded)
        assert [change.key for change in (await application.reloader.reload()).difference.needs_restart] == ["listen"]


async def test_nothing_is_reloaded_while_it_drains_or_without_a_file() -> None:
    async with opened(ONE) as (application, file):
        file.write(TWO)
        application.inference.draining = True
        with pytest.raises(ShuttingDown):
            await application.reloader.reload()
        application.inference.draining = False
        application.reloader.load = None
        with pytest.raises(InvalidRequest, match="not started from a file"):
            await application.reloader.reload()
        assert list(application.fleet.members) == ["one"]


async def test_what_nobody_waits_for_is_logged_whatever_it_comes_to(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "infermux")
    seen: list[Config] = []
    async with opened(ONE) as (application, file):
        application.reloader.then.append(seen.append)
        file.write(ONE, TWO, pricing={"gone": {}})
        await application.reloader.reload_and_log("SIGHUP")
        assert seen == [application.config]
        assert "SIGHUP: reloaded" in caplog.text
        assert "SIGHUP: + provider two" in caplog.text
        assert "no provider has that name" in caplog.text
        file.text = "providers: [{name: x}]"
        await application.reloader.reload_and_log("SIGHUP")
        assert "SIGHUP: /etc/infermux.yml:1: providers[0].type" in caplog.text
        application.reloader.load = _crash
        await application.reloader.reload_and_log("SIGHUP")
        assert "told to crash" in caplog.text
        assert len(seen) == 1


def _crash() -> tuple[Config, list[Problem]]:
    raise RuntimeError("told to crash")


async def _post(app: Any, path: str, *, status: int | None = None) -> Any:
    return await _ask(app, "POST", path, status)


async def _get(app: Any, path: str) -> Any:
    return await _ask(app, "GET", path, 200)


async def _ask(app: Any, method: str, path: str, status: int | None) -> Any:
    """One request straight to the ASGI application; the JSON of its answer."""
    sent: list[Any] = []
    target, _, query = path.partition("?")

    body = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if not body:
            await trio.sleep_forever()
        return body.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": target, "raw_path": target.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8080),
        "extensions": {},
    }  # fmt: skip
    await app(scope, receive, send)
    assert status is None or sent[0]["status"] == status
    return json.loads(b"".join(message.get("body", b"") for message in sent[1:]))
