"""TensorZero's gateway (Rust), installed by `tensorzero.sh`: the one that its Python package carries and can start.

It is the gateway that `tensorzero.patch_openai_client` starts behind an OpenAI client: HTTP on a port of its choice.
The interpreter around it sleeps; some 23 MiB of the memory are the interpreter's. Its runtime has one worker thread, as
it has one CPU.

On: routing by model name. Off: observability, as it needs ClickHouse, and usage analytics. Its check of keys and its
rate limits need PostgreSQL or Valkey, so it does neither here: it does less than `infermux-on`.
https://www.tensorzero.com/docs/gateway/configuration-reference
"""

from __future__ import annotations

from bench.fronts import Asks, Command, Front, Site, version_in
from bench.tools import BUILD
from infermux.bench.callers import MODEL

_VENV = BUILD / "tensorzero-venv"
_PYTHON = _VENV / "bin" / "python"

_CONFIG = """\
[gateway]
observability.enabled = false
disable_pseudonymous_usage_analytics = true

[models."{model}"]
routing = ["mock"]

[models."{model}".providers.mock]
type = "openai"
api_base = "{upstream}"
model_name = "{model}"
api_key_location = "none"
"""

_LAUNCHER = """\
import signal, sys, urllib.parse
from tensorzero import _start_http_gateway

gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
with open(sys.argv[2], "w") as file:
    print(urllib.parse.urlsplit(gateway.base_url).port, file=file)
signal.pause()
"""


def _command(site: Site) -> Command:
    config, port_file = site.folder / "tensorzero.toml", site.folder / "port"
    config.write_text(_CONFIG.format(model=MODEL, upstream=site.upstream))
    words = (str(_PYTHON), "-c", _LAUNCHER, str(config), str(port_file))
    return Command(words=words, env={"TOKIO_WORKER_THREADS": "1"}, port_file=port_file)


def _asks(_site: Site) -> Asks:
    return Asks(path="/openai/v1/chat/completions", model=f"tensorzero::model_name::{MODEL}")


def _missing() -> str | None:
    return None if _PYTHON.exists() else "not installed: run bench/peers/tensorzero.sh"


FRONT = Front(
    name="tensorzero",
    command=_command,
    asks=_asks,
    missing=_missing,
    start_seconds=60,
    version=lambda: version_in(_VENV, "tensorzero"),
)
