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
async def test_a_signal_during_a_long_start_ends_it_in_order(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    ended = trio.Event()

    @asynccontextmanager
    async def starting(*_: Any, **__: Any) -> AsyncGenerator[None]:
        try:
            signal.raise_signal(number)
            await trio.sleep(5)
            yield
        finally:
            ended.set()

    monkeypatch.setattr(serving, "open_application", starting)
    before = signal.getsignal(number)
    started = serving.Serving(config=Config(), load=None, watch=False, demo=False, daemon=None)
    with trio.fail_after(2):
        assert await serving._serve(started, None) is None
    assert ended.is_set()
    assert signal.getsignal(number) is before
