"""What ends `infermux serve` before it serves."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from infermux import serving
from infermux.cli.serve import without
from infermux.config.settings import Config


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_a_long_start_ends_it_in_order(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    ended: list[signal.Signals] = []

    @asynccontextmanager
    async def starting(*_: Any, **__: Any) -> AsyncGenerator[None]:
        try:
            signal.raise_signal(number)
            await trio.sleep(5)
            yield
        finally:
            ended.append(number)

    monkeypatch.setattr(serving, "open_application", starting)
    monkeypatch.setattr(serving, "set_up_logging", print)
    before = signal.getsignal(number)
    assert serving.serve_command(Config()) == 0
    assert ended == [number]
    assert signal.getsignal(number) is before


def test_what_the_server_does_without_is_as_if_not_installed_and_there_again_afterwards() -> None:
    sys.modules.pop("this", None)
    with without("this"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("this")
    assert "this" not in sys.modules
    with without("pytest"):
        assert importlib.import_module("pytest") is pytest  # somebody uses it already
