"""An author's provider as the server sees it: models, and answers in lines."""

from __future__ import annotations

import inspect
import itertools
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol, cast

import msgspec
import trio

from .author import CHAT, Done, ProviderError, Request, request_of
from .messages import Chunk, End, Error, Invoke, Model, Started, encode

log = logging.getLogger("infermux.provider")

Say = Callable[[bytes], Awaitable[None]]
"""Sends lines to the router; waits while it does not read them."""

THREADS: Final = 1000  # requests that may block at once; each has a thread while it computes its next piece
_COMPLETIONS: Final = "/completions"
_STARTED: Final = encode(Started())
_OVER: Final = object()


class Host(Protocol):
    """What serves requests. `endpoints` are the paths below `/v1` that it has."""

    @property
    def endpoints(self) -> Sequence[str]: ...
    @property
    def name(self) -> str: ...
    async def models(self) -> tuple[Model, ...]:
        """In order; raises ProviderError."""
        ...

    async def answer(self, asked: Invoke, say: Say) -> None:
        """Say all of the answer. Whatever it raises but Cancelled is an error of this request: see `error_for`."""
        ...

    async def aclose(self) -> None: ...


def error_for(error: Exception) -> Error:
    """What the router is told of an exception. One that nobody meant is logged with its traceback."""
    if isinstance(error, ProviderError):
        return error.error
    if isinstance(error, msgspec.MsgspecError):
        return Error(code="invalid_request", message=f"the body cannot be read: {error}", retryable=False, status=400)
    log.error("a request failed", exc_info=error)
    return Error(code="internal", message=f"{type(error).__name__}: {error}", retryable=True, status=500)


class AuthorHost:
    """The `Host` of a `Provider`."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._threads = trio.CapacityLimiter(THREADS)
        self.endpoints: Sequence[str] = tuple(getattr(provider, "endpoints", (CHAT,)))
        self.name: str = getattr(provider, "name", type(provider).__name__)

    async def models(self) -> tuple[Model, ...]:
        found = self._provider.models
        if callable(found):
            found = await self._called(found)
        return tuple(found)

    async def answer(self, asked: Invoke, say: Say) -> None:
        request = request_of(asked)
        writer = _Writer(request)
        held: list[bytes] = [_STARTED]
        async with aclosing(self._pieces(request)) as pieces:
            async for piece in pieces:
                held.append(writer.piece(piece))
                if asked.stream:
                    await say(b"".join(held))
                    held.clear()
        await say(b"".join((*held, writer.end())))

    async def aclose(self) -> None:
        """An author's provider closes what it has by itself."""
        await trio.lowlevel.checkpoint()

    async def _pieces(self, request: Request) -> AsyncGenerator[Any]:
        found = await self._called(self._provider.invoke, request)
        if inspect.isasyncgen(found):
            async with aclosing(cast("AsyncGenerator[Any]", found)) as generator:
                async for piece in generator:
                    yield piece
        elif isinstance(found, Iterator):
            while (piece := await self._in_thread(next, found, _OVER)) is not _OVER:
                yield piece
        else:
            yield found

    async def _called(self, function: Callable[..., Any], *args: Any) -> Any:
        """What `function` returns; one that may block runs in a thread."""
        if inspect.iscoroutinefunction(function):
            return await function(*args)
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            return function(*args)
        return await self._in_thread(function, *args)

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Cancelled it is left behind: nothing can stop a thread."""
        return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True, limiter=self._threads)


_serial = itertools.count(1)


class _Writer:
    """The lines of one answer. Texts of a whole answer are kept and said at the end, as one message."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._kept: list[str] | None = None if request.stream else []
        self._done: Done | None = None
        legacy = request.endpoint == _COMPLETIONS
        self._legacy = legacy
        self._head = {
            "id": f"{'cmpl' if legacy else 'chatcmpl'}-{secrets.token_hex(6)}{next(_serial)}",
            "object": "text_completion" if legacy else "chat.completion.chunk",
            "created": int(time.time()),
            "model": request.model,
        }
        self._first = True
        self._has_own = False  # the provider's own chunks: those say themselves why they stop

    def piece(self, piece: object) -> bytes:
        """Raises TypeError for what is no piece of an answer."""
        if isinstance(piece, Done):
            self._done = piece
            return b""
        if isinstance(piece, str):
            if self._kept is not None:
                self._kept.append(piece)
                return b""
            return self._text(piece)
        if isinstance(piece, dict):
            before, self._kept = self._kept, None
            self._has_own = True
            return b"".join(map(self._text, before or ())) + _chunk(cast("dict[str, Any]", piece))
        raise TypeError(f"an answer is made of texts and dicts, not of {type(piece).__name__}")

    def _text(self, text: str) -> bytes:
        choice: dict[str, Any] = {"index": 0, "finish_reason": None}
        if self._legacy:
            choice |= {"text": text, "logprobs": None}
        else:
            choice["delta"] = {"role": "assistant", "content": text} if self._first else {"content": text}
        self._first = False
        return _chunk({**self._head, "choices": [choice]})

    def end(self) -> bytes:
        """Of chunks that were passed on without a reason to stop nobody can say that they are all there were."""
        if self._done is None and self._has_own:
            return encode(End())
        done = self._done or Done()
        whole = b"" if self._kept is None else self._whole("".join(self._kept), done)
        return whole + encode(End(stop_reason=done.stop_reason, usage=done.tokens))

    def _whole(self, text: str, done: Done) -> bytes:
        choice: dict[str, Any] = {"index": 0, "finish_reason": done.stop_reason, "logprobs": None}
        if self._legacy:
            return _chunk({**self._head, "choices": [{**choice, "text": text}]})
        choice["message"] = {"role": "assistant", "content": text}
        return _chunk({**self._head, "object": "chat.completion", "choices": [choice]})


def _chunk(data: dict[str, Any]) -> bytes:
    return encode(Chunk(data=msgspec.Raw(msgspec.json.encode(data))))
