"""The neutral form of a conversation: what every dialect is read into and written from.

Values only. What one dialect can say and another cannot is either a field here, so that a writer can carry it or name
it as dropped, or stands by name in `Conversation.extras` and `Conversation.lost`.

Canonical form, which every reader keeps: system text before the first turn is in `system`; no two adjacent turns have
the same role; in a user turn the tool results come first, in the order they were given. Text parts may be empty.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs

from ..interface import Usage


class Role(enum.Enum):
    """Who speaks in a turn. A SYSTEM turn stands after the first turn; before it, it is `Conversation.system`."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"


class StopReason(enum.Enum):
    """Why a model stopped."""

    END = "end"
    LENGTH = "length"
    STOP_SEQUENCE = "stop_sequence"
    TOOL_USE = "tool_use"
    REFUSAL = "refusal"  # a refusal or a content filter
    PAUSE = "pause"  # a long turn with the provider's own tools; sending the answer back continues it
    CONTEXT_WINDOW = "context_window"  # the context window is full, which is not the caller's own bound


class ErrorKind(enum.Enum):
    """What kind of refusal an error is, in every dialect's terms."""

    INVALID_REQUEST = "invalid_request"
    AUTHENTICATION = "authentication"
    BILLING = "billing"
    PERMISSION = "permission"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    RATE_LIMIT = "rate_limit"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    SERVER = "server"


@attrs.frozen(kw_only=True)
class CacheControl:
    """The prompt up to and including this part is to be cached. `ttl` as Anthropic writes it: `5m`, `1h`; None: the
    provider's default."""

    ttl: str | None = None


# Where the bytes of an image or a document are.
@attrs.frozen(kw_only=True)
class Url:
    """An address the provider fetches itself."""

    url: str


@attrs.frozen(kw_only=True)
class Base64:
    """The bytes themselves, base64 without line ends."""

    data: str
    media_type: str


@attrs.frozen(kw_only=True)
class PlainText:
    """A document's text."""

    text: str


@attrs.frozen(kw_only=True)
class FileId:
    """A file uploaded to one provider; `dialect` is the dialect whose files these are, no other can carry it."""

    id: str
    dialect: str


@attrs.frozen(kw_only=True)
class Citation:
    """What a piece of an answer's text rests on.

    `url` for a page of the web; otherwise a document of the request by its index, with positions in the document
    counted in `unit` (`char`, `page`, `block`), `start` inclusive, `end` exclusive. `encrypted_index` is opaque and
    only goes back to where it came from. `span` is the piece of its text that rests on it, in characters, end
    exclusive; None: the whole of it.
    """

    cited_text: str = ""
    title: str | None = None
    url: str | None = None
    document_index: int | None = None
    unit: str | None = None
    start: int | None = None
    end: int | None = None
    encrypted_index: str | None = None
    span: tuple[int, int] | None = None


# Parts: what turns and answers are made of.
@attrs.frozen(kw_only=True)
class Text:
    """Text; of an answer, with what it cites."""

    text: str
    citations: tuple[Citation, ...] = ()
    cache_control: CacheControl | None = None


@attrs.frozen(kw_only=True)
class Image:
    """`detail` as OpenAI writes it: `low`, `high`, `original`; None: `auto`.

    `at` is where it stands in the caller's request (`messages[2].content[1]`), for a refusal to name; no part of what
    it is.
    """

    source: Url | Base64 | FileId
    detail: str | None = None
    cache_control: CacheControl | None = None
    at: str = attrs.field(default="", eq=False, repr=False)


@attrs.frozen(kw_only=True)
class Document:
    """`title` is the file's name where it has one; `context` is text about it that is not cited from; `citations`
    asks for citations. `at` as of `Image`."""

    source: Url | Base64 | PlainText | FileId
    title: str | None = None
    context: str | None = None
    citations: bool = False
    cache_control: CacheControl | None = None
    at: str = attrs.field(default="", eq=False, repr=False)


@attrs.frozen(kw_only=True)
class ToolCall:
    """`arguments` is the text of a JSON object, as it came, which need not be valid; `{}`, never empty, when whole.

    `freeform`: the tool takes text instead of JSON, and `arguments` is that text.
    """

    id: str
    name: str
    arguments: str = ""
    freeform: bool = False
    cache_control: CacheControl | None = None


