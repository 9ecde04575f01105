"""The requests of a simulation: read from a trace, or made up by chance."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import msgspec

from infermux.config.values import duration

KEYS = "at, model, stream, prompt_tokens, max_tokens, completion_tokens, messages, timeout, leaves_after"
PROMPT_TOKENS = 300  # the medians of made-up traffic; both are log-normal
COMPLETION_TOKENS = 100
SPREAD = 0.8
STREAMED = 0.5
DEFAULT_COMPLETION = 40
MOST_COMPLETION = 4000
_FILLER = "lorem ipsum dolor sit amet " * 4000


@attrs.frozen(kw_only=True)
class Request:
    """One request, `at` seconds after the start. `leaves_after`: the caller goes away so many seconds later."""

    at: float
    model: str = "auto"
    stream: bool = False
    prompt_tokens: int = 100
    completion_tokens: int = DEFAULT_COMPLETION
    max_tokens: int | None = None
    messages: tuple[Any, ...] | None = None
    timeout: float | None = None
    leaves_after: float | None = None

    def body(self) -> bytes:
        """The chat request that asks for just this."""
        fields: dict[str, Any] = {"model": self.model, "messages": self.messages or self._asking()}
        if self.max_tokens is not None:
            fields["max_tokens"] = self.max_tokens
        if self.stream:
            fields["stream"] = True
        return msgspec.json.encode(fields)

    def _asking(self) -> list[dict[str, str]]:
        """A simulated provider counts four characters to a token and gives the length a prompt asks for."""
        asked = f"Say {self.completion_tokens} tokens. "
        return [{"role": "user", "content": asked + _FILLER[: max(4 * self.prompt_tokens - 16 - len(asked), 0)]}]


class TraceError(Exception):
    """A trace that cannot be used: file, line and what is allowed."""


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    at: float | str
    model: str = "auto"
    stream: bool = False
    prompt_tokens: int = 100
    max_tokens: int | None = None
    completion_tokens: int | None = None
    messages: list[dict[str, Any]] | None = None
    timeout: float | str | None = None
    leaves_after: float | str | None = None


def read_trace(data: bytes, source: str) -> list[Request]:
    """The requests of JSON lines, in the order of their time. Raises TraceError naming the line."""
    decoder = msgspec.json.Decoder(_Line)
    found: list[Request] = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(_request(decoder.decode(line)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
            raise TraceError(f"{source}:{number}: {_readable(error)}; the keys are {KEYS}") from None
    if not found:
        raise TraceError(f"{source}: there is no request in it; write one JSON object a line, with the keys {KEYS}")
    found.sort(key=lambda request: request.at)
    return found


def _readable(error: Exception) -> str:
    return str(error).replace(" - at `$.", " - at `")


def _request(line: _Line) -> Request:
    completion = line.completion_tokens
    max_tokens = line.max_tokens
    if line.messages is not None and completion is not None:
        max_tokens = completion  # what is said is not ours to write: the length is given as a bound
    for name, count in (("prompt_tokens", line.prompt_tokens), ("completion_tokens", completion)):
        if count is not None and not 0 <= count <= 20_000:
            raise ValueError(f"{name} must be from 0 to 20000, not {count}")
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens must be 1 or more, not {max_tokens}")
    return Request(
        at=_seconds("at", line.at) or 0.0,
        model=line.model,
        stream=line.stream,
        prompt_tokens=line.prompt_tokens,
        completion_tokens=min(max(DEFAULT_COMPLETION if completion is None else completion, 1), MOST_COMPLETION),
        max_tokens=max_tokens,
        messages=None if line.messages is None else tuple(line.messages),
        timeout=_seconds("timeout", line.timeout),
        leaves_after=_seconds("leaves_after", line.leaves_after),
    )


def _seconds(name: str, value: float | str | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = duration(value) if isinstance(value, str) else value
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{name} must be seconds or a duration such as 1m30s, not {value!r}")
    return seconds


def poisson(
    models: Sequence[str], *, rate: float, duration: float, rng: random.Random, streamed: float = STREAMED
) -> Iterator[Request]:
    """Requests at random, `rate` a second on average, of random sizes, evenly over the models."""
    at = rng.expovariate(rate)
    while at < duration:
        yield Request(
            at=at,
            model=rng.choice(models),
            stream=rng.random() < streamed,
            prompt_tokens=_about(PROMPT_TOKENS, rng, 20_000),
            completion_tokens=_about(COMPLETION_TOKENS, rng, MOST_COMPLETION),
        )
        at += rng.expovariate(rate)


def _about(median: int, rng: random.Random, most: int) -> int:
    return min(max(round(median * math.exp(rng.gauss(0.0, SPREAD))), 1), most)
