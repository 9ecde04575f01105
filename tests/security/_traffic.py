"""What happens to the router of a campaign: every kind of request and failure, every page, every command."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from typing import Any, Final

import httpx
import trio

from tests.conftest import which
from tests.database._postgresql import USER, Cluster
from tests.mocks.anthropic_upstream import Reply as ClaudeReply
from tests.mocks.bedrock_upstream import NOVA
from tests.mocks.bedrock_upstream import Reply as BedrockReply
from tests.mocks.openai_upstream import Reply
from tests.security import _secrets as secrets
from tests.security._canaries import Canary, escaped, made
from tests.security._world import PROMPT, World, command_lines

CHAT: Final = "/v1/chat/completions"
KEYS: Final = (secrets.API_KEY, secrets.HEADER)
ECHO: Final = "your credentials are wrong: " + " ".join(form for key in KEYS for form in escaped(key.value))
PARTLY: Final = "Incorrect API key provided: " + ", ".join(f"{key.value[:20]}********" for key in KEYS)
SEVERAL: Final = " ".join(key.value for key in (secrets.FROM_FILE, secrets.IN_CONFIG))


def _error(text: str, key: str) -> bytes:
    """An error as OpenAI's API tells it, with secrets in every member."""
    return json.dumps({"error": {"message": text, "type": "server_error", "param": key, "code": key}}).encode()


ECHOED: Final = _error(ECHO, secrets.API_KEY.value)
ONE_KEY: Final = secrets.API_KEY.value
SHORT: Final = (
    *(Reply(status=status, body=ECHOED) for status in (400, 401, 404, 429, 500)),
    Reply(status=403, body=ECHOED.replace(b"/", b"\\/")),
    Reply(status=401, body=_error(PARTLY, "invalid_api_key")),
    Reply(status=400, body=ECHO.encode(), content_type="text/plain"),
    Reply(status=302, body=ECHOED, headers=(("Location", f"http://127.0.0.1:1/?key={ONE_KEY}"),)),
    Reply(status=429, headers=(("Retry-After", ONE_KEY), ("X-RateLimit-Reset-Requests", ONE_KEY))),
    Reply(body=ECHOED, headers=(("X-Echo", ONE_KEY), ("Set-Cookie", f"session={ONE_KEY}"))),
    Reply(body=ECHO.encode(), content_type="text/html"),
    Reply(error_after=2, interval=0.01, error={"message": ECHO, "type": ONE_KEY, "code": ONE_KEY}),
    Reply(cut_after=3),
    Reply(reset=True),
    Reply(hang=True),
)
LONG: Final = (
    *SHORT,
    *(Reply(status=status, body=body) for status in (402, 422, 503, 529) for body in (ECHOED, ECHO.encode())),
    *(Reply(status=status, body=_error(PARTLY, "x")) for status in (400, 429, 500)),
    Reply(events=(b"data: " + ECHOED + b"\n\n",)),
    Reply(events=(b"event: " + ONE_KEY.encode() + b"\ndata: {\n\n",)),
    Reply(malformed_after=1),
    Reply(reset_after=2),
    Reply(status=200, body=b'{"choices": "' + ONE_KEY.encode()),
    Reply(status=500, body=ECHOED[:120]),
)


def said(world: World, **more: str) -> dict[str, str]:
    """The headers of a caller who may come in, who sends more than it should."""
    mine = {"authorization": f"Bearer {world.credential}", "cookie": f"session={secrets.COOKIE.value}"}
    return {**mine, "x-infermux-caller": "team-a", "x-infermux-tags": "env=test", **more}


async def ask(world: World, model: str, *, path: str = CHAT, stream: bool = False, **headers: str) -> httpx.Response:
    body: dict[str, Any] = {"model": model, "messages": PROMPT, "max_tokens": 20, "stream": stream}
    url = f"{path}?api_key={secrets.QUERY.value}"
    return world.keep_answer(f"answer: {path}", await world.web.post(url, json=body, headers=said(world, **headers)))


async def operate(world: World, method: str, page: str, **more: Any) -> httpx.Response:
    """What an operator asks, with the token."""
    headers = {"authorization": f"Bearer {secrets.TOKEN.value}", **more.pop("headers", {})}
    answer = await world.web.request(method, f"/_infermux/{page}", headers=headers, **more)
    return world.keep_answer(f"page: {method} {page.partition('?')[0]}", answer)


async def fail(world: World, faults: Sequence[Reply]) -> None:
    """Each fault, once whole and once streamed; the credentials that it makes suspect are taken back after it."""
    for fault in faults:
        for stream in (False, True):
            world.openai.script.append(fault)
            await ask(world, "gpt-4o", stream=stream)
            if fault.status in (401, 403, 429):
                await operate(world, "POST", "providers/echoing/reset")
    world.openai.script.clear()


