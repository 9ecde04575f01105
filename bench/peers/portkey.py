"""Portkey's gateway (Node.js), installed by `portkey.sh`: one process, started as its npm package says to, headless.

Which provider to ask, and where, comes with each request, in headers; a deployment of it has no other configuration.
On: what its open-source edition has of checking and mapping of a request. Off: the console with its log stream
(`--headless`), retries, cache and guardrails, which are asked for by request. It checks no keys.
https://github.com/Portkey-AI/gateway/blob/main/docs/installation-deployments.md
"""

from __future__ import annotations

import json
import shutil

from bench.fronts import Asks, Command, Front, Site
from bench.tools import BUILD

_PACKAGE = BUILD / "portkey" / "node_modules" / "@portkey-ai" / "gateway"
_PROGRAM = _PACKAGE / "build" / "start-server.js"


def _command(site: Site) -> Command:
    words = (shutil.which("node") or "node", str(_PROGRAM), "--headless", f"--port={site.port}")
    return Command(words=words, env={"NODE_ENV": "production"})


def _asks(site: Site) -> Asks:
    return Asks(headers=("x-portkey-provider: openai", f"x-portkey-custom-host: {site.upstream}"))


def _missing() -> str | None:
    if shutil.which("node") is None:
        return "there is no node"
    return None if _PROGRAM.exists() else "not installed: run bench/peers/portkey.sh"


def _version() -> str:
    return str(json.loads((_PACKAGE / "package.json").read_text())["version"])


FRONT = Front(
    name="portkey",
    command=_command,
    asks=_asks,
    missing=_missing,
    start_seconds=60,
    warm_up_seconds=2,
    version=_version,
)
