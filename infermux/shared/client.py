"""A connection to Redis or Valkey for as long as it works: scripts by their hash, and news as they are published.

coredis is imported when a session begins. Whatever goes wrong is a `StateUnavailable`, and the session is over: who
uses it begins another one. Nothing said here, and nothing logged, has the URL's password in it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol, cast

import attrs
import trio

from infermux.secret import Secret

from .place import client_url, place_of
from .scripts import Call, Script, load_scripts
from .trust import Trust

PATIENCE: Final = 0.25  # seconds an answer may take before Redis counts as gone
CONNECT_PATIENCE: Final = 1.0


class StateUnavailable(Exception):
    """Redis does not do what it is asked, with the reason in words. What was asked may have been done or not."""


class Session(Protocol):
    """What is asked of Redis while it is there. Every call may raise StateUnavailable."""

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        """The answers to `calls`, in one round trip."""
        ...

    async def read(self, key: str) -> Mapping[str, str]:
        """A hash as it is kept."""
        ...

    async def listen(self, channel: str, heard: Callable[[str], None]) -> None:
        """Tell `heard` every message of a channel, until the session ends."""
        ...


class Shared(Protocol):
    """Where sessions come from."""

    @property
    def place(self) -> str:
        """Where that is, for people: no user and no password."""
        ...

    async def use(self, work: Callable[[Session], Awaitable[None]]) -> None:
        """Run `work` with a session, and end that. StateUnavailable: there is none, or it broke."""
        ...


@attrs.define(eq=False, kw_only=True)
class Redis:
    """Redis or Valkey at `url`: redis://, rediss://, valkey://, valkeys:// or unix://, percent-encoded."""

    url: Secret
    scripts: Mapping[str, Script] = attrs.field(factory=load_scripts, repr=False)
    _trust: Trust = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._trust = Trust(self.url.reveal())

    @property
    def place(self) -> str:
        return place_of(self.url.reveal())

    async def use(self, work: Callable[[Session], Awaitable[None]]) -> None:
        import anyio
        import coredis
        from coredis.exceptions import RedisError
        from coredis.retry import NoRetryPolicy

        # It logs every failed attempt with a traceback; that Redis is gone is said once, by whom it matters to.
        logging.getLogger("coredis").setLevel(logging.CRITICAL)
        # The latter ones escape it where a connection ends while something is being sent, as at the end of everything.
        troubles = (RedisError, OSError, anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)
        broken: Exception | None = None
        try:
            # The library's own would block everything for as long as it takes to make, each time, and check no names.
            context = await self._trust.context()
            tls: dict[str, Any] = {} if context is None else {"ssl_context": context}
            async with coredis.Redis.from_url(
                client_url(self.url.reveal()),
                decode_components=True,
                decode_responses=True,
                retry_policy=NoRetryPolicy(),
                verify_version=False,
                connect_timeout=CONNECT_PATIENCE,
                stream_timeout=PATIENCE,
                **tls,
            ) as client:
                try:
                    await work(_CoredisSession(client, self.scripts))
                except Exception as error:
                    broken = sole(error)  # the library's nursery would wrap it in a group
        except* troubles as failed:
            broken = broken or sole(failed)
        if isinstance(broken, troubles):
            raise StateUnavailable(_said(broken)) from broken
        if broken is not None:
            raise broken


@attrs.define(eq=False)
class _CoredisSession:
    _client: Any
    _scripts: Mapping[str, Script]

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        answers = await self._once(calls)
        missing = [place for place, answer in enumerate(answers) if _is_unknown(answer)]
        if missing:
            await self._load({calls[place].script for place in missing})
            again = await self._once([calls[place] for place in missing])
            for place, answer in zip(missing, again, strict=True):
                answers[place] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                raise StateUnavailable(_said(answer)) from answer
        return answers

    async def read(self, key: str) -> Mapping[str, str]:
        with _patient():
            kept: Mapping[str, str] = await self._client.hgetall(key)
        return kept

    async def listen(self, channel: str, heard: Callable[[str], None]) -> None:
        async with self._client.pubsub(channels=[channel], ignore_subscribe_messages=True) as messages:
            async for message in messages:
                heard(str(message["data"]))

    async def _once(self, calls: Sequence[Call]) -> list[Any]:
        with _patient():
            async with self._client.pipeline(transaction=False, raise_on_error=False) as pipe:
                for call in calls:
                    pipe.evalsha(self._scripts[call.script].sha, keys=call.keys, args=call.args)
        return list(pipe.results or ())

    async def _load(self, names: set[str]) -> None:
        with _patient():
            for name in sorted(names):
                await self._client.script_load(self._scripts[name].text)


@contextmanager
def _patient() -> Generator[None]:
    """What is inside raises StateUnavailable when it takes too long."""
    try:
        with trio.fail_after(PATIENCE + CONNECT_PATIENCE):
            yield
    except trio.TooSlowError:
        raise StateUnavailable("it does not answer") from None


def _is_unknown(answer: Any) -> bool:
    from coredis.exceptions import NoScriptError

    return isinstance(answer, NoScriptError)


def sole(error: BaseException) -> Exception:
    """What a group of errors is about: the first of them."""
    if isinstance(error, BaseExceptionGroup):
        return sole(cast("BaseExceptionGroup[BaseException]", error).exceptions[0])
    assert isinstance(error, Exception)
    return error


def _said(error: Exception) -> str:
    """One line, with what is behind it. Redis's own messages name commands and users, never passwords."""
    chain = [error]
    while isinstance(chain[-1].__cause__, Exception):
        if (cause := sole(chain[-1].__cause__)) in chain:
            break  # an error may be raised from the group that it was in
        chain.append(cause)
    cause = chain[-1]
    behind = f": {str(cause) or type(cause).__name__}" if cause is not error else ""
    return f"{type(error).__name__}: {error}{behind}".splitlines()[0][:300]
