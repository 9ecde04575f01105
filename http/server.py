"""One port, two lanes: listening, accepting, TLS, draining."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
from collections.abc import Sequence
from contextlib import AsyncExitStack

import attrs
import trio

from infermux.config.certificates import load_chain
from infermux.config.settings import LimitSettings, TlsSettings
from infermux.providers.tls_wire import TlsWire
from infermux.providers.wire import SocketWire, Wire, WireBroken

from .asgi_exchange import AsgiApp, inference_app
from .connection import Connection, Lane, Refused, Statistics, untold
from .direct import Direct
from .exchange import Exchange, Handler, IsInference
from .handover import Hypercorn
from .polled import Polled

_log = logging.getLogger("infermux.http")

Listen = tuple[str, int] | socket.socket
Address = tuple[str, int]

BACKLOG = 4096
CONNECTIONS_PER_REQUEST = 4
"""Open connections per concurrent request allowed: callers keep idle ones, but not without bound."""
_BURST = 64
_FULL_PAUSE = 0.05
FULL_HANDSHAKE = 1.0
"""Seconds that a TLS handshake has for certain when connections are at their bound."""
LAST_WORDS = 1.0
"""Seconds after the grace period for handlers to say an in-band error before their connections are cut."""
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_ALPN = ["h2", "http/1.1"]


@attrs.define(eq=False)
class Front:
    """A set of listening sockets and what is served on them."""

    lane: Lane
    hypercorn: Hypercorn
    listeners: list[socket.socket] = attrs.field(factory=list[socket.socket])
    tls: ssl.SSLContext | None = None
    open: int = attrs.field(default=0, init=False)  # connections, those in a TLS handshake included
    handshakes: dict[trio.CancelScope, float] = attrs.field(factory=dict[trio.CancelScope, float], init=False)

    @property
    def addresses(self) -> list[Address]:
        """Host and port of each listener, as bound."""
        return [(name[0], name[1]) for name in (listener.getsockname() for listener in self.listeners)]

    @property
    def room(self) -> int:
        """How many more connections may be open; none or less: it is full."""
        return self.lane.limits.max_concurrent_requests * CONNECTIONS_PER_REQUEST - self.open

    def make_room(self) -> None:
        """Close what can be spared: idle connections, and whoever is in a handshake that does not get on.

        Without this, silent callers would hold all the room there is for `limits.header_timeout`.
        """
        closed = self.lane.close_idle(_BURST)
        late = trio.current_time() - FULL_HANDSHAKE
        for scope in [each for each, since in self.handshakes.items() if since < late][: _BURST - closed]:
            scope.cancel()

    def close_listeners(self) -> None:
        for listener in self.listeners:
            listener.close()

    def close(self) -> None:
        """Give everything back; the connections must have ended."""
        self.close_listeners()
        self.lane.watch.close()

    def cut(self) -> None:
        """Close every connection."""
        for connection in list(self.lane.connections):
            connection.close()


@attrs.define(eq=False)
class Running:
    """A server that listens. `addresses` are of `listen`, `management_addresses` of the management sockets.

    `grace` is for the requests in flight when it ends, in seconds.
    """

    addresses: tuple[Address, ...]
    management_addresses: tuple[Address, ...]
    grace: float
    _lanes: tuple[Lane, ...] = attrs.field(repr=False)

    def adopt(self, limits: LimitSettings) -> None:
        """Go by other limits, from the next request of each connection on."""
        for lane in self._lanes:
            lane.limits = limits

    def leave(self) -> None:
        """It is about to end: take what comes, and close each connection after its answer."""
        for lane in self._lanes:
            lane.leaving = True

    def statistics(self) -> Statistics:
        """Of all lanes together."""
        each = [lane.statistics() for lane in self._lanes]
        return Statistics(
            connections=sum(one.connections for one in each),
            idle=sum(one.idle for one in each),
            in_flight=sum(one.in_flight for one in each),
            requests=sum(one.requests for one in each),
        )


async def serve(
    *,
    listen: Sequence[Listen],
    handler: Handler,
    is_inference: IsInference,
    app: AsgiApp,
    shutdown: trio.Event,
    limits: LimitSettings | None = None,
    tls: ssl.SSLContext | None = None,
    management_listen: Sequence[Listen] = (),
    management_app: AsgiApp | None = None,
    polled: Polled | None = None,
    management_polled: Polled | None = None,
    refused: Refused = untold,
    grace: float = 30.0,
    shared: bool = False,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `shutdown` is set and the requests in flight are answered, or `grace` seconds are over.

    Inference goes to `handler`, on HTTP/1.1 by the express lane, on HTTP/2 through hypercorn; everything else to the
    ASGI application `app`, and what comes in by `management_listen` to `management_app`, without TLS. What is `polled`
    there is answered by the express lane too. `refused` is told of the heads that none of them gets to see. After
    `grace` the handlers are cancelled, with `exchange.shutting_down` true. Cancelling `serve` cuts everything at once.
    `shared`: other processes listen on the same ports.

    Raises OSError when an address cannot be bound, hypercorn's LifespanFailureError when an application does not start.
    """
    limits = limits or LimitSettings()
    if tls is not None:
        tls.set_alpn_protocols(_ALPN)
    lanes: list[Lane] = []
    joined = inference_app(
        handler,
        is_inference,
        app,
        limits=lambda: lane.limits,
        is_shutting_down=lambda: any(lane.shutting_down for lane in lanes),
    )
    hypercorn = Hypercorn(joined, limits)
    elsewhere = hypercorn if polled is None else Direct(polled, hypercorn)
    lane = Lane(handler=handler, is_inference=is_inference, elsewhere=elsewhere, limits=limits, refused=refused)
    fronts = [Front(lane, hypercorn, tls=tls)]
    if management_app is not None and management_listen:
        fronts.append(_management_front(management_app, management_polled, limits, refused))
    lanes += [front.lane for front in fronts]
    async with AsyncExitStack() as stack:
        for front, where in zip(fronts, (listen, management_listen), strict=False):
            stack.callback(front.close)
            for each in where:
                front.listeners += await open_listeners(each, shared=shared)
        for front in fronts:
            await stack.enter_async_context(front.hypercorn.open())
        addresses = [tuple(front.addresses) for front in fronts]
        running = Running(addresses[0], addresses[1] if len(fronts) > 1 else (), grace, tuple(lanes))
        await _run(fronts, running, shutdown=shutdown, task_status=task_status)


