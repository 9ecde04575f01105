"""What is measured: a front is something that answers chat completions with the mock upstream behind it.

A front may be missing (its program is not installed); then it is named as missing, never left out in silence.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

import attrs

from infermux.bench.callers import CHAT, MODEL
from infermux.bench.load import KEY
from infermux.bench.process import Child, DidNotStart, free_port, running

from .tools import BUILD

LITELLM_BIN = BUILD / "litellm-venv" / "bin"
BEFORE = "before"


@attrs.frozen(kw_only=True)
class Command:
    """How to start a front that listens on a given port."""

    words: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(factory=dict[str, str])


@attrs.frozen(kw_only=True)
class Site:
    """What a front is made for: its port, where the upstream is, a folder for its configuration."""

    port: int
    upstream: str
    folder: Path


@attrs.frozen(kw_only=True)
class Front:
    """`command` None: the upstream itself. `missing` says why it cannot run here, None when it can.

    `start_seconds` bounds its start, `warm_up_seconds` is how long it runs before anything counts; `rounds` how many
    rounds it takes part in, for those so slow that more would only cost time. `key` is what its callers send.
    """

    name: str
    command: Callable[[Site], Command] | None
    missing: Callable[[], str | None] = lambda: None
    start_seconds: float = 20.0
    warm_up_seconds: float = 0.5
    rounds: int | None = None
    key: str = KEY


@attrs.frozen(kw_only=True)
class RunningFront:
    """`child` None: the upstream itself."""

    name: str
    port: int
    child: Child | None


@contextlib.contextmanager
def started(front: Front, *, upstream_port: int, cpus: frozenset[int], scratch: Path) -> Generator[RunningFront]:
    """The front, answering chat requests. Raises `DidNotStart`."""
    if front.command is None:
        yield RunningFront(name=front.name, port=upstream_port, child=None)
        return
    folder = scratch / f"front-{front.name}"  # a bare "infermux" in the working directory could hide the package
    folder.mkdir(exist_ok=True)
    site = Site(port=free_port(), upstream=f"http://127.0.0.1:{upstream_port}/v1", folder=folder)
    command = front.command(site)
    with running(front.name, command.words, cpus=cpus, scratch=folder, env=command.env) as child:
        wait_until_it_answers(child, site.port, seconds=front.start_seconds, key=front.key)
        yield RunningFront(name=front.name, port=site.port, child=child)


def wait_until_it_answers(child: Child, port: int, *, seconds: float, key: str = KEY) -> None:
    """Until a chat request through the front is answered with 200."""
    deadline = time.monotonic() + seconds
    answer = "nothing listens"
    while time.monotonic() < deadline:
        child.check_alive()
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, text = _chat(port, key)
            if status == 200:
                return
            answer = f"status {status}, {text[:300]}"
        time.sleep(0.1)
    raise DidNotStart(f"{child.name} gave no answer within {seconds:g} s ({answer}): {child.last_output()}")


def _chat(port: int, key: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        connection.request("POST", CHAT.path, CHAT.body(stream=False, prompt_bytes=0), headers)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")


# nginx: the floor. One worker, connections to the upstream kept, nothing buffered that streams.

_NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 16384; multi_accept on; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 32m;
    client_body_buffer_size 128k;
    keepalive_requests 100000000;
    tcp_nodelay on;
    upstream mock {{ server {upstream}; keepalive 8192; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 120s;
        }}
    }}
}}
"""


def _nginx_program() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _nginx(site: Site) -> Command:
    config = site.folder / "nginx.conf"
    host = site.upstream.removeprefix("http://").removesuffix("/v1")
    config.write_text(_NGINX.format(folder=site.folder, upstream=host, port=site.port))
    return Command(words=(_nginx_program() or "nginx", "-p", str(site.folder), "-e", "stderr", "-c", str(config)))


# infermux, on both of its bindings. Limits are set and never reached, so the buckets are used.


def infermux_config(site: Site, *, providers: int = 1, more: Mapping[str, object] | None = None) -> Path:
    """An infermux.yml with `providers` providers, all of them the mock, and `more` in the place of what it has."""
    entries = [
        {"name": f"mock-{number}", "type": "openai", "models": [MODEL], "health_check": {"method": "models"}}
        for number in range(providers)
    ]
    return _config(site, entries, more or {})


