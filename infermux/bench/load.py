"""The load generators as the runner sees them: what to send, where, and what came of it."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import attrs
import msgspec

from .callers import CHAT, MODEL, Caller
from .histogram import Latencies
from .machine import pinned
from .tools import CannotCompile, compiled

C, PYTHON = "c", "python"
# Sent where nobody gave a key; it is worth nothing beyond this run. Long, as some gateways refuse weak ones.
KEY = f"sk-{secrets.token_urlsafe(32)}"
_TICK = 0.1
_CONNECTS_WITHIN = 5.0
_HOPELESS = 200  # failures after which a run of which most failed is ended: nothing is learned from more


class GeneratorFailed(Exception):
    """A load generator ended without a result. The message has its last words."""


class LoadResult(msgspec.Struct, frozen=True):
    """What a load generator printed. `errors` counts by kind, `seconds` ends with the last response.

    `sample` is the head of the first response that was not right, `bad_status` the last status other than 200;
    `cpu_ns` is what the generator used; `stopped`: it was ended before its time.
    """

    requests: int
    good: int
    failed: int
    seconds: float
    events: int
    chunks: int
    reads: int
    bytes: int
    reconnects: int
    stale: int
    peak: int
    bad_status: int
    errors: dict[str, int]
    latency_us: Latencies
    first_token_us: Latencies
    sample: str = ""
    cpu_ns: int = 0
    stopped: bool = False

    @property
    def success(self) -> float:
        """The share of requests that were answered right; 0 when there were none."""
        return self.good / self.requests if self.requests else 0.0


class Progress(msgspec.Struct, frozen=True):
    """How far a run is."""

    good: int = 0
    failed: int = 0


@attrs.frozen(kw_only=True)
class Load:
    """What to send. `rate` 0: closed loop over `connections`, which join over `stagger` seconds.

    Otherwise `rate` requests per second in an open loop. Ends after `seconds` or `requests` (-1: no such bound). `more`
    is merged into the body, where null takes a key away. `path` in the place of the API's; `headers` beside the usual.
    """

    caller: Caller = CHAT
    model: str = MODEL
    stream: bool = False
    connections: int = 16
    seconds: float = 3.0
    rate: float = 0.0
    stagger: float = 0.0
    requests: int = -1
    timeout: float = 10.0
    min_events: int = 1
    prompt_bytes: int = 1500
    tokens: int = 50
    tools: int = 0
    more: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    key: str | None = attrs.field(default=KEY, repr=False)
    path: str | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)

    @property
    def body(self) -> bytes:
        return self.caller.body(
            stream=self.stream,
            prompt_bytes=self.prompt_bytes,
            model=self.model,
            tokens=self.tokens,
            tools=self.tools,
            more=self.more,
        )

    @property
    def sent_headers(self) -> dict[str, str]:
        """What names the caller, and the further ones."""
        return {**({} if self.key is None else self.caller.headers(self.key)), **self.headers}


@attrs.frozen(kw_only=True)
class Place:
    """A URL taken apart: where to connect and what to ask for."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def path_of(self, load: Load) -> str:
        """The path of an API below a base URL, which ends in /v1 as the SDKs have it; without a path /v1 is meant."""
        return load.path or f"{self.path or '/v1'}{load.caller.path.removeprefix('/v1')}"


_PORTS = {"http": 80, "https": 443}


