"""The adapter of the type `process`: a program of its own that serves models over a Unix socket.

The endpoints that the process says it has are its own dialects: bodies and events go through as they are, as they do
for providers over HTTP. Callers of other dialects reach it by translation (see `translated`). A process of Infinity's
line protocol is translated to, whoever calls. Protocol: docs/provider-protocol.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from infermux.config.settings import ProbeMethod, ProviderSettings
from infermux.errors import UpstreamFailure
from infermux.processes import ProviderProcess, Spec
from infermux.secret import Secret

from ..anthropic_bodies import check_count, read_message
from ..classify import secrets_of
from ..dialects.dialect import Target
from ..dialects.infinity import Infinity
from ..dialects.kept_thinking import ThinkingStore
from ..interface import Answer, Call, Endpoint, ModelInfo, Stream, Usage
from ..lent import secrets_with
from ..messages_stream import MessagesStream
from ..openai_bodies import embeddings_usage, prepare_body, read_completion
from ..responses_stream import ResponsesStream, read_response
from ..splice import merge_defaults
from ..translate import DIALECTS, send_translated
from ..transport import BODY_LIMIT, too_large
from .answering import Answering, named, unnamed
from .client import Client, Speech
from .infinity import InfinityStream, invoke_line
from .link import Gone
from .messages import Invoke, Model, encode, one_line
from .place import Place
from .streams import ProcessChatStream, usage_of, whole, with_usage

CARRIED: Final = frozenset(
    {
        Endpoint.CHAT,
        Endpoint.COMPLETIONS,
        Endpoint.EMBEDDINGS,
        Endpoint.RESPONSES,
        Endpoint.MESSAGES,
        Endpoint.COUNT_TOKENS,
    }
)
"""The endpoints whose bodies and answers are JSON, so that lines can carry them."""

_UNTIL_KNOWN: Final = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS})
_NAMED: Final = frozenset({Endpoint.MESSAGES, Endpoint.RESPONSES})  # whose events have names
_LEGACY: Final = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS})
_ABOUT_MAX_TOKENS: Final = re.compile(rb"max.?(?:completion.?)?tokens", re.IGNORECASE)
_PING: Final = {"messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}


def make(settings: ProviderSettings, *, environ: Mapping[str, str], kept: ThinkingStore | None = None) -> Process:
    """The factory of the type `process`. ValueError: there is no command."""
    del environ  # what the process gets of it is `ProviderProcess`'s to say
    return Process(settings, ProviderProcess(spec_of(settings)), kept=kept)


def spec_of(settings: ProviderSettings) -> Spec:
    """The process that a declaration wants. ValueError: there is no command."""
    if not settings.command:
        raise ValueError("type process needs a `command`")
    return Spec(
        name=settings.name,
        command=settings.command,
        env=settings.env,
        secrets=secrets_of(settings.keys, settings.headers),
        cwd=None if settings.cwd is None else Path(settings.cwd),
    )


class Process:
    """The adapter; see `interface.Adapter`, and `Lasting` for `run`. Owns `place`, which `run` keeps running."""

    def __init__(self, settings: ProviderSettings, place: Place, *, kept: ThinkingStore | None = None) -> None:
        """`kept` is as for Bedrock: the signed thinking of callers that cannot carry it."""
        self._settings = settings
        self._place = place
        self._client = Client(place, settings.name, connect_timeout=settings.timeouts.connect)
        self._kept = ThinkingStore() if kept is None else kept
        self._secrets = (*secrets_of(settings.keys, settings.headers), *_values(settings.env))
        self._extra = {name: msgspec.json.encode(value) for name, value in settings.extra_body.items()}
        self._headers = dict(settings.headers)
        self._models: dict[str, Model] = {}
        self.described: Sequence[ModelInfo] | None = None
        self._running = trio.CancelScope()
        self.endpoints: frozenset[Endpoint] = _UNTIL_KNOWN

    def __repr__(self) -> str:
        return f"Process({self._settings.name!r}, {self._client!r})"

    @property
    def transport(self) -> str:
        return "process"

    @property
    def place(self) -> Place:
        return self._place

    async def send(self, call: Call) -> Answer | Stream:
        """See `Adapter.send`."""
        agreed = self._client.agreed
        if agreed is None or agreed.generation != self._place.generation:
            await self._agree()
            agreed = self._client.agreed
        if agreed is not None and agreed.speech is Speech.INFINITY:
            return await self._send_translated(call)
        return await self._send(call)

    async def _send(self, call: Call) -> Answer | Stream:
        endpoint, secrets = call.endpoint, secrets_with(call, self._secrets)
        answering = await self._client.invoke(
            self._line(call),
            stream=call.stream,
            frame=named if endpoint in _NAMED else unnamed,
            secrets=secrets,
        )
        if not call.stream:
            try:
                return await self._whole(answering, call, secrets)
            finally:
                answering.close()
        if endpoint in _LEGACY:
            legacy = endpoint is Endpoint.COMPLETIONS
            return ProcessChatStream(
                answering, call.model, asked_usage=call.asked_usage, legacy=legacy, secrets=secrets
            )
        if endpoint is Endpoint.MESSAGES:
            stream = MessagesStream(answering, secrets=secrets)
            stream.dropped = answering.dropped
            return stream
        return ResponsesStream(answering, secrets=secrets, dropped=answering.dropped, kept=call.kept)

    async def _whole(self, answering: Answering, call: Call, secrets: tuple[str, ...]) -> Answer:
        body = await whole(answering, call.model, chat=call.endpoint is Endpoint.CHAT)
        usage = _usage(call, body, secrets)
        end = answering.end
        if usage is None and end is not None and end.usage is not None:
            usage = usage_of(end.usage)
            if call.endpoint is not Endpoint.COUNT_TOKENS:
                body = with_usage(body, end.usage)
        return Answer(200, b"application/json", body, usage, answering.dropped)

    def _line(self, call: Call) -> bytes:
        """The `invoke`: the body is the caller's, without line ends."""
        body = one_line(prepare_body(call, self._extra, ask_usage=False))
        headers = self._headers
        if call.headers:
            headers = {**headers, **{name.decode("latin-1"): value.decode("latin-1") for name, value in call.headers}}
        return encode(
            Invoke(
                endpoint=call.endpoint.value,
                model=call.model,
                body=msgspec.Raw(body),
                stream=call.stream,
                strict=call.strict,
                headers=headers,
                credential=self._credential(call),
            )
        )

    def _credential(self, call: Call) -> str | None:
        keys = self._settings.keys
        key = call.key or (keys[0] if keys else call.lent if self._settings.borrows else None)
        return None if key is None else key.reveal()

    # Infinity's line protocol.

    async def _send_translated(self, call: Call) -> Answer | Stream:
        model = self._models.get(call.model)
        target = Target(
            model=call.model,
            max_tokens=None if model is None else model.max_output_tokens,
            default_max_tokens=self._settings.default_max_tokens,
        )
        return await send_translated(
            self._invoke_infinity, call, endpoint=call.endpoint, provider=Infinity(call.model), target=target,
            kept=self._kept,
        )  # fmt: skip

    async def _invoke_infinity(self, call: Call) -> Answer | Stream:
        """Send `call`, whose body is a request of Infinity's already."""
        body = merge_defaults(call.body, self._extra) if self._extra else call.body
        link = await self._client.connect()
        stream = InfinityStream(link, secrets=self._secrets)
        try:
            await link.send(invoke_line(call.model, body))
            await stream.begin()
            if call.stream:
                return stream
            lines: list[bytes] = []
            size = 0
            while (data := await stream.receive()) is not None:
                lines.append(data)
                size += len(data)
                if size > BODY_LIMIT:
                    raise too_large(BODY_LIMIT)
        except Gone as gone:
            stream.close()
            raise self._client.unanswered(gone) from gone
        except BaseException:
            stream.close()
            raise
        return Answer(200, stream.content_type, b"".join(lines), stream.usage)

    # What it is and has.

    async def probe(self, method: ProbeMethod, model: str | None, key: Secret | None = None) -> Usage | None:
        """See `Adapter.probe`. Listing its models shows that the process answers."""
        await self.describe_models()
        if method is not ProbeMethod.GENERATE or model is None:
            return None
        body = msgspec.json.encode({"model": model, **_PING})
        call = Call(endpoint=Endpoint.CHAT, body=body, model=model, requested_model=model, key=key)
        try:
            answer = await self.send(call)
        except UpstreamFailure as failure:
            if failure.status == 400 and _ABOUT_MAX_TOKENS.search(failure.body or b""):
                return None  # it read the request and knows the model: it is alive
            raise
        return answer.usage

    async def list_models(self) -> Sequence[str]:
        return [model.id for model in await self.describe_models()]

    async def describe_models(self) -> Sequence[ModelInfo]:
        """See `Describing.describe_models`."""
        await self._agree()
        models = await self._client.models()
        self._models = {model.id: model for model in models}
        self.described = tuple(
            ModelInfo(
                id=model.id,
                name=model.name,
                context_window=model.context_window,
                max_output_tokens=model.max_output_tokens,
                images=model.images,
                tools=model.tools,
            )
            for model in models
        )
        return self.described

    def takes_prefill(self, model: str) -> bool:
        """As the process says of the model."""
        known = self._models.get(model)
        return known is not None and known.prefill

    async def _agree(self) -> None:
        agreed = await self._client.agree()
        if agreed.speech is Speech.INFINITY:
            self.endpoints = frozenset(DIALECTS)
        else:
            self.endpoints = frozenset(endpoint for endpoint in CARRIED if endpoint.value in agreed.endpoints)

    # Its life.

    async def run(self, news: Callable[[bool], None]) -> None:
        """See `Lasting.run`. `aclose` ends it too."""
        with self._running:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell, news)
                await self._place.run()

    async def started(self) -> None:
        """See `Lasting.started`."""
        await self._place.ready()

    def retry(self) -> None:
        """See `Lasting.retry`."""
        self._place.retry()

    def statistics(self) -> Mapping[str, Any]:
        """See `Lasting.statistics`: where and how it runs, and what it speaks."""
        agreed = self._client.agreed
        return {**self._place.statistics(), "speaks": None if agreed is None else agreed.speech.value}

    async def _tell(self, news: Callable[[bool], None]) -> None:
        place = self._place
        told: tuple[bool, int, bool] = (False, 0, False)
        while True:
            await place.changed()
            up = place.path is not None
            now = (up, place.generation if up else 0, place.settled)
            if now != told:
                told = now
                news(up)

    async def aclose(self) -> None:
        self._client.close()
        self._running.cancel()
        await trio.lowlevel.checkpoint()


def _usage(call: Call, body: bytes, secrets: tuple[str, ...]) -> Usage | None:
    """Check that `body` is what the endpoint answers; its usage."""
    match call.endpoint:
        case Endpoint.EMBEDDINGS:
            return embeddings_usage(body, secrets=secrets)
        case Endpoint.MESSAGES:
            return read_message(body, status=200, secrets=secrets)
        case Endpoint.COUNT_TOKENS:
            check_count(body, status=200, secrets=secrets)
            return Usage()  # counting costs no tokens
        case Endpoint.RESPONSES:
            return read_response(body, status=200, secrets=secrets, kept=call.kept)
        case _:
            return read_completion(body, status=200, secrets=secrets)


def _values(env: Mapping[str, str]) -> tuple[str, ...]:
    """What it was given in its environment may be secret, whatever the names."""
    return tuple(value for value in env.values() if len(value) >= 12)
