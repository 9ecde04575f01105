"""What ends `infermux serve` before it serves."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from infermux import serving
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
