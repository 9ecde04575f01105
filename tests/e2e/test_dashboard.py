"""The dashboard: its files and who gets them, and the page in a real browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trio

from infermux.http.dashboard import pages
from tests.e2e._browser import (
    FAINT_FOCUS,
    REQUESTED,
    UNREADABLE,
    Chrome,
    beside,
    click,
    emulate,
    nameless,
    shown,
    text_of,
)
from tests.e2e._router import provider, routing
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = pytest.mark.slow

CHECKED_OFTEN = {"health_check": {"interval": "300ms", "timeout": "1s", "method": "models"}}


# The files.


async def test_the_files_are_served_under_a_policy_that_allows_nothing_else() -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream)) as router:
        for path in pages("/_infermux") - {"/_infermux"}:
            page = await router.web.get(path)
            assert page.status_code == 200, path
            policy = page.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self';")
            assert "unsafe" not in policy
            assert page.headers["x-content-type-options"] == "nosniff"
            again = await router.web.get(path, headers={"if-none-match": page.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert (await router.web.get(path, headers={"host": "evil.example"})).status_code == 403
            assert (await router.web.post(path)).status_code == 405
        moved = await router.web.get("/_infermux")
        assert (moved.status_code, moved.headers["location"]) == (308, "/_infermux/")


async def test_the_files_name_no_other_host_and_have_nothing_inline() -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream)) as router:
        for path in pages("/_infermux") - {"/_infermux"}:
            text = (await router.web.get(path)).text
            assert set(re.findall(r"https?://[^/\"'\s]+", text)) <= {"http://www.w3.org"}  # SVG's namespace
            assert not re.search(r"<script(?![^>]*src=)|<style|\son[a-z]+=\"|style=\"|innerHTML|eval\(", text), path


async def test_a_foreign_page_can_command_nothing() -> None:
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream)) as router:
        foreign = {"origin": "https://evil.example"}
        assert (await router.web.post("/_infermux/providers/one/disable", headers=foreign)).status_code == 403
        assert (await router.web.delete("/_infermux/requests/x", headers=foreign)).status_code == 403
        assert (await router.web.get("/_infermux/events", headers=foreign)).status_code == 403


# The page.


def state(name: str) -> str:
    return f"document.querySelector('[data-provider={name}] .pill')?.textContent"


def press(chrome: Chrome, name: str, verb: str) -> None:
    chrome.execute_script(f"document.querySelector('[data-provider={name}] [data-verb={verb}]').click()")


@pytest.mark.needs("chromium", "chromedriver")
async def test_the_page_shows_what_happens_while_it_happens_and_carries_commands_out() -> None:
    kill = trio.Event()

    async def lives(task_status: trio.TaskStatus[OpenAIUpstream]) -> None:
        async with OpenAIUpstream() as frail:
            task_status.started(frail)
            await kill.wait()

    async with OpenAIUpstream() as steady, trio.open_nursery() as nursery:
        frail: OpenAIUpstream = await nursery.start(lives)
        providers = [provider("one", steady, **CHECKED_OFTEN), provider("two", frail, **CHECKED_OFTEN)]
        async with routing(*providers, routing={"strategy": "priority"}) as router:
            steady.script.append(Reply(hang=True))

            def look(chrome: Chrome) -> list[Any]:
                shown(chrome, state("one"), "routable")
                shown(chrome, state("two"), "routable")
                shown(chrome, "document.getElementById('link').textContent", "live")
                trio.from_thread.run_sync(kill.set)  # that provider is no more
                shown(chrome, state("two"), "unhealthy")
                shown(chrome, "document.getElementById('news').textContent.includes('two: health unhealthy')", True)
                press(chrome, "one", "disable")
                shown(chrome, state("one"), "disabled")
                press(chrome, "one", "enable")
                shown(chrome, state("one"), "routable")
                trio.from_thread.run_sync(nursery.start_soon, ask)
                shown(chrome, "document.querySelector('#requests .id')?.textContent", "mine")
                chrome.execute_script("document.querySelector('#requests .danger').click()")
                killed = "document.querySelector('#decisions tr[data-id=mine] .pill')?.textContent"
                shown(chrome, killed, "refused: request killed")
                chrome.execute_script("document.querySelector('#decisions .id').click()")
                shown(chrome, "document.getElementById('explain').open", True)
                shown(chrome, "document.querySelectorAll('#explain-body tbody tr').length", 2)
                chrome.execute_script("document.getElementById('explain-close').click()")
                can_be_used(chrome)
                dark = "getComputedStyle(document.body).backgroundColor"
                shown(chrome, dark, "rgb(16, 19, 27)")
                assert set(chrome.execute_script(REQUESTED)) == {router.url}
                said = list(chrome.get_log("browser"))
                application = router.application
                assert application is not None
                application.inference.draining = True  # which ends the streams and begins none
                shown(chrome, text_of("#link"), "no connection")
                alert = "document.getElementById('alert')"
                shown(chrome, f"{alert}.textContent.startsWith('The router does not answer')", True)
                application.inference.draining = False
                shown(chrome, text_of("#link"), "live")
                shown(chrome, f"{alert}.hidden", True)
                return said

            async def ask() -> None:
                await router.chat(headers={"x-request-id": "mine"})

            assert await beside(router.url, look) == []


def can_be_used(chrome: Chrome) -> None:
    """On a phone and on a desk, light and dark, by keyboard and by ear."""
    for width, scheme in ((360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")):
        emulate(chrome, width, scheme)
        shown(chrome, "innerWidth", width)
        shown(chrome, "document.documentElement.scrollWidth <= innerWidth", True)
        assert chrome.execute_script(UNREADABLE) == []
    assert chrome.execute_script(FAINT_FOCUS) == []
    assert nameless(chrome) == []


@pytest.mark.needs("chromium", "chromedriver")
@pytest.mark.long
async def test_the_page_shows_the_money_and_hands_out_keys(tmp_path: Path) -> None:
    models = [f"model-{number}" for number in range(10)]
    price = {"input_per_million": 1000.0, "output_per_million": 1000.0}
    simulated = {"name": "one", "type": "simulated", "models": models, "simulate": {"first_token": "1ms"}}
    sections: dict[str, Any] = {
        "auth": {"mode": "keys"},
        "ledger": {"url": f"sqlite:///{tmp_path}/ledger.db"},
        "pricing": {"one": dict.fromkeys(models, price)},
        "cache": {"enabled": True},
        "budgets": [{"caller": "*", "limit_usd": 0.001, "period": "day", "hard": False}],
    }
    async with routing(simulated, **sections) as router:

        def call(key: str, model: str = "model-0") -> int:
            headers = {"authorization": f"Bearer {key}"}
            return trio.from_thread.run(lambda: router.chat(model, headers=headers, max_tokens=1)).status_code

        def press(chrome: Chrome, selector: str) -> str:
            """Press it, say yes, and return the key that is shown for it."""
            click(chrome, selector)
            shown(chrome, "document.getElementById('key-dialog').open", True)
            click(chrome, "#key-submit")
            shown(chrome, "document.getElementById('key-text').value.slice(0, 4)", "ifx_")
            key = str(chrome.execute_script("return document.getElementById('key-text').value"))
            click(chrome, "#key-close")
            shown(chrome, "document.getElementById('key-text').value", "")
            return key

        def look(chrome: Chrome) -> list[Any]:
            shown(chrome, text_of("#keys-none"), "No key has been handed out.")
            click(chrome, "#key-new")
            click(chrome, "#key-submit")
            shown(chrome, "document.getElementById('key-error').textContent.startsWith('name ')", True)
            for field, text in (
                ("key-name", "team-a"),
                ("key-rpm", "60"),
                ("key-budget", "5"),
                ("key-models", "model-*"),
            ):
                chrome.find_element("id", field).send_keys(text)
            chrome.find_element("id", "key-name").send_keys("\n")
            shown(chrome, "document.getElementById('key-text').value.slice(0, 4)", "ifx_")
            first = str(chrome.execute_script("return document.getElementById('key-text').value"))
            click(chrome, "#key-close")
            shown(chrome, text_of("#keys tbody td:nth-child(4)"), "60 requests/min, $5/month")
            assert [call(first, model) for model in models] == [200] * 10
            second = press(chrome, "#keys button[aria-label='Rotate the key team-a']")
            assert (call(first), call(second)) == (401, 200)
            chrome.refresh()
            shown(chrome, text_of("#budgets tbody .pill"), "used up: goes on", within=15)
            shown(chrome, text_of("#chart-costs .legend li:last-child"), "3 other models")
            assert (
                chrome.execute_script("return document.querySelectorAll('#costs-table tbody tr').length") == 11
            )  # and who was refused
            click(chrome, "#keys button[aria-label='Revoke the key team-a']")
            click(chrome, "#key-submit")
            shown(chrome, text_of("#keys-none"), "No key has been handed out.")
            assert call(second) == 401
            click(chrome, "#revoked-too")
            shown(chrome, text_of("#keys tbody .pill"), "revoked")
            click(chrome, "#costs-table summary")
            shown(chrome, text_of("#cache-facts dd"), "0")
            can_be_used(chrome)
            click(chrome, "#key-new")
            can_be_used(chrome)
            assert first not in chrome.page_source
            return list(chrome.get_log("browser"))

        said = await beside(router.url, look)
        assert [line["message"] for line in said if "400 (" not in line["message"]] == []
