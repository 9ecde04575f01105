"""Secrets that must not be seen: put into the configuration, every error provoked, then looked for everywhere."""

from __future__ import annotations

import io
import json
import logging
import ssl
import sys
from typing import Any
from unittest.mock import patch

import httpx
import pytest
import trio
import trustme

from infermux.config.settings import LogSettings, ProviderSettings
from infermux.logs import set_up_logging
from infermux.providers.interface import Call
from infermux.providers.simulated import Simulated
from tests.e2e._process import serving
from tests.e2e._router import provider, refused_url, routing
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = pytest.mark.slow

API_KEY = "sk-canary/provider+key=="
SECOND = "sk-canary-second"
HEADER = "canary-header-value"
STATIC = "sk-canary-static-key"
TOKEN = "canary-management-token"
SENT = "sk-canary-sent-by-a-caller"
PASSWORD = "canary-proxy-password"
PROMPT = "canary in the prompt"
CANARIES = (
    API_KEY,
    SECOND,
    HEADER,
    STATIC,
    TOKEN,
    SENT,
    PASSWORD,
    "canary",
    "Y2FuYXJ5",
)  # the last is base64 of "canary"

ECHO = f"your key {API_KEY} and your header {HEADER} are wrong"
ECHOED = json.dumps({"error": {"message": ECHO, "type": "server_error", "param": API_KEY, "code": HEADER}}).encode()
SLASHED = ECHOED.replace(b"/", b"\\/")  # JSON as PHP writes it
FAULTS = (
    *(
        Reply(status=status, body=body)
        for status in (400, 401, 403, 404, 422, 429, 500, 503)
        for body in (ECHOED, SLASHED)
    ),
    Reply(status=400, body=ECHO.encode(), content_type="text/plain"),
    Reply(status=302, body=ECHOED, headers=(("Location", f"http://127.0.0.1:1/?key={API_KEY}"),)),
    Reply(status=429, headers=(("Retry-After", API_KEY),)),
    Reply(body=ECHOED),
    Reply(body=ECHO.encode(), content_type="text/html"),
    Reply(events=(b"data: " + ECHOED + b"\n\n",)),
    Reply(error_after=2, interval=0.02, error={"message": ECHO, "type": API_KEY, "code": HEADER}),
    Reply(cut_after=3),
    Reply(reset=True),
    Reply(hang=True),
)


def providers(echoing: OpenAIUpstream, refusing: OpenAIUpstream, behind_tls: OpenAIUpstream) -> list[dict[str, Any]]:
    common: dict[str, Any] = {
        "api_key": "${PROVIDER_KEY}",
        "headers": {"X-Secret": HEADER},
        "extra_body": {"user": "canary-extra-body"},
        "timeout": "150ms",
        "timeouts": {"idle": "150ms"},
        "circuit_breaker": {"consecutive_failures": 1000, "min_requests": 1000},
    }
    checked: dict[str, Any] = {"health_check": {"interval": "1s", "timeout": "500ms"}}
    return [
        provider("echoing", echoing, **common, models=["gpt-4o"]),
        provider("refusing", refusing, **{**common, **checked}, models=["refusing"]),
        provider("several", echoing, **{**common, "api_key": None, "api_keys": [API_KEY, SECOND]}, models=["several"]),
        provider("dead", refused_url(), **{**common, **checked}, models=["dead"]),
        provider("tls", behind_tls, **{**common, **checked}, models=["tls"]),
        provider("proxied", refused_url(), **common, models=["proxied"], proxy=f"http://user:{PASSWORD}@127.0.0.1:1"),
        {"name": "sim", "type": "simulated", "models": ["sim"], "simulate": {"first_token": 0}},
    ]


async def test_no_secret_is_seen_whatever_goes_wrong() -> None:
    async with trio.open_nursery() as nursery:  # beside each other: most of the time is their processes'
        nursery.start_soon(_no_secret_is_seen, "serve", "json")
        nursery.start_soon(_no_secret_is_seen, "asgi", "text")