def place_of(url: str) -> Place:
    """Of an http or https URL that was checked before."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return Place(
        scheme=parts.scheme, host=parts.hostname, port=parts.port or _PORTS[parts.scheme], path=parts.path.rstrip("/")
    )


def local(port: int) -> str:
    """The base URL of what listens on this machine."""
    return f"http://127.0.0.1:{port}/v1"


@attrs.frozen(kw_only=True)
class Ran:
    """A run, and which generator it was. `interrupted`: Ctrl-C ended it."""

    result: LoadResult
    generator: str
    interrupted: bool = False


def ipv4_of(place: Place) -> str | None:
    """The address that a connection to it goes to; None where that is none of IPv4, or nobody is there.

    A name may have several, and who listens may do so on one of them only, so it is tried.
    """
    with contextlib.suppress(ValueError):
        return str(ipaddress.IPv4Address(place.host))
    with contextlib.suppress(OSError), socket.create_connection((place.host, place.port), _CONNECTS_WITHIN) as tried:
        if tried.family == socket.AF_INET:
            return str(tried.getpeername()[0])
    return None


def generator_for(url: str) -> str:
    """C where it can be: plain http over IPv4, and a compiler."""
    place = place_of(url)
    if place.scheme == "http" and ipv4_of(place) is not None:
        with contextlib.suppress(CannotCompile):
            compiled("load")
            return C
    return PYTHON


def run_load(
    load: Load,
    url: str,
    *,
    cpus: frozenset[int],
    scratch: Path,
    generator: str | None = None,
    on_tick: Callable[[Progress], None] = lambda _: None,
) -> Ran:
    """One run against the base URL, to its end. `on_tick`: ten times a second. Raises GeneratorFailed, CannotCompile.

    Ctrl-C ends it early, as do failures without end: then the result is what it was until there, and `stopped`.
    """
    generator = generator or generator_for(url)
    command, first = (_c if generator == C else _python)(load, place_of(url), scratch)
    output, problems = scratch / "load.out", scratch / "load.err"
    with output.open("wb") as out, problems.open("wb") as err, _started(command, first, out, err, cpus) as process:
        interrupted = _watched(process, output, load.seconds + 2 * load.timeout + 30, on_tick)
    try:
        result = _result(output, problems)
    except GeneratorFailed:
        if interrupted:  # so early that there is nothing to tell
            raise KeyboardInterrupt from None
        raise
    sample = hidden(result.sample, load.key)
    return Ran(result=msgspec.structs.replace(result, sample=sample), generator=generator, interrupted=interrupted)


def hidden(text: str, key: str | None) -> str:
    """What a server said, without the key, should it have said that."""
    return text if not key else text.replace(key, "[key]")


def _watched(process: subprocess.Popen[bytes], output: Path, most: float, on_tick: Callable[[Progress], None]) -> bool:
    """Until it has ended; whether that was by Ctrl-C."""
    limit = time.monotonic() + most
    try:
        while process.poll() is None:
            progress = _progress(output)
            on_tick(progress)
            if time.monotonic() > limit or progress.failed > max(_HOPELESS, progress.good):
                _end(process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_TICK)
    except KeyboardInterrupt:
        _end(process)
        return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)


def _progress(output: Path) -> Progress:
    lines = output.read_bytes().splitlines()
    try:
        return msgspec.json.decode(lines[-1], type=Progress) if lines else Progress()
    except msgspec.DecodeError:  # the last line is still being written
        return Progress()


def _result(output: Path, problems: Path) -> LoadResult:
    lines = output.read_bytes().splitlines()
    try:
        return msgspec.json.decode(lines[-1] if lines else b"", type=LoadResult)
    except msgspec.DecodeError:
        said = problems.read_text(errors="replace").strip()[-600:]
        raise GeneratorFailed(f"the load generator ended without a result: {said or 'no output'}") from None


@contextlib.contextmanager
def _started(
    command: list[str], first: bytes, out: IO[bytes], err: IO[bytes], cpus: frozenset[int]
) -> Generator[subprocess.Popen[bytes]]:
    """In a session of its own: the terminal's Ctrl-C is for the runner. `first` is what it reads."""
    with pinned(cpus):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=err, start_new_session=True)
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(first)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _c(load: Load, place: Place, scratch: Path) -> tuple[list[str], bytes]:
    """The headers go through the pipe: a key does not stand on a command line, nor in a file."""
    body = scratch / "body.json"
    body.write_bytes(load.body)
    options = {
        "--address": ipv4_of(place),
        "--host": place.authority,
        "--port": place.port,
        "--path": place.path_of(load),
        "--body": body,
        "--mode": "stream" if load.stream else "whole",
        "--last": load.caller.last,
        "--connections": load.connections,
        "--seconds": load.seconds,
        "--rate": load.rate,
        "--stagger": load.stagger,
        "--requests": load.requests,
        "--timeout": load.timeout,
        "--min-events": load.min_events,
        "--headers": "/dev/stdin",
    }
    words = [str(word) for pair in options.items() for word in pair]
    head = "".join(f"{name}: {value}\r\n" for name, value in load.sent_headers.items())
    return [str(compiled("load")), *words], head.encode("ascii")


def _python(load: Load, place: Place, scratch: Path) -> tuple[list[str], bytes]:
    del scratch
    return [sys.executable, "-P", "-m", "infermux.bench.generator"], told(load, place)


def told(load: Load, place: Place) -> bytes:
    """What the generator in Python reads: see `generator.Told`."""
    words = {
        "scheme": place.scheme,
        "host": place.host,
        "port": place.port,
        "authority": place.authority,
        "path": place.path_of(load),
        "body": load.body.decode(),
        "headers": load.sent_headers,
        "stream": load.stream,
        "last": load.caller.last,
        "connections": load.connections,
        "seconds": load.seconds,
        "rate": load.rate,
        "stagger": load.stagger,
        "requests": load.requests,
        "timeout": load.timeout,
        "min_events": load.min_events,
    }
    return json.dumps(words).encode()
