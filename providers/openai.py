"""The adapter for OpenAI's API, and for every endpoint that speaks it.

The caller's body goes on byte for byte. Spliced in, where they differ: the model, the provider's `extra_body` (what the
caller wrote wins), and on streams `stream_options.include_usage`; cut out: the router's own members. The answer comes
back as the provider wrote it. Azure and Ollama are this adapter with other addresses: see `Dialect`.

Callers of other dialects reach it by translation to chat completions (see `translated`), and so do those of responses
where the provider has no such endpoint: the type's own if it says so, or found out by its first 404.

Shapes: https://platform.openai.com/docs/api-reference and `openai.types` of the openai SDK.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import attrs
import msgspec

from infermux.config.settings import ProbeMethod, ProviderSettings
from infermux.errors import FailureKind, NotCarried, UpstreamFailure
from infermux.secret import Secret

from .chat_stream import ChatStream
from .classify import MAX_ERROR_BODY, classify, secrets_of
from .interface import TRACE_HEADERS, Answer, Call, Endpoint, Stream, Usage
from .lent import lent_header, secrets_with
from .openai_bodies import embeddings_usage, is_unknown_endpoint, malformed, model_names, prepare_body, read_completion
from .passing import PASSED, passed
from .ratelimits import listen
from .responses_stream import ResponsesStream, read_response
from .sealed_items import LOST, without_sealed_items
from .splice import merge_defaults
from .transport import Headers, RequestTemplate, Response, Transport, choose_transport, read_some, target_of

DEFAULT_BASE_URL: Final = "https://api.openai.com/v1"
_ENDPOINTS: Final = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS, *PASSED})
_STOPS: Final = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS})
_CHAT: Final = Endpoint.CHAT  # a member of an enum is looked up in Python code
_MAX_TEMPLATES: Final = 256
_OF_CALLER: Final = (b"openai-beta", *TRACE_HEADERS)
_ABOUT_BODIES: Final = (b"content-type", b"accept")
_ABOUT_STREAM_OPTIONS: Final = re.compile(rb"stream.?options|include.?usage", re.IGNORECASE)
_ABOUT_MAX_TOKENS: Final = re.compile(rb"max.?(?:completion.?)?tokens", re.IGNORECASE)
_EMBEDDING: Final = re.compile(r"text-embedding-|embed", re.IGNORECASE)


@attrs.frozen(kw_only=True)
class Dialect:
    """Where an OpenAI-shaped API keeps things, and its credential's header.

    `target` is the request target (origin-form) for a model and a path such as `/chat/completions`. `responses`:
    whether it may have that endpoint, which is found out.
    """

    base_url: str
    target: Callable[[str, str], bytes]
    models: bytes
    credential: Callable[[str], tuple[bytes, bytes]]
    responses: bool = False


def make(settings: ProviderSettings, *, environ: Mapping[str, str]) -> OpenAI:
    """The factory of the type `openai`. Raises ValueError for a base URL or a proxy that cannot be used."""
    base_url = settings.base_url or DEFAULT_BASE_URL
    dialect = Dialect(
        base_url=base_url,
        target=targets_below(base_url),
        models=target_of(base_url, "/models"),
        credential=bearer,
        responses=True,
    )
    return OpenAI(settings, dialect, choose_transport(settings, base_url, environ))


def targets_below(base_url: str, prefix: str = "") -> Callable[[str, str], bytes]:
    """The targets of an API that has the same for every model: `prefix` and the path below `base_url`."""
    known: dict[str, bytes] = {}

    def target(_: str, path: str) -> bytes:
        found = known.get(path)
        if found is None:
            found = target_of(base_url, prefix + path)
            if len(known) < _MAX_TEMPLATES:  # callers choose paths
                known[path] = found
        return found

    target_of(base_url, prefix)  # for its ValueError
    return target


def bearer(key: str) -> tuple[bytes, bytes]:
    """The credential as OpenAI takes it."""
    return b"Authorization", b"Bearer " + key.encode()


class OpenAI:
    """The adapter; see `interface.Adapter`. Owns its transport."""

    def __init__(self, settings: ProviderSettings, dialect: Dialect, transport: Transport) -> None:
        self._settings = settings
        self._dialect = dialect
        self._transport = transport
        self.stops = _STOPS if transport.stops else frozenset[Endpoint]()
        self._secrets = secrets_of(settings.keys, settings.headers)
        self._heads = _Heads.of(settings, dialect, next(iter(settings.keys), None))
        self._heads_by_key: dict[Secret, _Heads] = {}
        self._extra = {name: msgspec.json.encode(value) for name, value in settings.extra_body.items()}
        self._without_options: tuple[Endpoint, ...] = ()
        self._has_responses = False  # as far as is known
        self.endpoints = _ENDPOINTS | {Endpoint.RESPONSES} if dialect.responses else _ENDPOINTS

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.name!r}, {self._dialect.base_url!r}, {self.transport})"

    @property
    def transport(self) -> str:
        return self._transport.name

    async def send(self, call: Call) -> Answer | Stream:
        """See `Adapter.send`. A provider that refuses the added `stream_options` is asked again without, and is not
        sent them again: the usage of its streams stays unknown."""
        endpoint = call.endpoint
        if endpoint is _CHAT:
            path = "/chat/completions"
        elif endpoint is Endpoint.COMPLETIONS:
            path = "/completions"
        else:
            return await self._send_other(call)
        asks_usage = call.stream and not call.asked_usage and endpoint not in self._without_options
        response = await self._post(call, path, prepare_body(call, self._extra, ask_usage=asks_usage))
        listen(call.heard, response.headers)
        if call.stream and 200 <= response.status < 300 and not _is_json(response):
            return ChatStream(response, asked_usage=call.asked_usage, secrets=secrets_with(call, self._secrets))
        try:
            if 200 <= response.status < 300:
                return self._whole(response, call, await response.read())
            failure = await self._failure(response, call)
        finally:
            response.close()
        if not (asks_usage and _is_about_stream_options(failure)):
            raise failure
        self._without_options = (*self._without_options, endpoint)
        return await self.send(call)

    async def _send_other(self, call: Call) -> Answer | Stream:
        match call.endpoint:
            case Endpoint.EMBEDDINGS:
                return await self._embed(call)
            case Endpoint.RESPONSES:
                return await self._respond(call)
            case _:
                return await self._pass(call)

    def _post(self, call: Call, path: str, body: bytes) -> Awaitable[Response]:
        heads = self._heads if call.key is None else self._heads_with(call.key)
        template = heads.posts.get((path, call.model)) or self._post_template(heads, path, call.model)
        if not call.headers and call.lent is None:
            return self._transport.send(template, body)
        of_caller = [pair for pair in call.headers if pair[0] in _OF_CALLER]
        lent = lent_header(call, self._settings, self._dialect.credential)
        return self._transport.send(template, body, (*of_caller, *lent))

    async def _embed(self, call: Call) -> Answer:
        response = await self._post(call, "/embeddings", prepare_body(call, self._extra, ask_usage=False))
        listen(call.heard, response.headers)
        try:
            if not 200 <= response.status < 300:
                raise await self._failure(response, call)
            body = await response.read()
            usage = embeddings_usage(body, secrets=secrets_with(call, self._secrets))
            return Answer(response.status, response.content_type, body, usage)
        finally:
            response.close()

    async def _respond(self, call: Call) -> Answer | Stream:
        """A response, where the provider has the endpoint. Whether it has is known after the first time."""
        try:
            answer = await self._respond_natively(call)
        except UpstreamFailure as failure:
            if not self._has_responses and is_unknown_endpoint(failure):
                self.endpoints -= {Endpoint.RESPONSES}
            raise
        self._has_responses = True
        return answer

    async def _respond_natively(self, call: Call) -> Answer | Stream:
        body = prepare_body(call, self._extra, ask_usage=False)
        sent = without_sealed_items(body)
        dropped = () if sent is body else (LOST,)
        if dropped and call.strict:
            raise NotCarried(f"the provider cannot read what X-Infermux-Strict insists on: {LOST}", param=LOST)
        response = await self._post(call, "/responses", sent)
        listen(call.heard, response.headers)
        if call.stream and 200 <= response.status < 300 and not _is_json(response):
            secrets = secrets_with(call, self._secrets)
            return ResponsesStream(response, secrets=secrets, dropped=dropped, kept=call.kept)
        try:
            if not 200 <= response.status < 300:
                raise await self._failure(response, call)
            answer = await response.read()
            secrets = secrets_with(call, self._secrets)
            usage = read_response(answer, status=response.status, secrets=secrets, kept=call.kept)
        finally:
            response.close()
        if call.stream:
            raise malformed("answered a streaming request with a whole response", response.status)
        return Answer(response.status, response.content_type, answer, usage, dropped)

    async def _pass(self, call: Call) -> Answer | Stream:
        """As it came, but for the model; the headers are the caller's where they say what the body is."""
        heads = self._heads_with(call.key)
        template = self._template(heads, b"POST", self._dialect.target(call.model, call.path), bare=True)
        headers = (*call.headers, *lent_header(call, self._settings, self._dialect.credential))
        if call.upload is not None:
            response = await self._transport.send(template, call.upload.open(call.model), headers)
        else:
            response = await self._transport.send(template, prepare_body(call, {}, ask_usage=False), headers)
        listen(call.heard, response.headers)
        if 200 <= response.status < 300:
            return await passed(response)
        try:
            raise await self._failure(response, call)
        finally:
            response.close()

    def _whole(self, response: Response, call: Call, body: bytes) -> Answer:
        secrets = self._secrets if call.lent is None else secrets_with(call, self._secrets)
        usage = read_completion(body, status=response.status, secrets=secrets)
        if call.stream:
            # Callers that asked for events find none in a JSON body and would see an empty answer. Another provider
            # may answer as asked, which a caller is served better by than by a conversion that arrives all at once.
            raise malformed("answered a streaming request with a whole completion", response.status)
        return Answer(response.status, response.content_type, body, usage)

    async def _failure(self, response: Response, call: Call | None = None) -> UpstreamFailure:
        body = await read_some(response, MAX_ERROR_BODY)
        secrets = self._secrets if call is None else secrets_with(call, self._secrets)
        return classify(response.status, response.get, body, now=time.time(), secrets=secrets)

    async def probe(self, method: ProbeMethod, model: str | None, key: Secret | None = None) -> Usage | None:
        if method is not ProbeMethod.GENERATE or model is None:
            await self._fetch(b"GET", self._dialect.models, key=key)
            return None
        try:
            if _EMBEDDING.search(model):
                body = msgspec.json.encode({"model": model, "input": "ping"})
                answer = await self._fetch(b"POST", self._dialect.target(model, "/embeddings"), body, key)
                return embeddings_usage(answer)
            messages = [{"role": "user", "content": "ping"}]
            body = msgspec.json.encode({"model": model, "messages": messages, "max_tokens": 1})
            target = self._dialect.target(model, "/chat/completions")
            answer = await self._fetch(b"POST", target, merge_defaults(body, self._extra), key)
        except UpstreamFailure as failure:
            if failure.status == 400 and _ABOUT_MAX_TOKENS.search(failure.body or b""):
                return None  # it read the request and knows the model: it is alive
            raise
        return read_completion(answer, status=200, secrets=self._secrets)

    async def list_models(self) -> Sequence[str]:
        return model_names(await self._fetch(b"GET", self._dialect.models))

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _fetch(self, method: bytes, target: bytes, body: bytes = b"", key: Secret | None = None) -> bytes:
        """The body of a 2xx answer. Raises `UpstreamFailure` for any other."""
        response = await self._transport.send(self._template(self._heads_with(key), method, target), body)
        try:
            if not 200 <= response.status < 300:
                raise await self._failure(response)
            return await response.read()
        finally:
            response.close()

    def _heads_with(self, key: Secret | None) -> _Heads:
        if key is None:
            return self._heads
        found = self._heads_by_key.get(key)
        if found is None:
            found = self._heads_by_key[key] = _Heads.of(self._settings, self._dialect, key)
        return found

    def _post_template(self, heads: _Heads, path: str, model: str) -> RequestTemplate:
        if len(heads.posts) >= _MAX_TEMPLATES:  # callers name the models
            heads.posts.clear()
        template = heads.posts[path, model] = self._template(heads, b"POST", self._dialect.target(model, path))
        return template

    def _template(self, heads: _Heads, method: bytes, target: bytes, *, bare: bool = False) -> RequestTemplate:
        """The request to `target`; `bare`: without the headers that say what bodies are, which the caller's do."""
        name = target if bare else method + target
        template = heads.templates.get(name)
        if template is None:
            if len(heads.templates) >= _MAX_TEMPLATES:  # Azure's have the model in them, and callers name that
                heads.templates.clear()
            template = self._transport.template(method, target, heads.bare if bare else heads.headers)
            heads.templates[name] = template
        return template