async def succeed(world: World) -> None:
    """An answer of each kind, and what comes of each provider."""
    spoken = (secrets.ANSWER.value[:10], secrets.ANSWER.value[10:])
    world.openai.default = world.azure.default = Reply(tokens=spoken)
    world.anthropic.default = ClaudeReply(tokens=spoken)
    for stream in (False, True):
        for model in ("gpt-4o", "several", "several", "sim", "claude", "azure", "auto"):
            await ask(world, model, stream=stream)
        await ask(world, "gpt-4o", path="/v1/messages", stream=stream)
        for model in ("claude", "azure"):
            await ask(world, model, stream=stream)  # again: from the cache
    for status in (401, 400, 500):
        world.openai.script.append(Reply(status=status, body=_error(SEVERAL, secrets.IN_CONFIG.value)))
        await ask(world, "several")
    for model in ("refusing", "dead", "tls", "proxied", "nobody-has-it"):
        await ask(world, model)


async def fail_elsewhere(world: World) -> None:
    """Providers of other kinds that repeat their credentials."""
    error = {"type": "x", "message": f"x-api-key: {secrets.CLAUDE.value}"}
    for status in (400, 401, 529):
        body = json.dumps({"type": "error", "error": error}).encode()
        world.anthropic.script.append(ClaudeReply(status=status, body=body))
        await ask(world, "claude")
        world.azure.script.append(Reply(status=status, body=_error(secrets.AZURE.value, "x")))
        await ask(world, "azure")
    world.anthropic.script.append(ClaudeReply(error_after=1, error=error))
    await ask(world, "claude", stream=True)
    if world.bedrock is not None:
        # As AWS tells a signature that does not match: with the request it would have signed, session token included.
        canonical = f"x-amz-security-token:{secrets.AWS_TOKEN.value}\nCredential={secrets.AWS_ID.value}/2026"
        for name in ("UnrecognizedClientException", "ValidationException", "InternalServerException"):
            world.bedrock.script.append(BedrockReply(error=(name, f"The Canonical String was '{canonical}'")))
            await ask(world, NOVA)
        await ask(world, NOVA)


async def lend(world: World) -> None:
    """A caller's own credential, that its provider repeats."""
    echo = _error(f"wrong: {secrets.CREDENTIAL.value}", "x")
    world.openai.default = Reply()
    for fault in (Reply(), Reply(status=500, body=echo), Reply(status=429, body=echo), Reply(cut_after=2)):
        for stream in (False, True):
            world.openai.script.append(fault)
            await ask(world, "lent", stream=stream)
    error = {"message": secrets.CREDENTIAL.value, "type": "server_error", "code": None}
    world.openai.script.append(Reply(error_after=1, error=error))
    await ask(world, "lent", stream=True)


async def intrude(world: World) -> None:
    """Callers who may not come in, and what else they send."""
    wrong = (
        {"authorization": f"Bearer {secrets.WRONG_KEY.value}"},
        {"x-api-key": secrets.WRONG_KEY.value},
        {"authorization": f"Bearer ifx_aaaaaaaaaaaa_{secrets.WRONG_KEY.value}"},
        {"authorization": "Basic " + base64.b64encode(f"user:{secrets.BASIC.value}".encode()).decode()},
        {"authorization": secrets.WRONG_KEY.value},
        {"x-infermux-timeout": secrets.WRONG_KEY.value},
        {"x-infermux-priority": secrets.WRONG_KEY.value},
        {"host": secrets.WRONG_KEY.value},
    )
    for headers in wrong:
        for path in ("/v1/models", f"/v1/models?key={secrets.QUERY.value}", "/nothing", "/_infermux/status"):
            world.keep_answer("intruder: page", await world.web.get(path, headers=headers))
        body = {"model": "sim", "messages": PROMPT}
        await _intrude_inference(world, headers, body)
    wrong_token = {"authorization": f"Bearer {secrets.WRONG_TOKEN.value}"}
    for page in ("status", "config", "keys", "events"):
        world.keep_answer("intruder: page", await world.web.get(f"/_infermux/{page}", headers=wrong_token))
    await world.web.post(CHAT, content=b"{" + secrets.PROMPT.value.encode(), headers=said(world))


async def _intrude_inference(world: World, headers: dict[str, str], body: dict[str, Any]) -> None:
    if "host" in headers:
        return  # the answer repeats the name that was refused, to who sent it
    world.keep_answer("intruder: inference", await world.web.post(CHAT, json=body, headers=headers))


