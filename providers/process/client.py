"""The router's end of the protocol: which version is spoken, the pool of connections, requests and their answers.

What was agreed on holds for one life of the process (`Place.generation`). A process that does not know `hello` is asked
for its models in the words of Infinity's line protocol, and served in those if it answers.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import attrs
import msgspec
import trio

from infermux.errors import FailureKind, UpstreamFailure
from infermux.processes import ProcessUnavailable

from ..express_pool import IdlePool
from ..transport import CONNECTING, IDLE_SECONDS, USER_AGENT
from .answering import Answering, Framing
from .failures import failure_of
from .infinity import LIST_MODELS, read_models
from .link import Gone, Link, dial
from .messages import (
    BROKEN_JSON,
    REUSE,
    VERSIONS,
    Error,
    Greeting,
    Hello,
    ListModels,
    Model,
    Models,
    encode,
    read_said,
)
from .place import Place

HELLO_SECONDS: Final = 2.0
"""How long an answer to `hello` is waited for: a process that knows it answers at once, whatever it is doing."""

MAX_IDLE: Final = 128
_HELLO: Final = encode(Greeting(versions=VERSIONS, capabilities=(REUSE,), client=USER_AGENT.decode()))
_LIST: Final = encode(ListModels())

T = TypeVar("T")


class NoHello(Exception):
    """A process did not answer `hello`. The message says what it did."""


class Speech(enum.Enum):
    """What a process speaks."""

    OURS = "provider protocol"
    INFINITY = "Infinity's line protocol"


@attrs.frozen
class Agreed:
    """What one life of the process has agreed on. `endpoints` are paths below `/v1`."""

    generation: int
    speech: Speech
    reuse: bool = False
    endpoints: tuple[str, ...] = ("/chat/completions",)


class Client:
    """`who` is the provider's name, for errors. Cancelling any call closes the connection it uses."""

    def __init__(self, place: Place, who: str, *, connect_timeout: float) -> None:
        self._place = place
        self._who = who
        self._connect_timeout = connect_timeout
        self._agreed: Agreed | None = None
        self._agreeing = trio.Lock()
        self._pool: IdlePool[Link] = IdlePool(idle_seconds=IDLE_SECONDS, max_idle=MAX_IDLE)

    def __repr__(self) -> str:
        return f"Client({self._who!r}, {self._agreed!r}, idle={len(self._pool)})"

    @property
    def agreed(self) -> Agreed | None:
        """None before the process has said what it speaks."""
        return self._agreed

    async def agree(self) -> Agreed:
        """What is spoken with the process as it runs now. Raises UpstreamFailure."""
        agreed = self._agreed
        if agreed is not None and agreed.generation == self._place.generation and self._place.path is not None:
            return agreed
        async with self._agreeing:
            agreed = self._agreed
            if agreed is None or agreed.generation != self._place.generation or self._place.path is None:
                await self._ready()
                agreed = self._agreed = await self._greet(self._place.generation)
        return agreed

    async def invoke(self, line: bytes, *, stream: bool, frame: Framing, secrets: tuple[str, ...]) -> Answering:
        """Send an `invoke` in our protocol; return when it was taken. Raises UpstreamFailure, NotCarried."""
        link = self._pool.take(trio.current_time())
        if link is not None:
            try:
                await self._send(link, line)
                return await self._begin(link, stream=stream, frame=frame, secrets=secrets)
            except Gone:
                pass  # it was closed while the request was on its way
        link = await self.connect()
        try:
            await self._send(link, line)
            return await self._begin(link, stream=stream, frame=frame, secrets=secrets)
        except Gone as gone:
            raise self.unanswered(gone) from gone

    async def models(self) -> tuple[Model, ...]:
        """The models that the process lists now. Raises UpstreamFailure."""
        agreed = await self.agree()
        if agreed.speech is Speech.INFINITY:
            return await self._ask(LIST_MODELS, read_models)
        return await self._ask(_LIST, _read_models)

    async def connect(self) -> Link:
        """A new connection, once the process listens. Raises UpstreamFailure."""
        who = self._who
        if self._pool.closed:
            raise UpstreamFailure(FailureKind.CONNECT, f"provider {who} was closed")
        asker = CONNECTING.get()
        if asker is not None:
            asker.connecting = True
        try:
            path = self._place.path or await self._ready()
            with trio.fail_after(self._connect_timeout):
                link = Link(await dial(path), who)
        except trio.TooSlowError as error:
            message = f"the process of provider {who} took no connection within {self._connect_timeout:g} s"
            raise UpstreamFailure(FailureKind.CONNECT_TIMEOUT, message) from error
        except OSError as error:
            message = f"cannot connect to the process of provider {who}: {error.strerror or error}"
            raise UpstreamFailure(FailureKind.CONNECT, message) from error
        if asker is not None:
            asker.connecting = False
        return link

    def give_back(self, link: Link) -> None:
        """Keep a connection whose request is over, where that was agreed on."""
        agreed = self._agreed
        link.reusable = link.reusable and agreed is not None and agreed.reuse
        self._pool.give(link, trio.current_time())

    def unanswered(self, gone: Gone) -> UpstreamFailure:
        return UpstreamFailure(FailureKind.BROKEN, f"no answer from the process of provider {self._who}: {gone}")

    def close(self) -> None:
        """Close what is idle, and from now on all that is given back."""
        self._pool.close()

    async def _ready(self) -> Path:
        try:
            with trio.fail_after(self._connect_timeout):
                return await self._place.ready()
        except trio.TooSlowError as error:
            message = f"the process of provider {self._who} was not ready within {self._connect_timeout:g} s"
            raise UpstreamFailure(FailureKind.CONNECT_TIMEOUT, message) from error
        except ProcessUnavailable as missing:
            # One that fails again and again is set up wrongly: as for refused credentials, only a mended one helps.
            kind = FailureKind.CREDENTIALS if missing.settled else FailureKind.CONNECT
            raise UpstreamFailure(kind, str(missing)) from missing

    async def _send(self, link: Link, line: bytes) -> None:
        try:
            await link.send(line)
        except BaseException:
            link.close()
            raise

    async def _begin(self, link: Link, *, stream: bool, frame: Framing, secrets: tuple[str, ...]) -> Answering:
        answering = Answering(link, self.give_back, stream=stream, frame=frame, secrets=secrets)
        await answering.begin()
        return answering

    async def _greet(self, generation: int) -> Agreed:
        try:
            hello = await self._hello()
        except NoHello as none:
            if await self._speaks_infinity():
                return Agreed(generation, Speech.INFINITY)
            message = (
                f"the process of provider {self._who} speaks no protocol of infermux: {none}, and did not list its "
                "models when asked in Infinity's line protocol"
            )
            raise UpstreamFailure(FailureKind.MALFORMED, message) from none
        if hello.version not in VERSIONS:
            message = f"the process of provider {self._who} speaks version {hello.version} of the provider protocol"
            raise UpstreamFailure(FailureKind.MALFORMED, f"{message}; this is {VERSIONS[0]}")
        return Agreed(generation, Speech.OURS, REUSE in hello.capabilities, hello.endpoints)

    async def _hello(self) -> Hello:
        """Raises NoHello, or UpstreamFailure for a process that cannot be reached, or says why it will not."""
        link = await self.connect()
        try:
            with trio.fail_after(HELLO_SECONDS):
                await link.send(_HELLO)
                lines = await link.receive()
        except trio.TooSlowError:
            raise NoHello(f"it did not answer `hello` within {HELLO_SECONDS:g} s") from None
        except Gone as gone:
            raise NoHello(f"it did not answer `hello`: {gone}") from None
        except UpstreamFailure as failure:
            raise NoHello(f"it answered `hello` with no message: {failure.message}") from None
        finally:
            link.close()
        try:
            said = read_said(lines[0])
        except BROKEN_JSON:
            raise NoHello("it answered `hello` with something that is no message") from None
        if isinstance(said, Error):
            raise failure_of(said)
        if not isinstance(said, Hello):
            raise NoHello("it answered `hello` with another message")
        return said

    async def _speaks_infinity(self) -> bool:
        try:
            with trio.fail_after(HELLO_SECONDS):
                await self._ask(LIST_MODELS, read_models)
        except (trio.TooSlowError, UpstreamFailure):
            return False
        return True

    async def _ask(self, line: bytes, read: Callable[[bytes], T]) -> T:
        """One question on a connection of its own, and its answer."""
        link = await self.connect()
        try:
            await link.send(line)
            lines = await link.receive()
            answer = read(lines[0])
        except Gone as gone:
            raise self.unanswered(gone) from gone
        except BROKEN_JSON as error:
            raise link.malformed(f"answered with a line that is no message of the protocol: {error}") from None
        finally:
            link.close()
        return answer


def _read_models(line: bytes) -> tuple[Model, ...]:
    """Raises one of BROKEN_JSON, and what an `error` says."""
    said = read_said(line)
    if isinstance(said, Error):
        raise failure_of(said)
    if not isinstance(said, Models):
        raise msgspec.ValidationError("it is another message than `models`")
    return said.models
