"""A front is started, said to listen where it chose to, and asked as its callers ask."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.fronts import Asks, Command, Front, Site, started
from infermux.bench.load import Load, local, run_load
from infermux.bench.machine import placement
from infermux.bench.upstream import Pace, upstream

CPUS = placement().others

PROGRAM = """\
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        right = (self.path, self.headers["X-Needed"], self.headers["Authorization"]) == ("/its/own", "this", "Bearer k")
        body = b"{}" if right else b"asked wrongly"
        self.send_response(200 if right else 418)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
open(sys.argv[1], "w").write(f"{server.server_port}\\n")
server.serve_forever()
"""
ASKS = Asks(key="k", path="/its/own", headers=("X-Needed: this",))


def front(asks: Asks) -> Front:
    def command(site: Site) -> Command:
        port_file = site.folder / "port"
        return Command(words=(sys.executable, "-c", PROGRAM, str(port_file)), port_file=port_file)

    return Front(name="own-way", command=command, asks=lambda _site: asks)


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_a_front_that_chooses_its_port_is_found_and_asked_as_it_needs(tmp_path: Path) -> None:
    with started(front(ASKS), upstream_port=9, cpus=CPUS, scratch=tmp_path) as running:
        load = running.asks.of(Load(connections=1, requests=3, seconds=5.0))
        result = run_load(load, local(running.port), cpus=CPUS, scratch=tmp_path).result
    assert (result.good, result.failed) == (3, 0), result.sample


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_the_first_token_of_the_mock_comes_with_what_is_before_the_text(tmp_path: Path) -> None:
    with upstream(Pace(tokens=2, interval_ms=100), cpus=CPUS, scratch=tmp_path) as mock:
        load = Load(stream=True, connections=1, requests=1)
        result = run_load(load, local(mock.port), cpus=CPUS, scratch=tmp_path).result
    assert (result.events, result.reads) == (5, 3)  # role and first token; second token; reason and [DONE]
