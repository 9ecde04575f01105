"""What a simulated provider reads in a chat request, and what it says.

The checks are those of OpenAI's chat completions reference (https://platform.openai.com/docs/api-reference/chat/create):
a request the real API answers 400 to gets a 400 of the same shape here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

_DEFAULT_TOKENS = 40
_MOST_TOKENS = 4096
_WORDS = (
    "lorem",
    "ipsum",
    "dolor",
    "sit",
    "amet",
    "consectetur",
    "adipiscing",
    "elit",
    "sed",
    "do",
    "eiusmod",
    "tempor",
    "incididunt",
    "ut",
    "labore",
    "et",
    "dolore",
    "magna",
    "aliqua",
)
_BABBLE = tuple(f" {_WORDS[at % len(_WORDS)]}" for at in range(_MOST_TOKENS + len(_WORDS)))
_ASKED_LENGTH = re.compile(r"\b(\d{1,4}) (?:words|tokens)\b")
_PLACE = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `([^`]+)`")

Positive = Annotated[int, msgspec.Meta(ge=1)]
Role = Literal["developer", "system", "user", "assistant", "tool", "function"]


class Message(msgspec.Struct):
    role: Role
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: dict[str, Any] | None = None
    refusal: str | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return " ".join(str(part.get("text", "")) for part in self.content or () if part.get("type") == "text")


class ChatRequest(msgspec.Struct):
    """The fields a simulated provider acts on or checks; others are accepted unseen."""

    model: str
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    stop: str | list[str] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None

    @property
    def prompt_tokens(self) -> int:
        """Four characters to a token, four tokens to a message: the usual estimate."""
        return sum(4 + len(message.text) // 4 for message in self.messages)


class Refused(Exception):
    """The request is not one the API takes. `param` names the field."""

    def __init__(self, message: str, param: str | None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code

    def body(self) -> bytes:
        return error_body(self.message, "invalid_request_error", param=self.param, code=self.code)


def error_body(message: str, type_: str, *, param: str | None = None, code: str | None = None) -> bytes:
    """OpenAI's error object."""
    return msgspec.json.encode({"error": {"message": message, "type": type_, "param": param, "code": code}})


_decoder = msgspec.json.Decoder(ChatRequest)


def read_request(body: bytes) -> ChatRequest:
    """The request in `body`. Raises `Refused`."""
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise refusal(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused("We could not parse the JSON body of your request.", None) from None
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise Refused(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.", "max_tokens"
        )
    _check_messages(request.messages)
    return request


def refusal(problem: str) -> Refused:
    """What a validation error's text means to the caller."""
    place = _PLACE.search(problem)
    where = place[1] if place else ""
    text = problem[: place.start()] if place else problem
    missing = _MISSING.match(text)
    if missing:
        name = f"{where}.{missing[1]}" if where else missing[1]
        return Refused(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    return Refused(f"Invalid value for '{where}': {text}.", where or None, "invalid_value")


def _check_messages(messages: Sequence[Message]) -> None:
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.role == "tool":
            if message.tool_call_id is None:
                raise Refused(f"Missing parameter 'tool_call_id': {where} has role 'tool'.", f"{where}.tool_call_id")
            if message.tool_call_id not in open_calls:
                raise Refused(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceding message with"
                    " 'tool_calls'.",
                    f"{where}.role",
                )
            continue
        open_calls = {str(call.get("id")) for call in message.tool_calls or ()}
        says_something = message.tool_calls or message.function_call or message.refusal
        if message.content is None and not (message.role == "assistant" and says_something):
            raise Refused(f"Invalid value for 'content': expected a string, got null. ({where})", f"{where}.content")


def compose(request: ChatRequest, provider: str, choice: int) -> tuple[list[str], str]:
    """The tokens of choice number `choice` in words, and the finish reason. The same request gets the same answer.

    A prompt that says `300 words` gets that many; otherwise 40. `max_tokens` cuts with the reason `length`. A message
    of the assistant at the end is the beginning of the answer: as many tokens as it has words have been said.
    """
    prompt = next((message.text for message in reversed(request.messages) if message.role == "user"), "")
    asked = _ASKED_LENGTH.search(prompt)
    length = min(int(asked[1]), _MOST_TOKENS) if asked else _DEFAULT_TOKENS
    limit = request.max_completion_tokens or request.max_tokens
    last = request.messages[-1]
    begun = min(len(last.text.split()), length) if last.role == "assistant" else 0
    length -= begun
    count = length if limit is None else min(length, limit)
    tokens = _tokens(prompt, provider, choice, begun + count)[begun:]
    return (tokens, "length") if count < length else (_stop(tokens, request.stop), "stop")


def cut(tokens: list[str], request: ChatRequest, reason: str) -> tuple[list[str], str]:
    """`tokens` up to the bound of the request, and the finish reason: `reason` where all of them are there."""
    limit = request.max_completion_tokens or request.max_tokens
    return (tokens, reason) if limit is None or len(tokens) <= limit else (tokens[:limit], "length")


def _tokens(prompt: str, provider: str, choice: int, count: int) -> list[str]:
    echo = " ".join(prompt.split())
    echo = echo if len(echo) <= 60 else echo[:57] + "..."
    first, *rest = f'This is {provider}, a simulated provider. You said: "{echo}".'.split(" ")
    tokens = [first, *(f" {word}" for word in rest)][:count]
    start = choice % len(_WORDS)
    return tokens + list(_BABBLE[start : start + count - len(tokens)])


def _stop(tokens: list[str], stop: str | list[str] | None) -> list[str]:
    if not stop:
        return tokens
    text = "".join(tokens)
    ends = [at for word in ([stop] if isinstance(stop, str) else stop) if word and (at := text.find(word)) >= 0]
    if not ends:
        return tokens
    room, kept = min(ends), list[str]()
    for token in tokens:
        if room <= 0:
            break
        kept.append(token[:room])
        room -= len(token)
    return kept
