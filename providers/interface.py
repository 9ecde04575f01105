"""The seam between policy and wire: what an adapter is asked, and what it answers.

An adapter speaks one provider type's protocol over one transport. It holds no policy: it does not retry, does not
choose, does not time out on its own (but for connecting, see `timeouts.connect`). Every failure is an
`UpstreamFailure`. Cancelling any call closes the connection it uses and leaves nothing behind.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import attrs
import msgspec
import trio

from infermux.config.settings import ProbeMethod
from infermux.secret import Secret

if TYPE_CHECKING:
    from .ratelimits import Quotas
    from .transport import Source


class Endpoint(enum.Enum):
    """What the caller asks for. The value is the path below `/v1`."""

    __hash__ = object.__hash__  # that of enum is Python code; routes are looked up by it several times a request

    CHAT = "/chat/completions"
    COMPLETIONS = "/completions"
    EMBEDDINGS = "/embeddings"
    RESPONSES = "/responses"
    MESSAGES = "/messages"
    COUNT_TOKENS = "/messages/count_tokens"
    # These are passed on as they come, whatever is below them: `Call.path` says what.
    IMAGES = "/images"
    AUDIO = "/audio"
    MODERATIONS = "/moderations"
    RERANK = "/rerank"


GENERATING: Final = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES, Endpoint.MESSAGES})
"""Whose answers are text, so that their length tells their tokens."""

ORDINARY_TIERS: Final = frozenset({"default", "standard", "auto", ""})
"""OpenAI's `service_tier` of a request that asked for none, and Anthropic's."""

TRACE_HEADERS: Final = (b"traceparent", b"tracestate")
"""W3C's Trace Context among a call's headers: passed on whatever the dialect (https://www.w3.org/TR/trace-context/)."""


MOST_TOKENS: Final = 10_000_000
"""Of one kind in one answer. The largest context window there is holds so many, and ordinary ones a tenth."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one answer. `estimated` marks numbers that the provider did not give.

    `prompt_tokens` is the whole prompt: the `cached_tokens` read from a cache and the `cache_write_tokens` newly
    written to one are part of it, as `reasoning_tokens` are of `completion_tokens`. `service_tier` is the one the
    provider says it has served the request in, "" where it says none or the ordinary one.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    cache_write_tokens: int = 0
    service_tier: str = ""

    @property
    def total(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def is_plausible(self) -> bool:
        """False: no answer can have used that. Who believed it would spend a budget that nobody has spent."""
        return (
            0 <= self.prompt_tokens <= MOST_TOKENS
            and 0 <= self.completion_tokens <= MOST_TOKENS
            and 0 <= self.cached_tokens <= MOST_TOKENS
            and 0 <= self.cache_write_tokens <= MOST_TOKENS
            and 0 <= self.reasoning_tokens <= MOST_TOKENS
        )

    def served_in(self, tier: object) -> Usage:
        """The same, in the tier that an answer names: anything that is no word for a special one is the ordinary."""
        if not isinstance(tier, str) or tier in ORDINARY_TIERS:
            return self
        return msgspec.structs.replace(self, service_tier=tier)


class Upload(Protocol):
    """A caller's body that is not held whole, and in which one attempt's model is put in the place of the caller's.

    `spent`: a part went on that cannot be had again, so there can be no further attempt. `waited` are the seconds in
    which the provider was waiting for the caller. While it does, the deadline of `scope` stands still, but for
    `last`, the caller's own.
    """

    scope: trio.CancelScope | None
    last: float

    @property
    def spent(self) -> bool: ...
    @property
    def waited(self) -> float: ...
    def open(self, model: str) -> Source:
        """The body for one attempt; `receive` raises what the caller did: CallerError, CallerLeft."""
        ...

    def close(self) -> None:
        """Forget all that is kept. Idempotent, never blocks."""
        ...


class Call(msgspec.Struct, frozen=True):
    """One request for one provider.

    `body` is the caller's JSON as it was written; `requested_model` the model it names (None: it names none), `model`
    the provider's name for it. The adapter changes in the body only: the model, the fields in `remove` (top-level keys
    of the router, such as `provider`), its `extra_body`, and on streams `stream_options.include_usage`. `asked_usage`
    is True when the caller itself asked for the usage event of a stream; False: the adapter asks for it and hides it.
    """

    endpoint: Endpoint
    body: bytes
    model: str
    requested_model: str | None
    stream: bool = False
    asked_usage: bool = False
    remove: tuple[str, ...] = ()
    headers: tuple[tuple[bytes, bytes], ...] = ()  # the caller's that belong to the dialect, and `TRACE_HEADERS`
    strict: bool = False  # refuse (InvalidRequest naming the fields) what a translation cannot carry
    lent: Secret | None = None  # the caller's own credential, for a provider that goes without; empty: none was sent
    stateful: bool = False  # it leaves something at the provider, or goes on from what is there
    spans: bool = False  # each attempt has a span of its own: the one in `traceparent` is the request's
    path: str = ""  # below /v1, with its query, where the endpoint does not say it
    upload: Upload | None = None  # the body, where it is not in `body`
    key: Secret | None = None  # the credential, where the provider has several; None: the one of its settings
    heard: Callable[[Quotas], None] | None = None  # told what the answer's headers say of the provider's own limits
    kept: Callable[[str], None] | None = None  # told the id of a response that the provider itself keeps

    def __repr__(self) -> str:
        """Without what was asked, and without headers: a traceback may show it."""
        return f"Call({self.endpoint.name}, model={self.model!r}, stream={self.stream}, {len(self.body)} bytes)"


def traced(call: Call, span: str) -> Call:
    """`call`, its `traceparent` naming `span`: VERSION-TRACE-SPAN-FLAGS (https://www.w3.org/TR/trace-context/, 3.2)."""
    headers = [
        (name, b"%b-%b-%b" % (value[:35], span.encode(), value[-2:])) if name == TRACE_HEADERS[0] else (name, value)
        for name, value in call.headers
    ]
    return msgspec.structs.replace(call, headers=tuple(headers))


class Answer(msgspec.Struct, eq=False):
    """A whole answer, 2xx, checked to be complete: `body` goes to the caller as it is."""

    status: int
    content_type: bytes
    body: bytes
    usage: Usage | None = None
    dropped: tuple[str, ...] = ()  # fields of the request that a translation could not carry
    estimated: bool = False  # the answer itself is an estimate of ours (count_tokens without support)

    def __repr__(self) -> str:
        """Without the body: it is what somebody was answered."""
        return f"Answer({self.status}, {self.content_type!r}, {self.usage!r})"


class Stream(Protocol):
    """An answer that comes in events.

    `receive()` returns whole events, encoded for the caller, never b"" (it waits for something to pass on), and None
    at the genuine end. A stream that ends without one, or breaks, raises `UpstreamFailure(BROKEN)`. `has_content`
    turns True with the first bytes that carry content (text, tool call, refusal, reasoning) or the finish reason: what
    was returned before that may still be replaced. `usage` is known at the end.
    """

    @property
    def content_type(self) -> bytes: ...
    @property
    def has_content(self) -> bool: ...
    @property
    def usage(self) -> Usage | None: ...
    @property
    def dropped(self) -> tuple[str, ...]:
        """Fields of the request that a translation could not carry."""
        ...

    @property
    def estimated_tokens(self) -> int:
        """Completion tokens passed on, as well as can be told without parsing: for streams that end without usage."""
        ...

    @property
    def malformed_events(self) -> int:
        """Events of the provider that could not be read, and were left out."""
        ...

    def last_words(self) -> bytes | None:
        """For a provider that says no more: what the caller's answer lacks, which has its finish reason (b"": nothing).

        None: it has none, and is not whole.
        """
        ...

    async def receive(self) -> bytes | None: ...
    def close(self) -> None:
        """Give the connection back when the answer was read to its end, drop it otherwise. Idempotent, never blocks."""
        ...


class Adapter(Protocol):
    """One provider's wire. Made by an `AdapterFactory` from its settings; owned by the provider's actor."""

    @property
    def endpoints(self) -> frozenset[Endpoint]:
        """What it serves itself. One that the provider turns out not to have is gone when `send` raises for it."""
        ...

    @property
    def transport(self) -> str:
        """`express`, `httpx`, `process` or `in-process`: shown by the management API."""
        ...

    def send(self, call: Call) -> Awaitable[Answer | Stream]:
        """Send `call`; return when the response's head (a stream) or the whole of it (an answer) is here.

        Raises `UpstreamFailure` for anything but a 2xx, InvalidRequest for a body that cannot be said in the
        provider's dialect, or only with a loss that `call.strict` forbids: nothing was sent then.
        """
        ...

    async def probe(self, method: ProbeMethod, model: str | None, key: Secret | None = None) -> Usage | None:
        """One health probe, with `key` where the provider has several; returns what it used. Raises `UpstreamFailure`.

        `method` is GENERATE or MODELS. A 400 about `max_tokens`/`max_completion_tokens` proves the provider alive.
        """
        ...

    async def list_models(self) -> Sequence[str]:
        """The models the provider itself lists (`/models`, Ollama's `/api/tags`)."""
        ...

    async def aclose(self) -> None:
        """Close every idle connection; those in use close when given back."""
        ...


@attrs.frozen(kw_only=True)
class ModelInfo:
    """A model as its provider describes it; None: the provider does not say.

    `context_window` and `max_output_tokens` in tokens; `images`, `tools`: whether it takes them.
    """

    id: str
    name: str = ""
    context_window: int | None = None
    max_output_tokens: int | None = None
    images: bool | None = None
    tools: bool | None = None


class Describing(Protocol):
    """What an adapter may have besides: it knows its models, and serves these and no others."""

    @property
    def described(self) -> Sequence[ModelInfo] | None:
        """What the last probe found; None: there was none."""
        ...

    async def describe_models(self) -> Sequence[ModelInfo]:
        """Ask for the models, in the provider's order: the first is its default. Raises `UpstreamFailure`."""
        ...


class Lasting(Protocol):
    """What an adapter may have besides: something that has to be kept running for as long as the adapter is used."""

    async def run(self, news: Callable[[bool], None]) -> None:
        """Keep it running until cancelled, or until `aclose`; then nothing of it is left.

        `news` is called with True when it has come up, with False when it has gone down, and when that is for good.
        """
        ...

    async def started(self) -> None:
        """Wait while it is starting; `run` has been called. Raises InfermuxError when it does not come up."""
        ...

    def retry(self) -> None:
        """Try now to bring it up, if that is being put off. An operator wants it."""
        ...

    def statistics(self) -> Mapping[str, Any]:
        """What an operator may want to know of it, as JSON has it."""
        ...


def describing(adapter: Adapter) -> Describing | None:
    """The part of `adapter` that knows its models, if there is one."""
    inner = _innermost(adapter)
    return cast("Describing", inner) if hasattr(inner, "describe_models") else None


def lasting(adapter: Adapter) -> Lasting | None:
    """The part of `adapter` that has to be kept running, if there is one."""
    inner = _innermost(adapter)
    return cast("Lasting", inner) if hasattr(inner, "run") else None


def _innermost(adapter: object) -> object:
    """What speaks to the provider, within those that translate for it."""
    while hasattr(adapter, "adapter"):
        adapter = cast("Any", adapter).adapter
    return adapter


class Prefilling(Protocol):
    """What an adapter may have besides: it knows which models go on with the beginning of their answer."""

    def takes_prefill(self, model: str) -> bool:
        """Whether `model` goes on with an assistant message at the end of a conversation, in place of answering anew.

        True may turn out wrong: a model that refuses it is then asked otherwise.
        """
        ...


def takes_prefill(adapter: Adapter, model: str) -> bool:
    """False for an adapter that does not know."""
    if not hasattr(adapter, "takes_prefill"):
        return False
    return cast("Prefilling", adapter).takes_prefill(model)


class Stopping(Protocol):
    """What an adapter may have besides: endpoints whose whole answers need no cancel scope around `send`.

    All of its waits for them are those of a transport that stops: see `transport.Asker`.
    """

    @property
    def stops(self) -> frozenset[Endpoint]: ...


_NONE: Final = frozenset[Endpoint]()


def stops(adapter: Adapter) -> frozenset[Endpoint]:
    """Nothing for an adapter that does not say so."""
    found: frozenset[Endpoint] = getattr(adapter, "stops", _NONE)
    return found
