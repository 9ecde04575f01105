"""The configuration of `infermux serve --demo`: three simulated providers, no keys, nothing leaves the machine."""

from __future__ import annotations

from .loader import NO_OVERRIDES, Overrides, load_text
from .settings import Config

DEMO = """\
ledger: {url: "sqlite://"}  # in memory: a look leaves nothing behind
providers:
  - name: quick
    type: simulated
    models: [demo-small, demo-large]
    simulate: {first_token: 80ms, tokens_per_second: 120}
  - name: slow
    type: simulated
    models: [demo-large]
    simulate: {first_token: 900ms, tokens_per_second: 25}
  - name: flaky
    type: simulated
    models: [demo-small, demo-large]
    model_aliases: {smart: demo-large}
    simulate: {first_token: 120ms, tokens_per_second: 80, failure_rate: 0.4}
    circuit_breaker: {recovery_window: 10s}
"""


def demo_config(overrides: Overrides = NO_OVERRIDES) -> Config:
    """The demo, with what the command line says on top."""
    return load_text(DEMO, source="demo", environ={}, overrides=overrides)
