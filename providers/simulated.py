"""A provider that exists only in this process: the demo, the tests and the bench live on it.

It answers chat completions in OpenAI's shapes (`openai.types.chat.ChatCompletion` and `ChatCompletionChunk` of the
openai SDK) with text of its own, or the tool call or JSON that is insisted on, at the pace of its `simulate` settings,
and fails as its script says; embeddings are numbers made of the text. Callers of other dialects reach it by translation
(see `translated`). All waiting is `trio.sleep`, so under a virtual clock nothing really waits.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import attrs
import msgspec
import trio

from infermux.config.settings import ProbeMethod, ProviderSettings
from infermux.errors import FailureKind, UpstreamFailure
from infermux.secret import Secret

from .chat_stream import DONE
from .classify import classify
from .interface import Answer, Call, Endpoint, Stream, Usage
from .simulated_answer import Answered, Event, Pace, broken
from .simulated_embeddings import embeddings, read_embedding
from .simulated_request import Refused, error_body, read_request
from .simulated_script import NORMAL, Step, parse_script


@attrs.frozen(kw_only=True)
class Statistics:
    """Counts since the start. `cancelled`: left before their end; `in_flight`: not ended yet; `peak`: most at once."""

    requests: int
    probes: int
    cancelled: int
    in_flight: int
    peak: int


class Steps(Protocol):
    """Where a simulated provider learns what to do, `elapsed` seconds after its start: see `Script`."""

    def next_step(self, elapsed: float) -> Step: ...
    def standing(self, elapsed: float) -> Step: ...


def make(settings: ProviderSettings, *, environ: Mapping[str, str]) -> Simulated:
    """The factory of the type `simulated`. Raises ValueError for a script that `check_script` refuses."""
    del environ
    return Simulated(settings)


class Simulated:
    """The adapter. One per provider; its script and its random failures go on from request to request.

    `steps` takes the place of the settings' script; `tokens_per_event` is how many tokens of a stream come at once.
    """

    endpoints = frozenset({Endpoint.CHAT, Endpoint.EMBEDDINGS})

    def __init__(self, settings: ProviderSettings, *, steps: Steps | None = None, tokens_per_event: int = 1) -> None:
        self._settings = settings
        self._simulate = settings.simulate
        self._script: Steps = parse_script(settings.simulate.script) if steps is None else steps
        self._tokens_per_event = tokens_per_event
        self._random = random.Random(settings.name)  # chance for tests, seeded so that runs repeat
        self._started: float | None = None
        self._serial = itertools.count(1)
        self._requests = self._probes = self._cancelled = self._in_flight = self._peak = 0

    @property
    def transport(self) -> str:
        return "in-process"

    def statistics(self) -> Statistics:
        return Statistics(
            requests=self._requests,
            probes=self._probes,
            cancelled=self._cancelled,
            in_flight=self._in_flight,
            peak=self._peak,
        )

    def __repr__(self) -> str:
        return f"Simulated({self._settings.name!r}, in_flight={self._in_flight})"

    async def send(self, call: Call) -> Answer | Stream:
        """Answer `call` as the script and the settings say. Raises `UpstreamFailure`, InvalidRequest."""
        self._requests += 1
        visit = self._enter()
        try:
            step = self._step()
            pace = Pace(step, self._simulate.first_token, self._simulate.tokens_per_second)
            await _fail_as_told(step)
            if call.endpoint is Endpoint.EMBEDDINGS:
                vectors = self._embed(call)
                await pace.whole(0)
                visit.leave(cancelled=False)
                return vectors
            answer = self._composed(call)
            if call.stream:
                events = answer.events(pace, asked_usage=call.asked_usage, at_once=self._tokens_per_event)
                return SimulatedStream(events, answer.usage, visit)
            await pace.whole(answer.completion_tokens)
        except BaseException as error:
            visit.leave(cancelled=isinstance(error, trio.Cancelled))
            raise
        visit.leave(cancelled=False)
        return Answer(200, b"application/json", answer.whole(), answer.usage)

    def _embed(self, call: Call) -> Answer:
        try:
            request = read_embedding(_with_model(call, {}))
            self._check_model(call.model)
            body, usage = embeddings(request)
        except Refused as refused:
            raise _answered(404 if refused.code == "model_not_found" else 400, refused.body()) from None
        return Answer(200, b"application/json", body, usage)

    async def probe(self, method: ProbeMethod, model: str | None, key: Secret | None = None) -> Usage | None:
        """Answer from the lasting state: windows and steps that repeat for ever. One-shot steps stay for requests."""
        self._probes += 1
        step = self._script.standing(self._elapsed())
        if step is NORMAL and self._simulate.failure_rate >= 1:
            step = _RANDOM_FAILURE
        await _fail_as_told(step)
        if method is not ProbeMethod.GENERATE:
            return None
        await trio.sleep(self._simulate.first_token if step.first_token is None else step.first_token)
        if step.cut_after is not None and step.cut_after < 1:
            raise broken()
        if step.stall_after is not None and step.stall_after < 1:
            await trio.sleep(step.stall_for)
        return Usage(prompt_tokens=5, completion_tokens=1)

    def takes_prefill(self, model: str) -> bool:
        """Every model does: what an assistant message at the end says already is left out of the answer."""
        del model
        return True

    async def list_models(self) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        if self._settings.models is None:
            return ("simulated",)
        return tuple(dict.fromkeys((*self._settings.models, *self._settings.model_aliases.values())))

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def _enter(self) -> _Visit:
        self._in_flight += 1
        self._peak = max(self._peak, self._in_flight)
        return _Visit(self)

    def left(self, *, cancelled: bool) -> None:
        """A visit ended; called by the visit itself, once."""
        self._in_flight -= 1
        self._cancelled += cancelled

    def _elapsed(self) -> float:
        now = trio.current_time()
        if self._started is None:
            self._started = now
        return now - self._started

    def _step(self) -> Step:
        step = self._script.next_step(self._elapsed())
        if step is NORMAL and self._simulate.failure_rate and self._random.random() < self._simulate.failure_rate:
            return _RANDOM_FAILURE
        return step

    def _composed(self, call: Call) -> Answered:
        try:
            request = read_request(_with_model(call, self._settings.extra_body))
            self._check_model(call.model)
            return Answered(request, self._settings.name, call.model, next(self._serial))
        except Refused as refused:
            status = 404 if refused.code == "model_not_found" else 400
            raise _answered(status, refused.body()) from None

    def _check_model(self, model: str) -> None:
        if self._settings.models is None:
            return
        if model not in self._settings.models and model not in self._settings.model_aliases.values():
            raise Refused(
                f"The model `{model}` does not exist or you do not have access to it.", None, "model_not_found"
            )


_RANDOM_FAILURE = Step(status=500, message="a simulated failure (failure_rate)")


class _Visit:
    """One request inside the provider, counted out once."""

    __slots__ = ("_provider",)

    def __init__(self, provider: Simulated) -> None:
        self._provider: Simulated | None = provider

    def leave(self, *, cancelled: bool) -> None:
        provider, self._provider = self._provider, None
        if provider is not None:
            provider.left(cancelled=cancelled)


class SimulatedStream:
    """The `Stream` of a simulated provider: one token per `receive`."""

    content_type = b"text/event-stream; charset=utf-8"
    dropped: tuple[str, ...] = ()
    malformed_events = 0

    def __init__(self, events: Iterator[Event], usage: Usage, visit: _Visit) -> None:
        self._events = events
        self._whole_usage = usage
        self._visit = visit
        self._start = trio.current_time()
        self._ended = False
        self._failure: UpstreamFailure | None = None
        self.has_content = False
        self.estimated_tokens = 0
        self.usage: Usage | None = None

    async def receive(self) -> bytes | None:
        event = self._next()
        if isinstance(event, UpstreamFailure):
            self._ended = True
            await trio.lowlevel.checkpoint()
            raise event
        if event is None:
            self._ended = True
            self.usage = self._whole_usage
            self._visit.leave(cancelled=False)
            await trio.lowlevel.checkpoint()
            return None
        await trio.sleep_until(max(self._start + event.due, trio.current_time()))
        self.has_content = self.has_content or event.has_content
        self.estimated_tokens += event.tokens
        if event.data.endswith(DONE):  # whoever translates the end needs the usage with it
            self.usage = self._whole_usage
        return event.data

    def _next(self) -> Event | UpstreamFailure | None:
        if self._failure is None:
            try:
                return next(self._events, None)
            except UpstreamFailure as failure:
                self._failure = failure
        return self._failure

    def last_words(self) -> None:
        """The finish reason comes with the end."""

    def close(self) -> None:
        self._visit.leave(cancelled=not self._ended)


async def _fail_as_told(step: Step) -> None:
    await trio.lowlevel.checkpoint()
    if step.hang:
        await trio.sleep_forever()
    if step.refuse:
        raise UpstreamFailure(FailureKind.CONNECT, "cannot connect: refused (simulated)")
    if step.malformed:
        raise UpstreamFailure(FailureKind.MALFORMED, "answered 200 with something that is no completion (simulated)")
    if step.status is not None:
        raise _answered_by_script(step, step.status)


def _answered_by_script(step: Step, status: int) -> UpstreamFailure:
    body = error_body(step.message or f"a simulated {status}", _error_type(status), code=step.code)
    return _answered(status, body, retry_after=step.retry_after)


def _error_type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def _answered(status: int, body: bytes, retry_after: float | None = None) -> UpstreamFailure:
    headers = {b"content-type": b"application/json"}
    if retry_after is not None:
        headers[b"retry-after-ms"] = b"%d" % round(retry_after * 1000)
    return classify(status, headers.get, body, now=0.0)


def _with_model(call: Call, extra_body: Mapping[str, object]) -> bytes:
    """The body with the provider's `extra_body` below what the caller wrote."""
    if not extra_body and call.requested_model is not None:
        return call.body
    try:
        written = msgspec.json.decode(call.body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return call.body  # the request's own check says what is wrong
    model = {} if call.requested_model is not None else {"model": call.model}
    return msgspec.json.encode({**extra_body, **written, **model})