def _config(site: Site, providers: Sequence[Mapping[str, object]], more: Mapping[str, object]) -> Path:
    """An infermux.yml with these providers, completed by what all have."""
    same = {
        "api_key": "bench",
        "base_url": site.upstream,
        "rate_limits": {"requests_per_minute": 1_000_000_000, "tokens_per_minute": 1_000_000_000_000},
    }
    entries = [{**same, **provider} for provider in providers]
    config = site.folder / "infermux.yml"
    # JSON is YAML, and needs no quoting rules of ours.
    settings = {
        "listen": f"127.0.0.1:{site.port}",
        "log": {"level": "warn"},
        "ledger": {"url": None},  # as before there was one, and not the user's own
        "providers": entries,
        **more,
    }
    config.write_text(json.dumps(settings, indent=2))
    return config


def _infermux(site: Site) -> Command:
    return serve(infermux_config(site))


def serve(config: Path) -> Command:
    """The command line's server, of this checkout."""
    return Command(words=(sys.executable, "-m", "infermux", "serve", "-c", str(config)))


def earlier(checkout: Path) -> Front:
    """The infermux of another checkout, such as a worktree of an earlier commit, under the same interpreter."""
    env = {"PYTHONPATH": str(checkout)}

    knows_ledger = (checkout / "infermux" / "database").is_dir()

    def command(site: Site) -> Command:
        made = infermux_config(site)
        if not knows_ledger:
            made.write_text(json.dumps({k: v for k, v in json.loads(made.read_text()).items() if k != "ledger"}))
        return attrs.evolve(serve(made), env=env)

    def missing() -> str | None:
        words = [sys.executable, "-c", "import infermux; print(infermux.__file__)"]
        found = subprocess.run(words, env={**os.environ, **env}, cwd="/", capture_output=True, text=True, check=False)
        inside = found.returncode == 0 and Path(found.stdout.strip()).is_relative_to(checkout)
        return None if inside else f"there is no infermux in {checkout}"

    return Front(name=BEFORE, command=command, missing=missing)


MODELS = {"openai": MODEL, "anthropic": "bench-anthropic", "bedrock": "bench-bedrock"}
"""The model that a provider of each type serves; the provider is chosen by it."""


def _every_dialect(site: Site) -> Command:
    providers: list[dict[str, object]] = [
        {"name": kind, "type": kind, "models": [model], "health_check": {"method": "models"}}
        for kind, model in MODELS.items()
    ]
    providers[-1] |= {"region": "us-east-1", "base_url": site.upstream.removesuffix("/v1")}
    providers[-1] |= {"health_check": {"method": "none"}}  # the mock lists no models as Bedrock does
    return serve(_config(site, providers, {}))


EVERY_DIALECT = Front(name="infermux", command=_every_dialect)


def _asgi(site: Site) -> Command:
    words = (sys.executable, "-m", "hypercorn", "-k", "trio", "--backlog", "4096", "-b", f"127.0.0.1:{site.port}")
    env = {"INFERMUX_CONFIG": str(infermux_config(site))}
    return Command(words=(*words, "infermux.http.asgi:app"), env=env)


def _module_missing(name: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            found = None
        return None if found else f"there is no module {name}"

    return missing


# LiteLLM's proxy, in an environment of its own (bench/peers/litellm.sh).


def _litellm(site: Site) -> Command:
    config = site.folder / "litellm.yaml"
    model = {"model": f"openai/{MODEL}", "api_base": site.upstream, "api_key": "bench"}
    config.write_text(
        json.dumps(
            {
                "model_list": [{"model_name": MODEL, "litellm_params": model}],
                "litellm_settings": {"telemetry": False, "num_retries": 0},
                "general_settings": {"master_key": KEY},
            }
        )
    )
    words = (str(LITELLM_BIN / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(site.port))
    # The price table would be fetched from the network at start; nothing here leaves loopback.
    env = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
    }
    return Command(words=(*words, "--num_workers", "1", "--telemetry", "False"), env=env)


def _litellm_missing() -> str | None:
    return None if (LITELLM_BIN / "litellm").exists() else "not installed: run bench/peers/litellm.sh"


def _nginx_missing() -> str | None:
    return None if _nginx_program() else "not installed (Debian: apt-get install nginx-light)"


FRONTS: Mapping[str, Front] = {
    front.name: front
    for front in (
        Front(name="direct", command=None),
        Front(name="nginx", command=_nginx, missing=_nginx_missing),
        Front(name="infermux", command=_infermux, missing=_module_missing("infermux.__main__")),
        Front(name="asgi", command=_asgi, missing=_module_missing("infermux.http.asgi")),
        Front(
            name="litellm", command=_litellm, missing=_litellm_missing, start_seconds=120, warm_up_seconds=4, rounds=2
        ),
    )
}
OWN = ("direct", "infermux", "asgi")
PEERS = tuple(name for name in FRONTS if name not in OWN)
