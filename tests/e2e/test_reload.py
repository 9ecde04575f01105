"""Reloading the program itself: by a signal, a request, the command, and by watching the file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio

from tests.e2e._process import LISTENS, Process, minimal_environ, running
from tests.e2e._router import HELLO, in_order, provider
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = pytest.mark.slow

STREAM = {"model": "gpt-4o", "messages": HELLO, "stream": True}
ASK = {"model": "gpt-4o", "messages": HELLO}


@attrs.define(eq=False)
class Served:
    """A running router and its file."""

    process: Process
    web: httpx.AsyncClient
    folder: Path
    environ: dict[str, str]

    @property
    def file(self) -> Path:
        return self.folder / "infermux.yml"

    def write(self, *providers: dict[str, Any], **config: Any) -> None:
        """As an editor does it: a new file takes the name of the old one."""
        fresh = self.folder / "fresh"
        fresh.write_text(json.dumps({"listen": "127.0.0.1:0", "providers": providers, **config}))
        fresh.rename(self.file)

    async def answered_by(self) -> str:
        answer = await self.web.post("/v1/chat/completions", json=ASK)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-infermux-provider"]

    async def command(self, *arguments: str) -> tuple[int, str, str]:
        """`infermux reload` with these arguments: exit code, stdout, stderr."""
        done = await trio.run_process(
            [sys.executable, "-m", "infermux", "reload", *arguments],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=minimal_environ(str(self.folder), self.environ),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()


@asynccontextmanager
async def served(
    *providers: dict[str, Any], options: tuple[str, ...] = (), environ: dict[str, str] | None = None, **config: Any
) -> AsyncGenerator[Served]:
    with tempfile.TemporaryDirectory() as name:
        folder, env = Path(name), environ or {}
        (folder / "infermux.yml").write_text(json.dumps({"listen": "127.0.0.1:0", "providers": providers, **config}))
        command = [sys.executable, "-m", "infermux", "serve", *options]
        async with running(command, environ=env, cwd=name, fresh=False) as process:
            process.port = int((await process.says(LISTENS))[1])
            web = httpx.AsyncClient(base_url=process.url, trust_env=False, verify=False, timeout=10)
            async with web:
                yield Served(process, web, folder, env)
        assert "Traceback" not in process.output, process.output


async def test_sighup_reloads_under_a_stream_and_a_bad_file_changes_nothing() -> None:
    slow = Reply(tokens=tuple("abcdefghij"), interval=0.08)
    async with OpenAIUpstream(default=slow) as one, OpenAIUpstream() as two:
        first, second = provider("one", one), provider("two", two)
        async with served(first, second, routing=in_order(), log={"level": "info"}) as router:
            async with router.web.stream("POST", "/v1/chat/completions", json=STREAM) as answer:
                parts = answer.aiter_text()
                await anext(parts)
                router.write(second, {**first, "tags": ["last"]}, routing=in_order(), limits={"max_body_bytes": "1KB"})
                router.process.send(signal.SIGHUP)
                await router.process.says("SIGHUP: reloaded")
                await router.process.says("~ limits.max_body_bytes: 33554432 -> 1000")
                assert await router.answered_by() == "two"
                rest = "".join([part async for part in parts])
            assert rest.endswith("data: [DONE]\n\n")
            too_large = await router.web.post("/v1/chat/completions", json={**ASK, "user": "x" * 1000})
            assert too_large.status_code == 413
            router.write({**first, "colour": "red"}, {**second, "size": 1})
            router.process.send(signal.SIGHUP)
            await router.process.says("everything stays as it was")
            for key in ("providers[0].colour", "providers[1].size"):
                await router.process.says(f"infermux.yml:1: {key}: ")
            assert await router.answered_by() == "two"
            router.process.send(signal.SIGTERM)
            assert await router.process.ended() == 0


async def test_the_command_shows_the_difference_then_makes_it_and_names_every_problem() -> None:
    environ = {"INFERMUX_MANAGEMENT_TOKEN": "tok-en"}
    async with OpenAIUpstream() as one, OpenAIUpstream() as two:
        first, second = provider("one", one), provider("two", two)
        async with served(first, environ=environ, management_listen="127.0.0.1:0") as router:
            listens = {"listen": "127.0.0.1:1", "management_listen": "127.0.0.1:0"}
            url = ("--url", router.process.management_url)
            router.write(first, {**second, "weight": 2}, retry={"max_attempts": 2}, **listens)
            code, out, err = await router.command(*url, "--dry-run")
            assert (code, err) == (0, "")
            shown = out.splitlines()
            assert shown[0] == f"{router.file.resolve()}: would change"
            assert {"+ provider two", "~ retry.max_attempts: 4 -> 2"} < set(shown)
            assert '! listen: "127.0.0.1:0" -> "127.0.0.1:1" (needs a restart)' in shown
            assert len(shown) == 4
            code, out, _ = await router.command(*url, "--json")
            told = json.loads(out)
            assert (code, told["dry_run"], told["difference"]["added"]) == (0, False, ["two"])

            router.write({**first, "colour": "red"}, {**first, "size": 1})
            code, out, err = await router.command(*url)
            assert (code, out) == (2, "")
            assert "providers[0].colour: " in err
            assert "providers[1].size: " in err
            assert "goes on with the one it has" in err


async def test_a_watched_file_and_the_secrets_it_names_are_reloaded() -> None:
    async with OpenAIUpstream(keys=["k-1", "k-2"]) as one, OpenAIUpstream() as two:
        with tempfile.TemporaryDirectory() as name:
            secret = Path(name, "key")
            secret.write_text("k-1")  # noqa: ASYNC240 - a few bytes
            first = {**provider("one", one), "api_key": f"${{file:{secret}}}"}
            async with served(first, options=("--watch",)) as router:
                assert await router.answered_by() == "one"
                secret.write_text("k-2 ")  # noqa: ASYNC240 - a few bytes
                secret.write_text("k-2")  # noqa: ASYNC240 - a few bytes
                await router.process.says("api_key: changed")
                assert await router.answered_by() == "one"
                assert one.chats[-1].header("authorization") == "Bearer k-2"
                router.write(provider("two", two))
                await router.process.says("+ provider two")
                assert await router.answered_by() == "two"
                assert "k-2" not in router.process.output
