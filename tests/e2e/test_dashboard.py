"""The dashboard: its files and who gets them, and the page in a real browser."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import httpx
import pytest
import trio

from infermux.http.dashboard import pages
from tests.e2e._router import WAYS, Router, provider, routing
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = pytest.mark.slow

T = TypeVar("T")
Chrome: TypeAlias = Any  # selenium's, whose types are unknown in part
TOKEN = "tok-en"
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)
CHECKED_OFTEN = {"health_check": {"interval": "300ms", "timeout": "1s", "method": "models"}}
REQUESTED = "return performance.getEntriesByType('resource').map(each => new URL(each.name).origin)"


# The files.


@pytest.mark.parametrize("way", WAYS)
async def test_the_files_are_served_without_the_token_under_a_policy_that_allows_nothing_else(way: str) -> None:
    environ = {"INFERMUX_MANAGEMENT_TOKEN": TOKEN}
    own = {"authorization": f"Bearer {TOKEN}"}
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("one", upstream), way=way, environ=environ, headers=own) as router,
        httpx.AsyncClient(base_url=router.url, trust_env=False) as stranger,
    ):
        for path in pages("/_infermux") - {"/_infermux"}:
            page = await stranger.get(path)
            assert page.status_code == 200, path
            policy = page.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self';")
            assert "unsafe" not in policy
            assert page.headers["x-content-type-options"] == "nosniff"
            again = await stranger.get(path, headers={"if-none-match": page.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert (await stranger.get(path, headers={"host": "evil.example"})).status_code == 403
            assert (await stranger.post(path)).status_code == 405
        moved = await stranger.get("/_infermux")
        assert (moved.status_code, moved.headers["location"]) == (308, "/_infermux/")
        for path in ("overview", "events", "requests", "explain", "explain/x"):
            assert (await stranger.get(f"/_infermux/{path}")).status_code == 401, path
        assert (await stranger.delete("/_infermux/requests/x")).status_code == 401


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


@contextmanager
def browser(url: str, *, kept: tuple[str, ...] = ("browser",)) -> Generator[Chrome]:
    """Debian's Chromium at that page, 1280 by 900. What `kept` names is logged: what it says on its console."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for flag in (*FLAGS.split(), f"--user-data-dir={profile}", "--window-size=1280,900"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", dict.fromkeys(kept, "ALL"))
        chrome = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        try:
            chrome.set_page_load_timeout(20)
            chrome.get(url)
            yield chrome
        finally:
            chrome.quit()


def shown(chrome: Chrome, script: str, wanted: Any, *, within: float = 10.0) -> None:
    """Wait until `script` returns `wanted`."""
    import time

    until, found = time.monotonic() + within, None
    while time.monotonic() < until:
        found = chrome.execute_script(f"return {script}")
        if found == wanted:
            return
        time.sleep(0.05)
    raise AssertionError(f"{script} is {found!r}, not {wanted!r}")


def state(name: str) -> str:
    return f"document.querySelector('[data-provider={name}] .pill')?.textContent"


def press(chrome: Chrome, name: str, verb: str) -> None:
    chrome.execute_script(f"document.querySelector('[data-provider={name}] [data-verb={verb}]').click()")


def emulate(chrome: Chrome, width: int, scheme: str) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


async def beside(router: Router, look: Callable[[Chrome], T]) -> T:
    """Run `look` with a browser, in a thread of its own."""

    def run() -> T:
        with browser(f"{router.url}/_infermux/") as chrome:
            return look(chrome)

    return await trio.to_thread.run_sync(run)


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
                for width, scheme in ((360, "light"), (1280, "dark")):
                    emulate(chrome, width, scheme)
                    shown(chrome, "innerWidth", width)
                    shown(chrome, "document.documentElement.scrollWidth <= innerWidth", True)
                dark = "getComputedStyle(document.body).backgroundColor"
                shown(chrome, dark, "rgb(16, 19, 27)")
                assert set(chrome.execute_script(REQUESTED)) == {router.url}
                return list(chrome.get_log("browser"))

            async def ask() -> None:
                await router.chat(headers={"x-request-id": "mine"})

            assert await beside(router, look) == []


@pytest.mark.needs("chromium", "chromedriver")
async def test_the_page_asks_for_the_token_and_sends_it_as_a_header() -> None:
    environ = {"INFERMUX_MANAGEMENT_TOKEN": TOKEN}
    async with OpenAIUpstream() as upstream, routing(provider("one", upstream), environ=environ) as router:

        def give(chrome: Chrome, token: str) -> None:
            shown(chrome, "document.getElementById('token').open", True)
            field = chrome.find_element("id", "token-field")
            assert field == chrome.switch_to.active_element
            field.send_keys(token, "\n")

        def look(chrome: Chrome) -> None:
            give(chrome, "wrong")
            shown(chrome, "document.getElementById('token-error').textContent", "That token is not this router's.")
            give(chrome, TOKEN)
            shown(chrome, state("one"), "routable")
            press(chrome, "one", "drain")
            shown(chrome, state("one"), "draining")
            assert chrome.get_cookies() == []
            assert TOKEN not in chrome.current_url
            assert chrome.execute_script("return [localStorage.length, sessionStorage.length]") == [0, 1]

        await beside(router, look)
        async with httpx.AsyncClient(trust_env=False) as stranger:
            refused = await stranger.post(f"{router.url}/_infermux/providers/one/enable")
            assert refused.status_code == 401