def _management_front(app: AsgiApp, polled: Polled | None, limits: LimitSettings, refused: Refused) -> Front:
    async def nobody(_: Exchange) -> None:
        raise AssertionError("there is no inference on the management sockets")

    def never(_method: bytes, _path: bytes) -> bool:
        return False

    hypercorn = Hypercorn(app, limits)
    elsewhere = hypercorn if polled is None else Direct(polled, hypercorn)
    lane = Lane(handler=nobody, is_inference=never, elsewhere=elsewhere, limits=limits, refused=refused)
    return Front(lane, hypercorn)


async def open_listeners(where: Listen, *, shared: bool = False) -> list[socket.socket]:
    """Listening sockets for an address; an empty host means all interfaces, port 0 any port. Raises OSError."""
    if isinstance(where, socket.socket):
        where.setblocking(False)
        where.listen(BACKLOG)
        return [where]
    host, port = where
    found = await trio.socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    try:
        for family, _, _, _, address in found:
            listeners.append(_listener(family, str(address[0]), port or _port_of(listeners), shared))
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listeners


def _port_of(listeners: list[socket.socket]) -> int:
    return int(listeners[0].getsockname()[1]) if listeners else 0


def _listener(family: int, host: str, port: int, shared: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:  # each has a queue of its own, and the system spreads connections over them (socket(7))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def tls_context(settings: TlsSettings) -> ssl.SSLContext | None:
    """The server's TLS, None when no certificate is configured. Raises OSError, ssl.SSLError for unusable files."""
    if settings.cert_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    load_chain(context, settings.cert_file, settings.key_file)
    context.set_alpn_protocols(_ALPN)
    return context


async def _run(
    fronts: list[Front],
    running: Running,
    *,
    shutdown: trio.Event,
    task_status: trio.TaskStatus[Running],
) -> None:
    async with trio.open_nursery() as services:
        for front in fronts:
            services.start_soon(front.lane.run)
        async with trio.open_nursery() as connections:
            try:
                async with trio.open_nursery() as acceptors:
                    for front in fronts:
                        for listener in front.listeners:
                            acceptors.start_soon(_accept, front, listener, connections)
                    task_status.started(running)
                    await shutdown.wait()
                    acceptors.cancel_scope.cancel()
                await _drain(fronts, running.grace)
            finally:
                services.start_soon(_cut_later, fronts)
                connections.cancel_scope.cancel()
        services.cancel_scope.cancel()


async def _drain(fronts: list[Front], grace: float) -> None:
    """Stop taking work, and return when all of it is done or `grace` seconds are over."""
    for front in fronts:
        front.close_listeners()
        front.lane.shut_down()
        await front.hypercorn.shut_down()
    with trio.move_on_after(grace):
        for front in fronts:
            await front.lane.wait_empty()


async def _cut_later(fronts: list[Front]) -> None:
    """Close what does not end by being cancelled: hypercorn shields its sending. At once if cancelled itself."""
    try:
        await trio.sleep(LAST_WORDS)
    finally:
        for front in fronts:
            front.cut()


async def _accept(front: Front, listener: socket.socket, connections: trio.Nursery) -> None:
    """Accept in bursts, for ever. Out of descriptors, or full: idle connections go, new callers wait in the backlog."""
    while True:
        await trio.lowlevel.wait_readable(listener)
        if front.room <= 0 or not _accept_burst(front, listener, connections):
            front.make_room()
            await trio.sleep(_FULL_PAUSE)


def _accept_burst(front: Front, listener: socket.socket, connections: trio.Nursery) -> bool:
    """Accept what waits; False when the system has no room for another connection."""
    for _ in range(min(_BURST, front.room)):
        try:
            sock, address = listener.accept()
        except (BlockingIOError, InterruptedError):
            return True
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                _log.warning("Cannot accept connections: %s.", error.strerror)
                return False
            continue  # this caller has gone already (ECONNABORTED and its kin, accept(2))
        front.open += 1
        connections.start_soon(_serve_connection, front, sock, address)
    return True


async def _serve_connection(front: Front, sock: socket.socket, address: tuple[str, int] | str) -> None:
    """One connection, from TLS to its end. No error of it passes this point."""
    client = None if isinstance(address, str) else (address[0], address[1])
    try:
        wire, alpn = await _wire(front, sock)
        if wire is not None:
            await Connection(front.lane, wire, sock, client, tls=front.tls is not None, alpn=alpn).serve()
    except Exception:
        _log.exception("A connection failed.")
    finally:
        front.open -= 1
        sock.close()


async def _wire(front: Front, sock: socket.socket) -> tuple[Wire | None, str | None]:
    wire = SocketWire(sock)
    if front.tls is None:
        return wire, None
    tls: TlsWire | None = None
    now = trio.current_time()
    with trio.CancelScope(deadline=now + front.lane.limits.header_timeout) as scope:
        front.handshakes[scope] = now
        try:
            tls = await TlsWire.handshake(wire, front.tls, server_side=True)
        except (ssl.SSLError, WireBroken):
            pass  # not TLS, or no common ground: nobody to tell
        finally:
            del front.handshakes[scope]
    return tls, None if tls is None else tls.alpn
