"""A PostgreSQL for the tests of this room, started when the first one asks for it."""

from __future__ import annotations

import itertools
from collections.abc import Generator

import pytest

from tests.database._postgresql import Cluster, cluster

_numbers = itertools.count()


@pytest.fixture(scope="session", name="server")
def _server() -> Generator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture(name="url")
def _url(server: Cluster) -> str:
    """Of an empty database. The server is started where a test before has stopped it."""
    if not server.pids():
        server.start()
    return server.new_database(f"test_{next(_numbers)}")
