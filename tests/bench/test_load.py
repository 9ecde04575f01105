"""Both generators: what they send, what they take for right, and that they end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import time
from pathlib import Path

import attrs
import msgspec
import pytest
import trustme

from infermux.bench.callers import MESSAGES, RESPONSES
from infermux.bench.generator import counted
from infermux.bench.load import GeneratorFailed, Load, LoadResult, Progress, ipv4_of, local, place_of, run_load, told
from infermux.bench.preflight import ask
from infermux.bench.process import free_port
from tests.bench._server import EVENTS, GOOD, STREAM, serving

ALL_CPUS = frozenset[int]()
FEW = Load(connections=1, requests=3, seconds=5.0, timeout=5.0, key="sk-test", prompt_bytes=300)
STREAMED = attrs.evolve(FEW, stream=True)
BOTH = pytest.mark.parametrize("generator", [pytest.param("c", marks=pytest.mark.needs("cc")), "python"])


def ran(load: Load, url: str, scratch: Path, generator: str) -> LoadResult:
    """The one in Python runs in this process, as its start takes longer than a run."""
    if generator == "python":
        return msgspec.convert(asyncio.run(counted(told(load, place_of(url)))), type=LoadResult)
    return run_load(load, url, cpus=ALL_CPUS, scratch=scratch, generator=generator).result


@pytest.mark.slow
@BOTH
def test_every_request_is_sent_as_it_should_be_and_its_answer_counted(generator: str, tmp_path: Path) -> None:
    with serving(GOOD) as server:
        found = ran(FEW, server.url, tmp_path, generator)
    assert (found.requests, found.good, found.failed, found.latency_us.count) == (3, 3, 0, 3)
    assert 0 < found.latency_us.p50 <= found.latency_us.max
    assert not found.stopped
    assert server.heads[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert f"host: localhost:{server.port}".encode() in server.heads[0].lower()
    assert b"Authorization: Bearer sk-test" in server.heads[0]


@pytest.mark.slow
@BOTH
def test_a_stream_is_counted_by_its_events(generator: str, tmp_path: Path) -> None:
    with serving(STREAM) as server:
        found = ran(STREAMED, server.url, tmp_path, generator)
    assert (found.good, found.events, found.chunks, found.first_token_us.count) == (3, 6, 3, 3)


@pytest.mark.slow
@BOTH
def test_a_stream_may_have_spaces_and_end_in_more_than_one_way(generator: str, tmp_path: Path) -> None:
    events = b'data: {"a": 1}\n\nevent: x\ndata: {"type": "response.incomplete", "a": 2}\n\n'
    said = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(events), events)
    with serving(said) as server:
        found = ran(attrs.evolve(STREAMED, caller=RESPONSES), server.url, tmp_path, generator)
        other = ran(attrs.evolve(STREAMED, caller=MESSAGES), server.url, tmp_path, generator)
    assert (found.good, found.events, other.good) == (3, 6, 0)


WRONG = {
    "status": (False, b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}"),
    "incomplete": (True, STREAM.replace(b"[DONE]", b"[GONE]")),
    "framing": (False, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
    "closed": (False, GOOD.replace(b"th: 8", b"th: 80")),
}


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("kind", WRONG)
def test_what_is_not_right_has_failed_in_its_own_way(kind: str, generator: str, tmp_path: Path) -> None:
    streams, said = WRONG[kind]
    with serving(said, closes=True) as server:
        found = ran(attrs.evolve(FEW, stream=streams), server.url, tmp_path, generator)
    assert (found.good, found.errors[kind]) == (0, 3)
    assert found.sample.startswith("HTTP/1.1")


@pytest.mark.slow
@BOTH
def test_a_server_that_dies_in_the_middle_leaves_the_rest_unanswered(generator: str, tmp_path: Path) -> None:
    with serving(lambda number: STREAM if number < 2 else None) as server:
        found = ran(STREAMED, server.url, tmp_path, generator)
    # The third is sent once more, on a fresh connection: the server might have closed an idle one.
    assert (found.good, found.failed, found.errors["closed"], found.stale) == (2, 1, 1, 1)


@pytest.mark.slow
@BOTH
def test_nobody_there_is_a_connect_error_and_ends(generator: str, tmp_path: Path) -> None:
    found = ran(FEW, local(free_port()), tmp_path, generator)
    assert (found.requests, found.good, found.errors["connect"]) == (3, 0, 3)


@pytest.mark.slow
@BOTH
def test_a_body_may_end_with_its_connection(generator: str, tmp_path: Path) -> None:
    with serving(b"HTTP/1.1 200 OK\r\n\r\n" + EVENTS, closes=True) as server:
        found = ran(STREAMED, server.url, tmp_path, generator)
    assert (found.good, found.reconnects) == (3, 3)


@pytest.mark.slow
@BOTH
def test_silence_ends_at_the_timeout(generator: str, tmp_path: Path) -> None:
    with serving(b"HTTP/1.1 200 OK\r\n") as server:
        found = ran(attrs.evolve(FEW, requests=1, timeout=0.2), server.url, tmp_path, generator)
    assert found.errors["timeout"] == 1


@pytest.mark.slow
@BOTH
def test_an_open_loop_counts_from_when_a_request_was_due(generator: str, tmp_path: Path) -> None:
    def slowly(_: int) -> bytes:
        time.sleep(0.03)
        return GOOD

    with serving(slowly) as server:
        # Ten are due within 0.1 s, each takes 0.03 s, and there is one connection: the last ends at 0.3 s.
        load = attrs.evolve(FEW, requests=-1, rate=100.0, seconds=0.1)
        found = ran(load, server.url, tmp_path, generator)
    assert found.good == 10
    assert found.latency_us.max > 150_000


@pytest.mark.slow
@BOTH
def test_an_open_loop_opens_no_more_connections_than_it_needs(generator: str, tmp_path: Path) -> None:
    with serving(GOOD) as server:
        load = attrs.evolve(FEW, requests=4, rate=20.0, connections=50)
        found = ran(load, local(server.port), tmp_path, generator)  # an address: a name would be tried once
    assert (found.good, found.peak, server.connections) == (4, 1, 1)


@pytest.mark.slow
@BOTH
def test_ctrl_c_ends_it_with_what_there_is(generator: str, tmp_path: Path) -> None:
    """The runner gets it; what is under way in the generator then was never asked."""

    def interrupt(progress: Progress) -> None:
        if progress.good:
            raise KeyboardInterrupt

    with serving(GOOD) as server:
        load = attrs.evolve(FEW, requests=-1, seconds=60.0)
        found = run_load(load, server.url, cpus=ALL_CPUS, scratch=tmp_path, generator=generator, on_tick=interrupt)
    assert (found.interrupted, found.result.stopped) == (True, True)
    assert found.result.good == found.result.requests > 0


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_failures_without_end_end_a_run(tmp_path: Path) -> None:
    with serving(WRONG["status"][1]) as server:
        found = ran(attrs.evolve(FEW, requests=-1, seconds=60.0), server.url, tmp_path, "c")
    assert found.stopped
    assert found.errors["status"] == found.requests > 200


@pytest.mark.slow
def test_https_is_spoken_and_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with serving(GOOD, tls=context) as server:
        refused = ran(FEW, server.url, tmp_path, "python")
        first = ask(FEW, server.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        taken = run_load(FEW, server.url, cpus=ALL_CPUS, scratch=tmp_path)
    assert refused.errors["connect"] == 3
    assert "certificate" in refused.sample
    assert "is not trusted" in first.text
    assert "SSL_CERT_FILE=ca.pem" in first.text
    assert (taken.generator, taken.result.good) == ("python", 3)


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_the_key_stands_on_no_command_line(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def look(_: Progress) -> None:
        for entry in Path("/proc").glob("[0-9]*/stat"):
            fields = entry.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                seen.append((entry.parent / "cmdline").read_bytes())

    with serving(GOOD) as server:
        for generator in ("c", "python"):
            found = run_load(FEW, server.url, cpus=ALL_CPUS, scratch=tmp_path, generator=generator, on_tick=look)
            assert found.result.good == 3
    assert seen
    assert not any(b"sk-test" in words for words in seen)
    assert not any(b"sk-test" in file.read_bytes() for file in tmp_path.iterdir())
    assert "sk-test" not in repr(FEW)


@pytest.mark.slow
def test_a_generator_that_ends_without_a_result_is_reported(tmp_path: Path) -> None:
    def kill(_: Progress) -> None:
        for entry in Path("/proc").glob("[0-9]*/stat"):
            fields = entry.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid() and b"generator" in (entry.parent / "cmdline").read_bytes():
                os.kill(int(entry.parent.name), signal.SIGKILL)

    with serving(GOOD) as server, pytest.raises(GeneratorFailed, match="without a result"):
        run_load(FEW, server.url, cpus=ALL_CPUS, scratch=tmp_path, generator="python", on_tick=kill)


def test_the_address_is_the_one_that_somebody_listens_on() -> None:
    assert ipv4_of(place_of(f"http://[::1]:{free_port()}/v1")) is None
    with socket.create_server(("127.0.0.1", 0)) as four:
        assert ipv4_of(place_of(f"http://localhost:{four.getsockname()[1]}/v1")) == "127.0.0.1"
    assert ipv4_of(place_of("http://127.0.0.9/v1")) == "127.0.0.9"


@pytest.mark.slow
@pytest.mark.needs("cc")
def test_a_server_that_says_the_key_does_not_bring_it_into_the_result(tmp_path: Path) -> None:
    with serving(b"HTTP/1.1 401 sk-test\r\nContent-Length: 9\r\n\r\n{sk-test}") as server:
        assert ask(FEW, server.url).problem == "status 401: {[key]}"
        found = run_load(FEW, server.url, cpus=ALL_CPUS, scratch=tmp_path).result
    assert found.sample.startswith("HTTP/1.1 401 [key]")


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("http://127.0.0.1:8080/v1", "127.0.0.1:8080", "/v1/messages"),
        ("http://gateway", "gateway", "/v1/messages"),
        ("https://gateway:8443/llm/v1/", "gateway:8443", "/llm/v1/messages"),
        ("https://[::1]/api", "[::1]", "/api/messages"),
    ],
)
def test_an_api_is_below_the_base_url(url: str, authority: str, path: str) -> None:
    place = place_of(url)
    assert (place.authority, place.path_of(Load(caller=MESSAGES))) == (authority, path)