async def kill(world: World) -> None:
    """End a running request; the pages of it while it runs."""
    world.openai.script.append(Reply(interval=0.05, tokens=("x",) * 2000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ask_to_be_killed, world)
        with trio.move_on_after(3):
            while not (running := (await operate(world, "GET", "requests")).json()["requests"]):  # noqa: ASYNC110 - asked
                await trio.sleep(0.02)
            await operate(world, "GET", "overview")
            for each in running:
                await operate(world, "DELETE", f"requests/{each['id']}")


async def _ask_to_be_killed(world: World) -> None:
    with trio.move_on_after(5):
        await ask(world, "gpt-4o", stream=True)


PAGES: Final = (
    *("health", "ready", "status", "providers", "nothing", "config", "metrics", "requests", "explain", "overview"),
    *("prices", "budgets", "costs", "keys", "keys/first", "keys/nobody", "providers/nobody", "cache"),
    "costs?format=csv&group_by=caller,model",
)


async def look(world: World) -> None:
    """Every page with and without the token, and what a reload tells."""
    rows = (await operate(world, "GET", "providers")).json()["providers"]
    decisions = (await operate(world, "GET", "explain?limit=1000")).json()["decisions"]
    pages = [*PAGES, *(f"providers/{row['name']}" for row in rows)]
    pages += [f"explain/{each['id']}" for each in decisions[:20]]
    for page in pages:
        await operate(world, "GET", page)
        world.keep_answer("intruder: page", await world.web.get(f"/_infermux/{page}"))
    for row in rows:
        await operate(world, "POST", f"providers/{row['name']}/probe")
    await listen(world)
    await reload(world)


async def listen(world: World) -> None:
    """What the stream of events says in a second."""
    headers = {"authorization": f"Bearer {secrets.TOKEN.value}"}
    with trio.move_on_after(1.2):
        async with world.web.stream("GET", "/_infermux/events", headers=headers) as events:
            async for data in events.aiter_bytes():
                world.keep("page: events", data)


async def reload(world: World) -> None:
    """The same file with every secret another one, and one that is wrong: what would be done, what is said."""
    before = world.file.read_text()
    changed = json.loads(before)
    for each in changed["providers"]:
        each.get("headers", {})["X-Another-Token"] = secrets.HEADER.value
        each["extra_body"] = {"metadata": {"a": secrets.EXTRA.value}}
        if each["name"] in ("echoing", "claude"):
            each["api_key"] = secrets.IN_CONFIG.value
        if each["name"] == "proxied":
            each["proxy"] = f"http://other:{secrets.PROXY.value}@127.0.0.1:9"
    for text in (json.dumps(changed), before.replace('"150ms"', '"${PROVIDER_KEY}"'), before[:-20]):
        world.file.write_text(text)
        await operate(world, "POST", "reload?dry_run=true")
        await operate(world, "POST", "reload")
    world.file.write_text(before)
    await operate(world, "POST", "reload")


COMMANDS: Final = ("check", "models", "keys list", "keys show first", "costs", "top --once", "top --json", "reload")


async def command(world: World) -> None:
    """What the commands print."""
    url = ("--url", world.process.url)
    asks = {"top", "reload", "explain"}
    for words in COMMANDS:
        parts = words.split()
        await world.command(*parts, *(url if parts[0] in asks else ()))
    latest = (await operate(world, "GET", "explain?limit=1")).json()["decisions"]
    await world.command("explain", latest[0]["id"], *url)
    await world.command("infer", "sim", secrets.PROMPT.value)
    broken = world.folder / "broken.yml"
    broken.write_text(world.file.read_text().replace('"type": "openai"', '"type": "${PROVIDER_KEY}"'))
    await world.command("check", "-c", str(broken))
    await world.command("serve", "-c", str(broken))


def gather(world: World) -> None:
    """Put what is lying about among the artefacts."""
    world.keep("stdout", world.process.stdout.encode())
    world.keep("stderr", world.process.stderr.encode())
    world.keep("traces", b"\n".join(world.collected))
    world.keep("command lines", command_lines(world.process.process.pid))
    if world.cluster is not None:
        world.keep("database: dump", dumped(world.cluster))
    for file in world.folder.rglob("*"):
        if file.is_file() and file.name.startswith("ledger.db"):
            world.keep(f"database: {file.name}", file.read_bytes())


def dumped(cluster: Cluster) -> bytes:
    """All that PostgreSQL keeps: its dump, and its files as they are, log and write-ahead log included."""
    program = which("pg_dumpall")
    assert program is not None
    command = [program, "-h", str(cluster.folder), "-U", USER, "--no-role-passwords"]
    dump = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
    files = [file.read_bytes() for file in cluster.folder.rglob("*") if file.is_file() and file.stat().st_size < 2**25]
    return dump + b"\n".join(files)


async def make_keys(world: World, *, by_command: bool) -> list[Canary]:
    """Keys of callers, by the API and by the command line; what is left of them is to be nowhere.

    The first one is the caller's from now on.
    """
    token = {"authorization": f"Bearer {secrets.TOKEN.value}"}
    told = [
        (await world.web.post("/_infermux/keys", json={"name": "first"}, headers=token)).json(),
        (await world.web.post("/_infermux/keys/first/rotate", json={"keep_old": "1h"}, headers=token)).json(),
    ]
    if by_command:
        told.append(json.loads(await world.secret_command("keys", "create", "--name", "second", "--json")))
    world.key = told[1]["key"]
    return [made(f"the key of a caller, number {at}", each["key"].rpartition("_")[2]) for at, each in enumerate(told)]
