"""Providers with something to run: the `strict` ones come up at the start, or nothing does; `reset` tries it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.opening import open_fleet
from infermux.actors.provider_messages import Verb
from infermux.config.settings import Config, ProviderSettings
from infermux.errors import ProviderNotStarted
from infermux.processes import ProcessUnavailable
from tests.actors._scripted import Scripted


class Starting(Scripted):
    """An adapter with something to run that comes up after `seconds`, or fails then."""

    def __init__(self, seconds: float, fails: bool) -> None:
        super().__init__("starting")
        self.seconds, self.fails = seconds, fails
        self.running = False
        self.retried = 0

    async def run(self, news: Callable[[bool], None]) -> None:
        self.running = True
        try:
            await trio.sleep_forever()
        finally:
            self.running = False

    async def started(self) -> None:
        await trio.sleep_until(self.seconds)
        if self.fails:
            raise ProcessUnavailable("its process exited with code 4", stderr=("no such file",))

    def retry(self) -> None:
        self.retried += 1

    def statistics(self) -> dict[str, Any]:
        return {"state": "ready" if self.running else "stopped"}


def config(*strict: bool) -> Config:
    return Config(
        providers=tuple(ProviderSettings(name=f"p{n}", type="process", strict=each) for n, each in enumerate(strict))
    )


async def test_it_starts_when_all_that_have_to_have_started(autojump_clock: MockClock) -> None:
    made = iter([Starting(9, fails=True), Starting(2, fails=False), Starting(3, fails=False)])
    async with open_fleet(config(False, True, True), adapters=lambda settings: next(made)):
        assert trio.current_time() == pytest.approx(3)


async def test_one_that_did_not_start_ends_it_with_its_last_words_and_nothing_runs(autojump_clock: MockClock) -> None:
    adapters = [Starting(2, fails=False), Starting(3, fails=True)]
    made = iter(adapters)
    with pytest.raises(ProviderNotStarted) as caught:
        async with open_fleet(config(False, True), adapters=lambda settings: next(made)):
            pytest.fail("it started")
    assert caught.value.message == (
        "provider p1 could not be started, and is `strict`: its process exited with code 4; "
        "the last that it wrote to stderr:\n  no such file"
    )
    assert not any(each.running for each in adapters)


async def test_an_operator_who_resets_it_has_it_tried_again(autojump_clock: MockClock) -> None:
    adapter = Starting(1, fails=False)
    async with open_fleet(config(False), adapters=lambda settings: adapter) as fleet:
        await fleet.command("p0", Verb.PROBE)
        assert adapter.retried == 0
        await fleet.command("p0", Verb.RESET)
        assert adapter.retried == 1
        assert (await fleet.describe("p0")).process == {"state": "ready"}
