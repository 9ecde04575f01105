"""Everything below `/_infermux/` asks for the token, and a browser signs in to get the page."""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trustme
from quart_trio import QuartTrio

from infermux.http import application
from infermux.http.dashboard import pages
from infermux.http.management import EXEMPT, management_app
from infermux.http.sign_in import COOKIE
from tests.e2e._browser import UNREADABLE, Chrome, beside, click, emulate, nameless, shown, text_of
from tests.e2e._router import EITHER_WAY, Router, provider, routing
from tests.mocks.openai_upstream import OpenAIUpstream

pytestmark = pytest.mark.slow

TOKEN = "tok-en"
ENVIRON = {"INFERMUX_MANAGEMENT_TOKEN": TOKEN}
OWN = {"authorization": f"Bearer {TOKEN}"}
HOME = "/_infermux/"
SESSION = "/_infermux/session"


@asynccontextmanager
async def guarded(**more: Any) -> AsyncGenerator[tuple[Router, httpx.AsyncClient]]:
    """A router with a token, whose `web` has it, and a stranger."""
    async with (
        OpenAIUpstream() as upstream,
        routing(provider("one", upstream), environ=ENVIRON, headers=OWN, **more) as router,
        httpx.AsyncClient(base_url=router.url, trust_env=False, verify=more.get("verify", False)) as stranger,
    ):
        yield router, stranger


# By plain requests.


async def test_every_route_of_management_but_health_and_ready_asks_for_the_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[QuartTrio] = []

    def kept(*arguments: Any, **more: Any) -> QuartTrio:
        made.append(management_app(*arguments, **more))
        return made[-1]

    monkeypatch.setattr(application, "management_app", kept)
    async with guarded() as (_, stranger):
        routes = [
            (method, re.sub(r"<[^>]+>", "one", rule.rule))
            for rule in made[0].url_map.iter_rules()
            if rule.rule.startswith("/_infermux")
            for method in rule.methods or ()
        ]
        assert len(routes) > 50
        for method, path in routes:
            answer = await stranger.request(method, path)
            assert (answer.status_code == 401) == (path not in EXEMPT), (method, path)


@pytest.mark.parametrize("way", EITHER_WAY)
async def test_who_signs_in_gets_the_page_and_its_files_and_nothing_else(way: str) -> None:
    async with guarded(way=way) as (router, browser):
        assert (await browser.get(HOME)).status_code == 401
        assert (await browser.get("/_infermux")).status_code == 401
        begun = await browser.post(SESSION, headers=OWN)
        assert begun.status_code == 204
        sent = begun.headers["set-cookie"]
        assert TOKEN not in sent
        assert {"HttpOnly", "SameSite=Strict", "Path=/_infermux", "Max-Age=43200"} <= set(sent.split("; "))
        assert "Secure" not in sent
        for path in pages("/_infermux"):
            page = await browser.get(path, follow_redirects=True)
            assert page.status_code == 200, path
            assert (await browser.post(path)).status_code == 401, path
        for path in ("overview", "events", "status", "keys", "nothing"):
            assert (await browser.get(f"/_infermux/{path}")).status_code == 401, path
        for method, path in (("POST", "providers/one/disable"), ("POST", "session"), ("DELETE", "requests/x")):
            assert (await browser.request(method, f"/_infermux/{path}")).status_code == 401, path
        assert (await router.provider("one"))["routable"]


async def test_who_signs_out_has_no_cookie_any_more_with_and_without_the_token() -> None:
    async with guarded() as (_, browser):
        for headers, status in ((OWN, 204), ({}, 401)):
            await browser.post(SESSION, headers=OWN)
            assert (await browser.get(HOME)).status_code == 200
            gone = await browser.delete(SESSION, headers=headers)
            assert gone.status_code == status
            assert not browser.cookies
            assert (await browser.get(HOME)).status_code == 401


async def test_a_cookie_of_ones_own_making_opens_nothing() -> None:
    async with guarded() as (_, stranger):
        good = (await stranger.post(SESSION, headers=OWN)).cookies[COOKIE]
        until, seal = good.split(".")
        forged = (
            "",
            ".",
            "x",
            seal,
            f"{until}.",
            f"{until}.{seal[:-1]}",
            f"{int(until) + 1}.{seal}",
            f"{good}.x",
            "\xe9.x",
        )
        stranger.cookies.clear()
        for cookie in forged:
            headers = [(b"cookie", f"{COOKIE}={cookie}".encode("latin-1"))]
            assert (await stranger.get(HOME, headers=headers)).status_code == 401, cookie
        assert (await stranger.get(HOME, headers={"cookie": f"{COOKIE}={good}"})).status_code == 200


