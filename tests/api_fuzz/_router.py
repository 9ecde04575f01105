"""The router that is asked: `infermux serve` as a process of its own, with an upstream and with traffic."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).parents[2]
TOKEN = "fuzz-management-token"
STARTS_WITHIN = 30.0
ENDS_WITHIN = 15.0


def simulated(name: str, *models: str, **simulate: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": "simulated",
        "models": [*models],
        "simulate": {"first_token": "1ms", "tokens_per_second": 100_000, **simulate},
    }


class Upstream(BaseHTTPRequestHandler):
    """Has every endpoint that is passed through, and answers whatever is sent."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers.get("content-length") or 0))
        choices = [{"index": 0, "text": "Hello", "finish_reason": "stop", "logprobs": None}]
        body = json.dumps({"object": "answer", "path": self.path, "data": [], "choices": choices}).encode()
        kind = "application/json"
        if b'"stream": true' in asked or b'"stream":true' in asked:
            body, kind = b"data: " + body + b"\n\ndata: [DONE]\n\n", "text/event-stream"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def upstream() -> Generator[str]:
    """Its base URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


def configuration(mode: str, base_url: str) -> dict[str, Any]:
    """Simulated providers, of which one fails now and then and one takes its time, and one that takes everything.

    With budgets, prices and a ledger.
    """
    anything = {"name": "anything", "type": "openai", "base_url": base_url, "health_check": {"disabled": True}}
    return {
        "listen": "127.0.0.1:0",
        "auth": {"mode": mode},
        "ledger": {"url": "sqlite:///ledger.db"},
        "log": {"level": "warn"},
        "limits": {"header_timeout": "5s"},
        "providers": [
            {**simulated("quick", "demo"), "model_aliases": {"smart": "demo"}},
            simulated("quicker", "demo"),
            {**simulated("flaky", "demo", failure_rate=0.2), "circuit_breaker": {"recovery_window": "200ms"}},
            simulated("slow", "slow", first_token="100ms", tokens_per_second=20),
            {**anything, "models": ["passed", "omni-moderation-latest"]},
        ],
        "routing": {"groups": [{"name": "those", "models": ["demo"], "strategy": "least_busy", "cache": True}]},
        "cache": {"enabled": True, "ttl": "1s"},
        "budgets": [
            {"caller": "*", "limit_usd": 50, "period": "month"},
            {"limit_usd": 0.01, "period": "day", "hard": False},
        ],
        "pricing": {"quick": {"demo": {"input_per_million": 1.0, "output_per_million": 2.0}}},
    }


@attrs.frozen
class Router:
    """A running one. `key` opens /v1."""

    url: str
    key: str
    log: Path

    def ask(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """What JSON there is at `path`, with the management token; `body` makes it a POST."""
        data = None if body is None else json.dumps(body).encode()
        told = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", **(headers or {})}
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers=told)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@contextmanager
def router(folder: Path, mode: str, base_url: str) -> Generator[Router]:
    """Serve with that `auth.mode`, its files in `folder`. It has to end well."""
    config, log = folder / "infermux.yml", folder / "router.log"
    config.write_text(json.dumps(configuration(mode, base_url)))
    command = [sys.executable, "-c", "from infermux.cli import main; main()", "serve", "-c", str(config)]
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "INFERMUX_MANAGEMENT_TOKEN": TOKEN,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=output, stderr=subprocess.STDOUT)
    try:
        served = Router(_url(process, log), "", log)
        made = served.ask("/_infermux/keys", {"name": "fuzz", "names_callers": True})
        yield attrs.evolve(served, key=made["key"])
        process.send_signal(signal.SIGTERM)
        code = process.wait(ENDS_WITHIN)
        assert code == 0, f"the router ended with {code}: {log.read_text()[-2000:]}"
    except OSError as error:
        raise RuntimeError(f"the router ended with {process.poll()}: {log.read_text()[-6000:]}") from error
    finally:
        process.kill()
        process.wait()


def _url(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        _, found, rest = log.read_text().partition("listens on ")
        if found and " " in rest:
            return rest.split(" ", 1)[0]
        time.sleep(0.05)
    raise AssertionError(f"the router did not start: {log.read_text()[-2000:]}")


@contextmanager
def traffic(served: Router) -> Generator[None]:
    """Three callers that ask again and again, whatever becomes of it; the requests' ids come again."""
    stop = threading.Event()
    callers = [threading.Thread(target=_caller, args=(served, number, stop), daemon=True) for number in range(3)]
    for caller in callers:
        caller.start()
    try:
        yield
    finally:
        stop.set()
        for caller in callers:
            caller.join(ENDS_WITHIN)


def _caller(served: Router, number: int, stop: threading.Event) -> None:
    headers = {
        "Authorization": f"Bearer {served.key}",
        "x-request-id": f"traffic-{number}",
        "x-infermux-tags": "env=fuzz",
    }
    messages = [{"role": "user", "content": "Hello " * 20}]
    while not stop.wait(0.2):
        for model, stream in (("demo", False), ("slow", True), ("nobody", False)):
            body = {"model": model, "messages": messages, "stream": stream, "max_tokens": 40}
            data = json.dumps(body).encode()
            told = {"Content-Type": "application/json", **headers}
            request = urllib.request.Request(f"{served.url}/v1/chat/completions", data=data, headers=told)
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    answer.read()
            except OSError:
                stop.wait(0.1)  # refused, killed, or the router ends
