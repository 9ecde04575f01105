"""Ports that several processes share."""

from __future__ import annotations

import socket

import pytest

from infermux.config import load_text
from infermux.config.settings import Config
from infermux.config.values import address
from infermux.config.workers import shares_ports
from infermux.http.server import open_listeners
from infermux.workers.ports import fixed

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shares_ports(), reason="the system does not share ports")]


def configuration(listen: str) -> Config:
    return load_text(f"listen: '{listen}'\nmanagement_listen: '127.0.0.1:0'\nproviders: [{{name: a, type: ollama}}]\n")


async def test_several_listen_on_the_port_that_was_found() -> None:
    with fixed(configuration("127.0.0.1:0")) as ready:
        where = address(ready.listen)
        assert where.port > 0
        assert address(ready.management_listen or "").port not in (0, where.port)
        listeners = [each for _ in range(2) for each in await open_listeners((where.host, where.port), shared=True)]
        try:
            with socket.create_connection((where.host, where.port), timeout=10):
                pass
        finally:
            for each in listeners:
                each.close()


def test_a_port_that_another_one_listens_on_is_refused() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"),
            fixed(configuration(f"127.0.0.1:{port}")),
        ):
            pass