@attrs.frozen(eq=False)
class _Heads:
    """The fixed headers with one credential, and the requests that were prepared with them."""

    headers: Headers = attrs.field(repr=False)
    bare: Headers = attrs.field(repr=False)
    templates: dict[bytes, RequestTemplate] = attrs.field(factory=dict[bytes, RequestTemplate])
    posts: dict[tuple[str, str], RequestTemplate] = attrs.field(factory=dict[tuple[str, str], RequestTemplate])
    """The same by path and model, to be found by one look."""

    @classmethod
    def of(cls, settings: ProviderSettings, dialect: Dialect, key: Secret | None) -> _Heads:
        """The headers of the settings take the place of ours with the same name."""
        ours = [(b"Content-Type", b"application/json"), (b"Accept", b"application/json, text/event-stream")]
        if key:
            ours.append(dialect.credential(key.reveal()))
        theirs = [(name.encode(), value.encode()) for name, value in settings.headers.items()]
        names = {name.lower() for name, _ in theirs}
        headers = [header for header in ours if header[0].lower() not in names] + theirs
        return cls(headers, [header for header in headers if header[0].lower() not in _ABOUT_BODIES])


def _is_about_stream_options(failure: UpstreamFailure) -> bool:
    refused = failure.kind is FailureKind.CALLER and failure.status in (400, 422)
    return refused and _ABOUT_STREAM_OPTIONS.search(failure.body or b"") is not None


def _is_json(response: Response) -> bool:
    return response.content_type.lstrip()[:16].lower() == b"application/json"
