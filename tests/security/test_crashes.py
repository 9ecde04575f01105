"""What is logged when something crashes, and what the objects show of themselves that tracebacks and messages name."""

from __future__ import annotations

import gc
import io
import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import trio

from infermux.config.settings import LogSettings, ProviderSettings
from infermux.logs import set_up_logging
from infermux.providers.interface import Call
from infermux.providers.simulated import Simulated
from tests.e2e._router import Router, provider, routing, until
from tests.mocks.openai_upstream import OpenAIUpstream, Reply
from tests.security import _secrets as secrets
from tests.security._canaries import leaks

pytestmark = pytest.mark.slow

LONGEST_REPR = 100_000  # a line of the log is no place for all that lives
PROMPT = [{"role": "user", "content": secrets.PROMPT.value}]


class CrashingInSend(Simulated):
    """Its variables hold what a traceback that prints local variables would show."""

    async def send(self, call: Call) -> Any:
        key = f"Bearer {secrets.API_KEY.value}"
        prompt = call.body
        return [key, prompt][len(key) + len(prompt)]


class CrashingInProbe(Simulated):
    """It ends its provider's actor, whose state has the settings."""

    async def probe(self, *_: Any, **__: Any) -> Any:
        raise IndexError("the probe crashed")


@contextmanager
def logged(format_: str) -> Generator[io.StringIO]:
    """What would be written to stderr, by a log at level debug."""
    stderr = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        with patch.object(sys, "stderr", stderr):
            set_up_logging(LogSettings(level="debug", format=format_))
            yield stderr
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.getLogger("infermux").setLevel(logging.NOTSET)


async def chat(router: Router, **more: Any) -> Any:
    headers = {"authorization": f"Bearer {secrets.CREDENTIAL.value}"}
    return await router.chat("sim", messages=PROMPT, headers=headers, **more)


@pytest.mark.parametrize("format_", ["text", "json"])
@pytest.mark.parametrize("adapter", [CrashingInSend, CrashingInProbe])
async def test_a_crash_shows_its_traceback_but_no_values(format_: str, adapter: type[Simulated]) -> None:
    settings = {"name": "sim", "type": "simulated", "models": ["sim"], "api_key": secrets.API_KEY.value}

    def made(settings: ProviderSettings) -> Simulated:
        return adapter(settings)

    with logged(format_) as stderr:
        async with routing(settings, crashes=True, adapters=made) as router:
            answer = await chat(router)
            await router.web.post("/_infermux/providers/sim/probe")
    assert "Traceback" in stderr.getvalue()
    assert "IndexError" in stderr.getvalue()
    found = leaks({"stderr": stderr.getvalue().encode(), "answer": str(answer.headers).encode()}, secrets.ALL)
    assert not found, found[0]


@pytest.mark.parametrize("way", ["serve", "asgi"])
async def test_a_crash_of_the_front_door_shows_no_values(way: str) -> None:
    def crash(*arguments: Any) -> Any:
        raise TypeError(f"unusable: {arguments!r}")  # what is passed around, by its repr

    settings = {"name": "sim", "type": "simulated", "models": ["sim"], "api_key": secrets.API_KEY.value}
    for name in ("infermux.http.inference.Inference._admit", "infermux.http.inference.Inference._received"):
        with logged("text") as stderr, patch(name, crash):
            async with routing(settings, crashes=True, way=way) as router:
                answer = await chat(router)
        assert answer.status_code == 500
        assert "TypeError: unusable" in stderr.getvalue()
        found = leaks({"stderr": stderr.getvalue().encode(), "answer": answer.content}, secrets.ALL)
        assert not found, found[0]


async def test_nothing_that_lives_in_a_router_shows_a_secret_in_its_repr() -> None:
    environ = {"KEY": secrets.API_KEY.value, "INFERMUX_MANAGEMENT_TOKEN": secrets.TOKEN.value}
    auth = {"mode": "static_key", "key": secrets.STATIC.value}
    async with OpenAIUpstream(keys=[secrets.API_KEY.value]) as upstream:
        upstream.default = Reply(interval=0.05, tokens=("x",) * 200)
        settings = provider("one", upstream, api_key="${KEY}", headers={"X-Secret": secrets.HEADER.value})
        proxied = provider("two", upstream, proxy=f"http://u:{secrets.PROXY.value}@127.0.0.1:1", models=["other"])
        several = provider("three", upstream, models=["third"], api_keys=[secrets.IN_CONFIG.value, "${KEY}"])
        del several["api_key"]
        async with (
            routing(settings, proxied, several, environ=environ, auth=auth) as router,
            trio.open_nursery() as nursery,
        ):
            own = {"authorization": f"Bearer {secrets.STATIC.value}", "cookie": secrets.COOKIE.value}
            token = {"authorization": f"Bearer {secrets.TOKEN.value}"}
            nursery.start_soon(lambda: router.chat(messages=PROMPT, stream=True, headers=own))
            await until(lambda: bool(upstream.chats))
            await router.web.get("/_infermux/status", headers=token)
            shown = representations()
            nursery.cancel_scope.cancel()
    assert len(shown) > 100
    assert any(name.startswith("infermux.actors") for name in shown)
    found = leaks({name: "\n".join(texts).encode() for name, texts in shown.items()}, secrets.ALL)
    assert not found, "\n".join(sorted({f"{leak.artefact}: {leak.canary}" for leak in found}))
    longest = max((len(text), name) for name, texts in shown.items() for text in texts)
    assert longest < (LONGEST_REPR, ""), longest


def representations() -> dict[str, set[str]]:
    """The reprs of all objects of the project's classes that live now, by class."""
    shown: dict[str, set[str]] = {}
    for found in gc.get_objects():
        kind: type[object] = type(found)  # pyright: ignore[reportUnknownVariableType] - of anything
        if str(kind.__module__).startswith("infermux."):
            shown.setdefault(f"{kind.__module__}.{kind.__qualname__}", set()).add(repr(found))
    return shown
