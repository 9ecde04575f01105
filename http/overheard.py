"""Prompts and answers in the log, for those who ask for that with `log.bodies`: an exchange that remembers them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from infermux.config.settings import Config
from infermux.log_lines import Fields
from infermux.logs import log_fields
from infermux.providers.classify import secrets_of
from infermux.providers.transport import Stoppable

from .access import given_key
from .exchange import Exchange, Head, HeaderLines, Headers

log = logging.getLogger("infermux.bodies")

LONGEST: Final = 16 * 1024  # bytes of each side
HIDDEN: Final = "[secret]"
SHORTEST_SECRET: Final = 6  # what is shorter is a word


class Said:
    """The beginning of what one side said, and how much that was."""

    __slots__ = ("_kept", "size")

    def __init__(self) -> None:
        self._kept = bytearray()
        self.size = 0

    def add(self, data: bytes) -> None:
        if self.size < LONGEST:
            self._kept += data[: LONGEST - self.size]
        self.size += len(data)

    def text(self, secrets: Iterable[bytes]) -> str:
        """As text: what is not UTF-8 is marked, and of a secret of ours nothing is left."""
        kept = bytes(self._kept)
        for secret in secrets:
            kept = _without(kept, secret, cut=self.size > len(self._kept))
        return kept.decode("utf-8", "replace")


def _without(said: bytes, secret: bytes, *, cut: bool) -> bytes:
    """`said` without `secret`, also as JSON writes it, and without a beginning of it where `said` is cut off."""
    for form in {secret, secret.replace(b"/", b"\\/"), secret.replace(b"\\", b"\\\\").replace(b'"', b'\\"')}:
        said = said.replace(form, HIDDEN.encode())
        if cut:
            most = min(len(form) - 1, len(said))
            longest = next((n for n in range(most, 0, -1) if said.endswith(form[:n])), 0)
            if longest:
                said = said[:-longest] + HIDDEN.encode()
    return said


class Overheard(Exchange):
    """`exchange`, remembering the bodies that go through it. Headers, and with them credentials, are not remembered."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._request = Said()
        self._answer = Said()

    @property
    def head(self) -> Head:
        return self._exchange.head

    @property
    def left(self) -> bool:
        return self._exchange.left

    @property
    def stalled(self) -> bool:
        return self._exchange.stalled

    @property
    def shutting_down(self) -> bool:
        return self._exchange.shutting_down

    async def body(self) -> bytes:
        body = await self._exchange.body()
        self._request.add(body)
        return body

    async def receive_body(self) -> bytes | None:
        part = await self._exchange.receive_body()
        if part is not None:
            self._request.add(part)
        return part

    def watch(self, scope: Stoppable | None) -> None:
        self._exchange.watch(scope)

    async def respond(self, status: int, headers: Headers | HeaderLines, body: bytes) -> None:
        self._answer.add(body)
        await self._exchange.respond(status, headers, body)

    def start(self, status: int, headers: Headers | HeaderLines) -> None:
        self._exchange.start(status, headers)

    def send_now(self, data: bytes) -> bool:
        self._answer.add(data)
        return self._exchange.send_now(data)

    async def flush(self) -> None:
        await self._exchange.flush()

    async def finish(self, trailers: Headers = ()) -> None:
        await self._exchange.finish(trailers)

    def abort(self) -> None:
        self._exchange.abort()

    def tell(self, request_id: bytes, config: Config) -> None:
        """Log what was said, without the credentials that this router knows."""
        given = given_key(self.head)
        secrets = {secret.encode() for secret in _secrets(config)} | ({given} if given else set[bytes]())
        known = sorted((secret for secret in secrets if len(secret) >= SHORTEST_SECRET), key=len, reverse=True)
        log_fields(log, logging.INFO, Bodies(request_id, self._request, self._answer, known))


def _secrets(config: Config) -> Iterable[str]:
    if config.auth.key is not None:
        yield config.auth.key.reveal()
    for provider in config.providers:
        yield from secrets_of(provider.keys, provider.headers)


class Bodies(Fields):
    """The line of one request's bodies."""

    event = "bodies"

    def __init__(self, request_id: bytes, request: Said, answer: Said, secrets: list[bytes]) -> None:
        self._id = request_id.decode("ascii", "replace")
        self._sides = (("request", request), ("answer", answer))
        self._secrets = secrets

    def fields(self) -> Mapping[str, Any]:
        """What is longer than `LONGEST` is cut; its whole size is told."""
        found: dict[str, Any] = {"id": self._id}
        for name, said in self._sides:
            found[name] = said.text(self._secrets)
            found[f"{name}_bytes"] = said.size
        return found

    def __str__(self) -> str:
        return " ".join([f"{name}={value!a}" for name, value in self.fields().items()])