@attrs.frozen(kw_only=True)
class ToolResult:
    """The answer to the call with id `call_id`."""

    call_id: str
    parts: tuple[Text | Image | Document, ...] = ()
    is_error: bool = False
    cache_control: CacheControl | None = None


@attrs.frozen(kw_only=True)
class Thinking:
    """`signature` proves to the provider that the text is its own; without one it cannot be sent back."""

    text: str
    signature: str | None = None


@attrs.frozen(kw_only=True)
class RedactedThinking:
    """Thinking that only the provider can read."""

    data: str


@attrs.frozen(kw_only=True)
class Refusal:
    """The model's words for why it does not answer."""

    text: str


Part = Text | Image | Document | ToolCall | ToolResult | Thinking | RedactedThinking | Refusal


@attrs.frozen(kw_only=True)
class Turn:
    """Parts of one speaker. Tool results are in user turns; tool calls, thinking and refusals in assistant turns."""

    role: Role
    parts: tuple[Part, ...]


@attrs.frozen(kw_only=True)
class Tool:
    """A function the model may call. `schema` is the JSON Schema of its arguments, None where none was given.

    `freeform`: it takes text instead; `grammar` then says what text, as the OpenAI APIs write it.
    """

    name: str
    description: str | None = None
    schema: Mapping[str, object] | None = None
    strict: bool | None = None
    freeform: bool = False
    grammar: Mapping[str, object] | None = None
    cache_control: CacheControl | None = None


class ToolMode(enum.Enum):
    """Whether the model may, must or must not call tools."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


@attrs.frozen(kw_only=True)
class ToolChoice:
    """`name` is the tool's for NAMED, None otherwise."""

    mode: ToolMode
    name: str | None = None


@attrs.frozen(kw_only=True)
class JsonFormat:
    """The answer is to be JSON: a value of `schema`, or any object where that is None (JSON mode)."""

    schema: Mapping[str, object] | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class ReasoningMode(enum.Enum):
    """How a caller switched thinking: off, on with a budget, or as much as the model sees fit."""

    OFF = "off"
    BUDGET = "budget"
    ADAPTIVE = "adaptive"


@attrs.frozen(kw_only=True)
class Reasoning:
    """How much the model is to think. `effort`: `none minimal low medium high xhigh max`. `budget_tokens` with BUDGET.

    `mode` is None where only an effort was given. `summary` says whether and how thinking is to be shown, in the word
    the caller used.
    """

    mode: ReasoningMode | None = None
    effort: str | None = None
    budget_tokens: int | None = None
    summary: str | None = None


@attrs.frozen(kw_only=True)
class Conversation:
    """A request.

    `parallel_tool_calls` is False where the caller forbids them, else None. `service_tier` is `auto`, `default`, or the
    caller's own word. `extras` are the remaining top-level fields with their values, under the caller's names: a writer
    whose dialect has a field of that name and meaning carries it, and names the others as dropped. `lost` names what
    the reader met and this form has no place for (`messages.content.input_audio`).
    """

    model: str
    turns: tuple[Turn, ...]
    system: tuple[Text, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    format: JsonFormat | None = None
    reasoning: Reasoning | None = None
    stream: bool = False
    include_usage: bool = False
    user: str | None = None
    metadata: Mapping[str, str] = attrs.field(factory=dict[str, str])
    service_tier: str | None = None
    cache_control: CacheControl | None = None
    extras: Mapping[str, object] = attrs.field(factory=dict[str, object])
    lost: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Completion:
    """An answer. `usage.prompt_tokens` counts the whole prompt, cached and newly cached tokens included.

    `created` is in seconds since the epoch where the provider says so. `lost` names what the reader met and this form
    has no place for (`choices(first only)`); it is no part of what the answer is.
    """

    id: str
    model: str
    parts: tuple[Part, ...]
    stop: StopReason
    stop_sequence: str | None = None
    usage: Usage | None = None
    created: int | None = None
    lost: tuple[str, ...] = attrs.field(default=(), eq=False)


@attrs.frozen(kw_only=True)
class ErrorReport:
    """A refusal or a failure, as a provider or the router words it.

    `status` is the HTTP status; for an error inside a stream the one that fits its kind. `type`, `code` and `param` as
    the source wrote them, where it did.
    """

    kind: ErrorKind
    status: int
    message: str
    type: str | None = None
    code: str | None = None
    param: str | None = None
