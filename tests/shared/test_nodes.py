"""Four processes as four nodes beside a real Redis: what they admit together, whatever happens to Redis or to them.

Nothing here goes by how fast the machine is: at every moment not too much was admitted, and in the end it is enough.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.shared._nodes import Nodes, nodes

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server", "redis-cli")]


@pytest.fixture
def four() -> Generator[Nodes]:
    with nodes(4, requests=1200, tokens=90_000, callers=5) as running:
        yield running


def test_limits_hold_whatever_happens_to_redis_and_to_nodes(four: Nodes) -> None:
    four.until_used_up()
    four.redis.kill()
    four.until_degraded()
    four.redis.start()
    four.until_together()
    four.until_used_up()
    four.redis.pause()
    four.until_degraded()
    four.redis.resume()
    four.until_together()
    four.until_used_up()
    four.redis.ask("FLUSHALL")
    four.kill(0)
    four.begin(four.add())
    four.until_used_up()
    four.end()
    print({name: f"{100 * over:.2f} % of a minute over" for name, over in four.highest.items()})
