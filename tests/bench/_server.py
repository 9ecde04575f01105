"""A server on loopback that says to each request what a test wants, right or wrong."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Generator

import attrs

GOOD = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"a": 1}'
EVENTS = b'data: {"a": 1}\n\ndata: [DONE]\n\n'
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(EVENTS), EVENTS)


@attrs.define(eq=False)
class Server:
    """`heads` are those of all requests. `says` gets the number of a request, from 0; None closes the connection."""

    says: Callable[[int], bytes | None]
    tls: ssl.SSLContext | None = None
    closes: bool = False
    heads: list[bytes] = attrs.field(factory=list[bytes])
    connections: int = 0
    port: int = 0
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}/v1"

    def serve(self, listener: socket.socket) -> None:
        """Until the listener is shut down."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            connection.settimeout(10)
            if self.tls is not None:
                connection = stack.enter_context(self.tls.wrap_socket(connection, server_side=True))
            while (head := _read(connection)) is not None:
                with self._lock:
                    self.heads.append(head)
                    said = self.says(len(self.heads) - 1)
                if said is None:
                    return
                connection.sendall(said)
                if self.closes:
                    return


def _read(connection: socket.socket) -> bytes | None:
    """The head of the next request, with its body read; None at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    (length,) = (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return head


@contextlib.contextmanager
def serving(
    says: Callable[[int], bytes | None] | bytes, *, tls: ssl.SSLContext | None = None, closes: bool = False
) -> Generator[Server]:
    """The server, for as long as the block lasts. `closes`: the connection, after each answer."""
    server = Server((lambda _: says) if isinstance(says, bytes) else says, tls=tls, closes=closes)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.port = listener.getsockname()[1]
        thread = threading.Thread(target=server.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
