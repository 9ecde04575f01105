"""Whoever starts the router and never reads what it writes to stderr has a router that works, and that ends."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.e2e._process import LISTENS, minimal_environ

pytestmark = [pytest.mark.slow, pytest.mark.long]

HEALTH = b"GET /_infermux/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def _file(folder: str) -> Path:
    dead = {"name": "dead", "type": "openai", "base_url": "http://127.0.0.1:1/v1", "models": ["m"]}
    file: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "log": {"level": "debug"},
        "providers": [{**dead, "health_check": {"disabled": True}}],
        "circuit_breaker": {"consecutive_failures": 1000},
        "ledger": {"url": None},
    }
    path = Path(folder, "infermux.yml")
    path.write_text(json.dumps(file))
    return path


async def _said(port: int, request: bytes) -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(request)
        return b"".join([data async for data in stream])


async def test_a_stderr_that_nobody_reads_holds_neither_requests_nor_the_end() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "infermux", "serve", "-c", str(_file(folder))]
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=writer, env=minimal_environ(folder, {})
        )
        os.close(writer)
        try:
            with trio.fail_after(30):
                assert process.stdout is not None
                said = ""
                while (found := LISTENS.search(said)) is None:
                    said += (await process.stdout.receive_some()).decode()
                port = int(found[1])
                body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()
                head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
                request = head.encode() + b"Connection: close\r\nContent-Type: application/json\r\n\r\n" + body
                for _ in range(40):  # each of them a warning of some hundred bytes
                    assert b" 50" in (await _said(port, request)).partition(b"\r\n")[0]
                assert b" 200 " in await _said(port, HEALTH)
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
        finally:
            process.kill()
            await process.wait()
            os.close(reader)
            if process.stdout is not None:
                await process.stdout.aclose()
