"""A router as a process of its own with a secret in every place, and upstreams that say the secrets they are sent."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import httpx
import trio
import trustme

from tests.database._postgresql import Cluster, cluster
from tests.e2e._process import LISTENS, Process, minimal_environ, running
from tests.e2e._router import provider, refused_url
from tests.http._serving import serving as serving_app
from tests.mocks.anthropic_upstream import AnthropicUpstream
from tests.mocks.bedrock_rules import Identity
from tests.mocks.bedrock_upstream import NOVA, BedrockUpstream
from tests.mocks.openai_upstream import OpenAIUpstream
from tests.security import _secrets as secrets

NEVER_OPEN: Final = {"circuit_breaker": {"consecutive_failures": 100_000, "min_requests": 100_000}}
COMMAND_WITHIN: Final = 30.0
PROMPT: Final = [{"role": "user", "content": secrets.PROMPT.value}]


@attrs.frozen(kw_only=True)
class Scenario:
    """One way to run it. `auth` is the section; `ledger` a URL, "" for SQLite's file in the folder.

    `postgresql`: on a server of its own, whose URL has a password that it does not ask for.
    """

    name: str
    way: str
    log_format: str
    auth: Mapping[str, Any]
    ledger: str = ""
    bedrock: bool = False
    postgresql: bool = False


@attrs.define(eq=False, kw_only=True)
class World:
    """The process, its upstreams, and everything that came out: `artefacts` by name."""

    scenario: Scenario
    process: Process
    folder: Path
    web: httpx.AsyncClient
    openai: OpenAIUpstream
    anthropic: AnthropicUpstream
    azure: OpenAIUpstream
    bedrock: BedrockUpstream | None
    collected: list[bytes]
    artefacts: dict[str, bytes] = attrs.field(factory=dict[str, bytes])
    statuses: set[int] = attrs.field(factory=set[int])
    key: str = ""
    cluster: Cluster | None = None

    @property
    def mode(self) -> str:
        return str(self.scenario.auth["mode"])

    @property
    def credential(self) -> str:
        """What a caller who may come in sends."""
        return {"static_key": secrets.STATIC.value, "passthrough": secrets.CREDENTIAL.value}.get(self.mode, self.key)

    def keep(self, name: str, data: bytes) -> None:
        """One more artefact; one of the same name is added to."""
        self.artefacts[name] = self.artefacts.get(name, b"") + data + b"\n"

    def keep_answer(self, name: str, answer: httpx.Response) -> httpx.Response:
        self.statuses.add(answer.status_code)
        self.keep(name, str(answer.headers).encode() + b"\n" + answer.content)
        return answer

    async def command(self, *words: str) -> None:
        """`infermux WORDS`, what it printed kept."""
        done = await self._run(*words)
        self.keep(f"command: {' '.join(words[:2])}", done.stdout + done.stderr)

    async def secret_command(self, *words: str) -> str:
        """The stdout of a command that is to print a secret, this once; what else it said is kept."""
        done = await self._run(*words)
        self.keep(f"command: {' '.join(words[:2])}", done.stderr)
        return done.stdout.decode()

    async def _run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        with trio.fail_after(COMMAND_WITHIN):
            return await trio.run_process(
                [sys.executable, "-m", "infermux", *words],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                cwd=str(self.folder),
                env=minimal_environ(str(self.folder), {**environ(self.bedrock), "INFERMUX_CONFIG": str(self.file)}),
            )

    @property
    def file(self) -> Path:
        return self.folder / "infermux.yml"


def environ(bedrock: BedrockUpstream | None) -> dict[str, str]:
    return {**secrets.ENVIRON, **(bedrock.environ if bedrock is not None else {})}


def _providers(world: Mapping[str, Any], scenario: Scenario, folder: Path) -> list[dict[str, Any]]:
    common: dict[str, Any] = {
        "api_key": "${PROVIDER_KEY}",
        "headers": {"X-Secret-Token": secrets.HEADER.value},
        "extra_body": {"user": secrets.EXTRA.value},
        "timeout": "150ms",
        "timeouts": {"idle": "150ms"},
        **NEVER_OPEN,
    }
    probed: dict[str, Any] = {"health_check": {"interval": "1s", "timeout": "500ms"}}
    several = ["${file:%s}" % (folder / "key"), secrets.IN_CONFIG.value]
    refused = refused_url()
    proxied = f"http://user:{secrets.PROXY.value}@127.0.0.1:{refused.split(':')[2].split('/')[0]}"
    found = [
        provider("echoing", world["openai"], **common, models=["gpt-4o"]),
        provider("refusing", world["openai"], **{**common, "api_key": "sk-other", **probed}, models=["refusing"]),
        provider("several", world["openai"], **{**common, "api_key": None, "api_keys": several}, models=["several"]),
        provider("dead", refused, **{**common, **probed}, models=["dead"]),
        provider("tls", world["behind_tls"], **{**common, **probed}, models=["tls"]),
        provider("proxied", "http://127.0.0.1:9/v1", **common, models=["proxied"], proxy=proxied),
        _other("claude", "anthropic", world["anthropic"], "${CLAUDE_KEY}", "claude"),
        _other("azure", "azure_openai", world["azure"], "${AZURE_KEY}", "azure") | {"azure_api_version": "v1"},
        {"name": "sim", "type": "simulated", "models": ["sim"], "simulate": {"first_token": 0}},
    ]
    if scenario.auth["mode"] == "passthrough":
        found.append(provider("lent", world["openai"], models=["lent"], **NEVER_OPEN) | {"api_key": None})
    if world["bedrock"] is not None:
        bedrock = {"name": "bedrock", "type": "bedrock", "region": world["bedrock"].region, "models": [NOVA]}
        found.append({**bedrock, "base_url": world["bedrock"].base_url, "health_check": {"disabled": True}})
    return found


def _other(name: str, kind: str, upstream: Any, key: str, model: str) -> dict[str, Any]:
    unprobed = {"disabled": True}
    found = {"name": name, "type": kind, "api_key": key, "base_url": upstream.base_url, "models": [model]}
    return {**found, "health_check": unprobed, "timeout": "1s", **NEVER_OPEN}


@asynccontextmanager
async def _collector(collected: list[bytes]) -> AsyncGenerator[str]:
    """A collector of traces that takes the first batch, and refuses the others by repeating what it was sent."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                await send({"type": message["type"] + ".complete"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        collected.append(body)
        said = b"" if len(collected) == 1 else b"refused: " + repr(scope["headers"]).encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(said))]
        await send({"type": "http.response.start", "status": 400 if said else 200, "headers": headers})
        await send({"type": "http.response.body", "body": said})

    async with serving_app(app=app) as served:
        yield f"http://127.0.0.1:{served.port}"