async def test_a_program_gets_the_page_by_the_token_and_without_it_where_to_sign_in() -> None:
    async with guarded() as (router, stranger):
        assert "<main>" in (await router.web.get(HOME)).text
        page = await stranger.get(HOME)
        assert (page.status_code, page.headers["content-type"]) == (401, "text/html; charset=utf-8")
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["www-authenticate"].startswith("Bearer")
        assert (await stranger.get(HOME, headers={"host": "evil.example"})).status_code == 403
        foreign = {**OWN, "origin": "https://evil.example"}
        assert (await stranger.post(SESSION, headers=foreign)).status_code == 403


async def test_the_sign_in_page_needs_no_file_and_runs_only_what_is_in_it() -> None:
    async with guarded() as (_, stranger):
        page = await stranger.get(HOME)
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    for element in ("script", "style"):
        [inline] = re.findall(rf"<{element}>(.*?)</{element}>", page.text, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode() in policy
    assert not re.search(r"\ssrc=|\son[a-z]+=\"|style=\"|innerHTML|eval\(", page.text)
    assert set(re.findall(r"https?://[^/\"'\s]+", page.text)) <= {"http://www.w3.org"}  # SVG's namespace


async def test_over_tls_the_cookie_is_sent_over_tls_only() -> None:
    authority: Any = trustme.CA()  # its signatures name pyOpenSSL, which is not installed
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    async with guarded(tls=server, verify=client) as (_, browser):
        assert "; Secure;" in (await browser.post(SESSION, headers=OWN)).headers["set-cookie"]
        assert (await browser.get(HOME)).status_code == 200


# In a browser.


def signed_out(chrome: Chrome) -> None:
    shown(chrome, "document.title", "Sign in · infermux")
    assert chrome.get_cookies() == []
    assert chrome.execute_script("return sessionStorage.length") == 0


@pytest.mark.needs("chromium", "chromedriver")
@pytest.mark.long
async def test_one_signs_in_and_out_by_the_page() -> None:
    async with guarded() as (router, _):

        def give(chrome: Chrome, token: str) -> None:
            field = chrome.find_element("id", "token")
            assert field == chrome.switch_to.active_element
            field.send_keys(token, "\n")

        def look(chrome: Chrome) -> None:
            assert nameless(chrome) == []
            for width, scheme in ((360, "light"), (1280, "dark")):
                emulate(chrome, width, scheme)
                shown(chrome, "document.documentElement.scrollWidth <= innerWidth", True)
                assert chrome.execute_script(UNREADABLE) == []
            give(chrome, "wrong")
            shown(chrome, text_of("#said"), "That token is not this router's.")
            shown(chrome, "document.activeElement.id", "token")
            give(chrome, TOKEN)
            shown(chrome, text_of("[data-provider=one] .pill"), "routable")
            click(chrome, "[data-provider=one] [data-verb=drain]")
            shown(chrome, text_of("[data-provider=one] .pill"), "draining")
            [cookie] = chrome.get_cookies()
            assert TOKEN not in str(cookie)
            assert chrome.execute_script("return document.cookie") == ""
            assert TOKEN not in chrome.current_url
            assert chrome.execute_script("return [localStorage.length, sessionStorage.length]") == [0, 1]
            # The cookie is gone, as it is after a restart: the token that the tab has is enough.
            chrome.delete_all_cookies()
            chrome.refresh()
            shown(chrome, text_of("[data-provider=one] .pill"), "draining")
            click(chrome, "#leave")
            signed_out(chrome)
            # A token that is not good any more.
            chrome.find_element("id", "token").send_keys(TOKEN, "\n")
            shown(chrome, text_of("#link"), "live")
            chrome.execute_script("sessionStorage.setItem('infermux-management-token', 'another')")
            click(chrome, "[data-provider=one] [data-verb=enable]")
            signed_out(chrome)

        await beside(router.url, look)
        assert (await router.provider("one"))["reason"] == "draining"