async def _no_secret_is_seen(binding: str, log_format: str) -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority: Any = trustme.CA()  # its signatures name pyOpenSSL, which is not installed
    authority.issue_cert("127.0.0.1").configure_cert(server)
    environ = {"PROVIDER_KEY": API_KEY, "STATIC_KEY": STATIC, "INFERMUX_MANAGEMENT_TOKEN": TOKEN}
    async with (
        OpenAIUpstream(keys=[API_KEY], any_model=True) as echoing,
        OpenAIUpstream(keys=["another"]) as refusing,
        OpenAIUpstream(ssl_context=server) as behind_tls,
        serving(
            *providers(echoing, refusing, behind_tls),
            way=binding,
            environ=environ,
            auth={"mode": "static_key", "key": "${STATIC_KEY}"},
            log={"level": "debug", "format": log_format},
            retry={"max_attempts": 1},
        ) as process,
    ):
        seen: list[httpx.Response] = []
        async with httpx.AsyncClient(base_url=process.url, trust_env=False, verify=False, timeout=5) as web:
            for fault in FAULTS:
                for stream in (False, True):
                    echoing.script.append(fault)
                    seen.append(await ask(web, "gpt-4o", stream=stream))
                    await operate(web, "reset")
                    await operate(web, "probe")
            seen += [
                await ask(web, model)
                for model in ("refusing", "several", "several", "dead", "tls", "proxied", "nobody-has-it")
            ]
            seen += await walk(web)
        shown = [str(answer.headers) + answer.text for answer in seen]
        assert len(echoing.chats) > len(FAULTS)  # the faults were reached
        assert {answer.status_code for answer in seen} >= {200, 400, 401, 404, 429, 502, 504}
        for canary in CANARIES:
            leaked = [text for text in (*shown, process.stdout, process.stderr) if canary in text]
            assert not leaked, f"{canary} in {leaked[0][:2000]}"


async def ask(web: httpx.AsyncClient, model: str, *, stream: bool = False, key: str = STATIC) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "stream": stream}
    return await web.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})


async def operate(web: httpx.AsyncClient, verb: str) -> None:
    await web.post(f"/_infermux/providers/echoing/{verb}", headers={"authorization": f"Bearer {TOKEN}"})


async def walk(web: httpx.AsyncClient) -> list[httpx.Response]:
    """Every page, with and without keys, and some that are not there."""
    token = {"authorization": f"Bearer {TOKEN}"}
    pages = ["health", "ready", "status", "providers", "nothing", "", "providers/nobody", "config"]
    pages += [f"providers/{name}" for name in ("echoing", "refusing", "several", "dead", "tls", "proxied", "sim")]
    seen = [await web.get(f"/_infermux/{page}", headers=token) for page in pages]
    seen += [await web.get(f"/_infermux/{page}") for page in pages]
    seen += [await web.get("/v1/models", headers={"authorization": f"Bearer {key}"}) for key in (STATIC, SENT)]
    seen.append(await ask(web, "sim", key=SENT))
    seen.append(await web.get("/v1/models", headers={"x-api-key": SENT}))
    seen.append(await web.post("/v1/chat/completions", content=b"{", headers={"authorization": f"Bearer {STATIC}"}))
    return seen


@pytest.mark.parametrize("format_", ["text", "json"])
async def test_a_crashing_adapter_shows_its_traceback_but_no_values(format_: str) -> None:
    class Crashing(Simulated):
        async def send(self, call: Call) -> Any:
            key = f"Bearer {API_KEY}"  # what a traceback that prints local variables would show
            prompt = call.body
            return [key, prompt][len(key) + len(prompt)]

    def adapter(settings: ProviderSettings) -> Simulated:
        return Crashing(settings)

    settings = {"name": "sim", "type": "simulated", "models": ["sim"], "api_key": API_KEY}
    stderr = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        with patch.object(sys, "stderr", stderr):
            set_up_logging(LogSettings(level="debug", format=format_))
            async with routing(settings, crashes=True, adapters=adapter) as router:
                answer = await router.chat("sim", messages=[{"role": "user", "content": PROMPT}])
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.getLogger("infermux").setLevel(logging.NOTSET)
    assert answer.status_code == 502
    assert "Traceback" in stderr.getvalue()
    assert "IndexError" in stderr.getvalue()
    for text in (stderr.getvalue(), answer.text, str(answer.headers)):
        assert "canary" not in text
