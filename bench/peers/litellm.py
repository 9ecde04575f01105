"""LiteLLM's proxy, installed by `litellm.sh`: one worker under uvicorn, the default, which its production page advises.

On: its key check (the master key). Off: telemetry, logs below errors, retries. No database, so neither virtual keys,
budgets nor spend records, each of which would cost it more. https://docs.litellm.ai/docs/proxy/prod
Its translation in Rust, a beta, knows nothing of providers that speak OpenAI's API, and so nothing of this upstream:
https://docs.litellm.ai/docs/proxy/rust_gateway
"""

from __future__ import annotations

import json

from bench.fronts import Command, Front, Site, version_in
from bench.tools import BUILD
from infermux.bench.callers import MODEL
from infermux.bench.load import KEY

_VENV = BUILD / "litellm-venv"
_PROGRAM = _VENV / "bin" / "litellm"


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
    words = (str(_PROGRAM), "--config", str(config), "--host", "127.0.0.1", "--port", str(site.port))
    # The price table would be fetched from the network at start; nothing here leaves loopback.
    env = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
    }
    return Command(words=(*words, "--num_workers", "1", "--telemetry", "False"), env=env)


def _missing() -> str | None:
    return None if _PROGRAM.exists() else "not installed: run bench/peers/litellm.sh"


FRONT = Front(
    name="litellm",
    command=_litellm,
    missing=_missing,
    start_seconds=120,
    warm_up_seconds=4,
    rounds=2,
    version=lambda: version_in(_VENV, "litellm"),
)
