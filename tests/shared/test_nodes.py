"""Three processes as nodes beside a real Redis: what they admit together, whatever happens to Redis or to them.

Nothing here goes by how fast the machine is: at every moment not too much was admitted, and in the end it is enough.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.shared._board import Node
from tests.shared._nodes import Nodes, nodes

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server", "redis-cli")]


@pytest.fixture
def some() -> Generator[Nodes]:
    with nodes(3, requests=600, tokens=45_000, callers=4) as running:
        yield running


@pytest.mark.long
def test_limits_hold_whatever_happens_to_redis_and_to_nodes(some: Nodes) -> None:
    some.until_used_up()
    some.new_window()
    some.redis.kill()
    some.until_degraded()
    some.redis.start()
    some.until_together()
    some.until_used_up()
    some.new_window()
    some.redis.pause()
    some.until_degraded()
    some.redis.resume()
    some.until_together()
    some.until_used_up()
    some.new_window()
    some.redis.ask("FLUSHALL")
    some.until_used_up()
    some.kill(0)
    late = some.add()
    some.begin(late)
    some.until(lambda: some.board.node(late)[Node.REQUESTS] > 0)
    some.end()
