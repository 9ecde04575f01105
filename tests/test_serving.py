"""What ends `infermux serve` before it serves."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

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


@pytest.mark.parametrize("alone", [True, False])
async def test_sigterm_twice_means_now_unless_a_leader_says_when(monkeypatch: pytest.MonkeyPatch, alone: bool) -> None:
    """systemd sends one to each process of a service, and the leader one to each worker."""
    ended: list[int] = []

    def nothing(_: object) -> None:
        return

    application: Any = SimpleNamespace(
        inference=SimpleNamespace(leaving=False, draining=False, in_flight=1),
        config=Config(shutdown_grace=3600.0),
        fleet=SimpleNamespace(revoke_all=nothing, leave=nothing),
    )
    monkeypatch.setattr("os._exit", ended.append)
    leaving, shutdown = trio.Event(), trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(serving.watch_signals, application, leaving, shutdown, alone)
        signal.raise_signal(signal.SIGTERM)
        with trio.fail_after(30):
            await shutdown.wait()
        signal.raise_signal(signal.SIGTERM)
        await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.fail_after(30):
            while alone and not ended:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert ended == ([0] if alone else [])
        assert leaving.is_set()
        nursery.cancel_scope.cancel()


def test_what_the_server_does_without_is_as_if_not_installed_and_there_again_afterwards() -> None:
    sys.modules.pop("this", None)
    with without("this"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("this")
    assert "this" not in sys.modules
    with without("pytest"):
        assert importlib.import_module("pytest") is pytest  # somebody uses it already