def _untrusted() -> ssl.SSLContext:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority: Any = trustme.CA()  # its signatures name pyOpenSSL, which is not installed
    authority.issue_cert("127.0.0.1").configure_cert(server)
    return server


def _bedrock() -> BedrockUpstream:
    identity = Identity(
        access_key=secrets.AWS_ID.value, secret_key=secrets.AWS_KEY.value, token=secrets.AWS_TOKEN.value
    )
    return BedrockUpstream(identities=(identity,))


@asynccontextmanager
async def opened(scenario: Scenario) -> AsyncGenerator[World]:
    """Run the router of `scenario` for the length of the block."""
    async with AsyncExitStack() as stack:
        keys = (secrets.API_KEY.value, secrets.FROM_FILE.value, secrets.IN_CONFIG.value, secrets.CREDENTIAL.value)
        upstreams: dict[str, Any] = {
            "openai": OpenAIUpstream(keys=keys, any_model=True),
            "behind_tls": OpenAIUpstream(ssl_context=_untrusted()),
            "anthropic": AnthropicUpstream(keys=[secrets.CLAUDE.value], any_model=True),
            "azure": OpenAIUpstream("azure", keys=[secrets.AZURE.value], any_model=True, api_version="v1"),
        }
        for upstream in upstreams.values():
            await stack.enter_async_context(upstream)
        upstreams["bedrock"] = await stack.enter_async_context(_bedrock()) if scenario.bedrock else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(cluster()) if scenario.postgresql else None
        ledger = scenario.ledger or f"sqlite:///{folder}/ledger.db"
        if server is not None:
            ledger = server.url().replace("@", f":{secrets.LEDGER.value}@", 1)
        collected: list[bytes] = []
        collector = await stack.enter_async_context(_collector(collected))
        (folder / "key").write_text(secrets.FROM_FILE.value + "\n")
        config = {
            "listen": "127.0.0.1:0",
            "log": {"level": "debug", "format": scenario.log_format},
            "auth": scenario.auth,
            "retry": {"max_attempts": 1},
            "ledger": {"url": ledger},
            "telemetry": {"otlp_endpoint": collector},
            "budgets": [{"caller": "team-a", "limit_usd": 50, "period": "month"}],
            "cache": {"enabled": True},
            "routing": {"groups": [{"name": "kept", "models": ["claude", "azure"], "cache": True}]},
            "providers": _providers(upstreams, scenario, folder),
        }
        (folder / "infermux.yml").write_text(json.dumps(config, indent=1))
        process = await stack.enter_async_context(_started(scenario, folder, upstreams["bedrock"]))
        # Hypercorn closes idle connections after five seconds, as httpx does: who is first is not what this is about.
        limits = httpx.Limits(keepalive_expiry=1.0)
        web = httpx.AsyncClient(base_url=process.url, trust_env=False, timeout=10, limits=limits)
        await stack.enter_async_context(web)
        del upstreams["behind_tls"]
        of_process: dict[str, Any] = {"process": process, "folder": folder, "web": web}
        yield World(scenario=scenario, collected=collected, cluster=server, **of_process, **upstreams)


@asynccontextmanager
async def _started(scenario: Scenario, folder: Path, bedrock: BedrockUpstream | None) -> AsyncGenerator[Process]:
    hypercorn = ["hypercorn", "-k", "trio", "-b", "127.0.0.1:0", "infermux.http.asgi:app"]
    words = hypercorn if scenario.way == "asgi" else ["infermux", "serve"]
    variables = {**environ(bedrock), "INFERMUX_CONFIG": str(folder / "infermux.yml")}
    async with running([sys.executable, "-m", *words], environ=variables, cwd=str(folder)) as process:
        process.port = int((await process.says(LISTENS))[1])
        yield process


def command_lines(pid: int) -> bytes:
    """What `ps` would show of the process and of all it has started."""
    found = b""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                belongs = int(folder.name) == pid or f"PPid:\t{pid}\n" in (folder / "status").read_text()
                found += (folder / "cmdline").read_bytes() + b"\n" if belongs else b""
            except OSError:
                continue  # it has ended meanwhile
    return found
