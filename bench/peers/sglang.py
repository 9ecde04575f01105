"""The SGLang router (Rust), installed by `sglang.sh`: forwards to servers of models that speak the caller's API.

It translates nothing and knows no providers' keys; it is what a router of this kind costs without them.
On: its health checks, circuit breaker, retries and Prometheus metrics, which are not scraped. Off: logs below warnings
and the tree of prefixes, which helps nothing with one server (`--policy round_robin`). One worker thread for one CPU.
https://docs.sglang.io/docs/advanced_features/sgl_model_gateway
"""

from __future__ import annotations

from bench.fronts import Command, Front, Site, version_in
from bench.tools import BUILD
from infermux.bench.process import free_port

_VENV = BUILD / "sglang-venv"
_PYTHON = _VENV / "bin" / "python"


def _command(site: Site) -> Command:
    options = {
        "--host": "127.0.0.1",
        "--port": site.port,
        "--worker-urls": f"http://{site.upstream_address}",
        "--policy": "round_robin",
        "--log-level": "warn",
        "--prometheus-host": "127.0.0.1",
        "--prometheus-port": free_port(),
    }
    words = (str(word) for pair in options.items() for word in pair)
    command = (str(_PYTHON), "-m", "sglang_router.launch_router", *words)
    return Command(words=command, env={"TOKIO_WORKER_THREADS": "1"})


def _missing() -> str | None:
    return None if _PYTHON.exists() else "not installed: run bench/peers/sglang.sh"


FRONT = Front(
    name="sglang",
    command=_command,
    missing=_missing,
    start_seconds=60,
    version=lambda: version_in(_VENV, "sglang_router"),
)
