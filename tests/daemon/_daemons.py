"""Daemons to be tested, each in a home of its own; whatever is left of them at the end is killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from infermux.cli.root import cli
from infermux.daemon.lock import Home, holder

ROOT = Path(__file__).parents[2]
SIMULATED: dict[str, Any] = {"name": "one", "type": "simulated"}


def infermux(*arguments: str) -> Result:
    """Run a command in the home of the test, within this process; what it starts is one of its own."""
    return CliRunner().invoke(cli, arguments)


def write(path: Path, *providers: dict[str, Any], **more: Any) -> Path:
    """A configuration file, which listens on a free port."""
    path.write_text(json.dumps({"listen": "127.0.0.1:0", "ledger": {"url": None}, "providers": providers, **more}))
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Home]:
    """A home without a daemon, and the working directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("INFERMUX_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    there = Home.of()
    yield there
    facts = holder(there)
    if facts is not None:
        os.kill(facts.pid, signal.SIGKILL)
