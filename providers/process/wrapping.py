"""An adapter of infermux as the `Host` of a process: what the router does with it inside, it does from outside.

The events of its streams lose their framing on the way out, and get it back at the router.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from infermux.config.settings import ProviderSettings
from infermux.errors import InfermuxError, UpstreamFailure
from infermux.secret import Secret

from ..interface import Adapter, Answer, Call, Endpoint, Stream, Usage, describing, takes_prefill
from ..peek import StreamOptions
from ..sse import SseParser
from ..translated import translating
from .author import ProviderError
from .failures import error_of, refusal_of
from .hosting import Say
from .messages import Chunk, End, InputDetails, Invoke, Model, OutputDetails, Started, Tokens, encode, one_line

_CARRIED = {
    endpoint.value: endpoint
    for endpoint in (
        Endpoint.CHAT,
        Endpoint.COMPLETIONS,
        Endpoint.EMBEDDINGS,
        Endpoint.RESPONSES,
        Endpoint.MESSAGES,
        Endpoint.COUNT_TOKENS,
    )
}


class _Peek(msgspec.Struct):
    model: str | None = None
    stream_options: StreamOptions | None = None


_peeks = msgspec.json.Decoder(_Peek)


class AdapterHost:
    """The `Host` of an `Adapter`, which it owns. One that speaks no chat is translated to."""

    def __init__(self, adapter: Adapter) -> None:
        native = adapter.endpoints
        chats = Endpoint.CHAT in native
        self._adapter = adapter if chats else translating(adapter, ProviderSettings(name="provider", type="process"))
        self._listing = adapter
        self.name = type(adapter).__name__
        offered = native | {Endpoint.CHAT} if Endpoint.CHAT in self._adapter.endpoints else native
        self.endpoints: Sequence[str] = tuple(value for value, endpoint in _CARRIED.items() if endpoint in offered)

    async def models(self) -> tuple[Model, ...]:
        try:
            told = describing(self._listing)
            if told is None:
                names = await self._listing.list_models()
                return tuple(Model(id=name, prefill=takes_prefill(self._listing, name)) for name in names)
            found = await told.describe_models()
        except UpstreamFailure as failure:
            raise _raised(failure) from failure
        return tuple(
            Model(
                id=model.id,
                name=model.name,
                context_window=model.context_window,
                max_output_tokens=model.max_output_tokens,
                images=model.images,
                tools=model.tools,
                prefill=takes_prefill(self._listing, model.id),
            )
            for model in found
        )

    async def answer(self, asked: Invoke, say: Say) -> None:
        try:
            answer = await self._adapter.send(_call(asked))
            if isinstance(answer, Answer):
                await say(_whole(answer))
                return
            try:
                await self._stream(answer, say)
            finally:
                answer.close()
        except UpstreamFailure as failure:
            raise _raised(failure) from failure
        except InfermuxError as error:
            refused = ProviderError(error.message)
            refused.error = refusal_of(error)
            raise refused from error

    async def _stream(self, stream: Stream, say: Say) -> None:
        """Events that came together leave together."""
        await say(encode(Started(dropped=stream.dropped)))
        parser = SseParser()
        while (data := await stream.receive()) is not None:
            chunks = _chunks(parser, data)
            if chunks:
                await say(chunks)
        await say(_chunks(parser, b"\n\n") + encode(End(usage=_tokens(stream.usage))))

    async def aclose(self) -> None:
        await self._adapter.aclose()


def _call(asked: Invoke) -> Call:
    body = bytes(asked.body)
    try:
        peek = _peeks.decode(body)
    except msgspec.MsgspecError:
        peek = _Peek()
    options = peek.stream_options
    return Call(
        endpoint=_CARRIED[asked.endpoint],
        body=body,
        model=asked.model,
        requested_model=peek.model,
        stream=asked.stream,
        asked_usage=bool(options and options.include_usage),
        headers=tuple(
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in asked.headers.items()
        ),
        strict=asked.strict,
        lent=None if asked.credential is None else Secret(asked.credential),
    )


def _whole(answer: Answer) -> bytes:
    started = encode(Started(dropped=answer.dropped))
    chunk = encode(Chunk(data=msgspec.Raw(one_line(answer.body))))
    return started + chunk + encode(End(usage=_tokens(answer.usage)))


def _chunks(parser: SseParser, data: bytes) -> bytes:
    found = (event.data for event in parser.feed(data) if event.data.startswith(b"{"))  # neither comments nor [DONE]
    return b"".join([encode(Chunk(data=msgspec.Raw(one_line(chunk)))) for chunk in found])


def _tokens(usage: Usage | None) -> Tokens | None:
    """What is only estimated the router can estimate itself."""
    if usage is None or usage.estimated:
        return None
    return Tokens(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total,
        prompt_tokens_details=InputDetails(
            cached_tokens=usage.cached_tokens or None, cache_write_tokens=usage.cache_write_tokens or None
        ),
        completion_tokens_details=OutputDetails(reasoning_tokens=usage.reasoning_tokens or None),
    )


def _raised(failure: UpstreamFailure) -> ProviderError:
    error = ProviderError(failure.message)
    error.error = error_of(failure)
    return error
