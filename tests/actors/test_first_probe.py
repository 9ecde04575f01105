"""A request whose first attempt failed waits for the first probe of the provider that is left."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from infermux.config.settings import HealthCheck, Routing
from infermux.errors import UpstreamError
from infermux.providers.interface import Answer
from tests.actors._scripted import HANGS, SERVER_ERROR, Step, provider, world

PRIORITY = Routing(strategy="priority")
PROBED = HealthCheck(timeout=2.0)


async def test_after_a_failure_a_provider_that_is_still_starting_is_waited_for(autojump_clock: MockClock) -> None:
    providers = (provider("a", "m"), provider("b", "m", health_check=PROBED))
    steps = {"a": [SERVER_ERROR]}
    async with world(*providers, script=steps, probes={"b": [Step(seconds=1.0)]}, routing=PRIORITY) as w:
        run = w.run()
        assert isinstance(await run.begin(), Answer)
        assert run.lease is not None
        assert (run.lease.provider, run.attempts) == ("b", 2)
        assert trio.current_time() == pytest.approx(1.0)
        run.close()


async def test_when_that_probe_fails_the_first_failure_is_told(autojump_clock: MockClock) -> None:
    providers = (provider("a", "m"), provider("b", "m", health_check=PROBED))
    async with world(*providers, script={"a": [SERVER_ERROR]}, probes={"b": [HANGS]}, routing=PRIORITY) as w:
        run = w.run()
        with pytest.raises(UpstreamError, match="provider a"):
            await run.begin()
        assert trio.current_time() == pytest.approx(2.0)
        run.close()
