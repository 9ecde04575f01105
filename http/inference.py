"""The inference handler: written once, for every way in.

It admits, reads and answers; where a request goes, how often and how long it is tried is the actors' business.
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets

import attrs

from infermux.actors.decisions import Decisions
from infermux.actors.dispatch import Run
from infermux.actors.draft import Draft
from infermux.actors.fleet import Fleet
from infermux.actors.identity import NOBODY
from infermux.actors.key_access import ModelRule
from infermux.actors.key_table import Known
from infermux.actors.keys import Keys, Permit
from infermux.actors.pump import Sink
from infermux.actors.supply import REQUEST_WAITS
from infermux.errors import (
    CallerLeft,
    InfermuxError,
    InternalError,
    Overloaded,
    RateLimited,
    ShuttingDown,
    UnsupportedMediaType,
)
from infermux.providers.interface import Answer, Endpoint, Stream

from .admission import Admitted, admitted
from .caching import Caching
from .errors import error_answer, error_event, shape_of
from .exchange import Exchange, Head, HeaderLines, Headers
from .intake import passed, read
from .overheard import Overheard
from .passthrough import PREFIXES, passed_name
from .rules import Rules
from .trace_context import Carried, Sampler, place_of

log = logging.getLogger("infermux.requests")

ROUTES = {
    b"/v1/chat/completions": Endpoint.CHAT,
    b"/v1/completions": Endpoint.COMPLETIONS,
    b"/v1/embeddings": Endpoint.EMBEDDINGS,
    b"/v1/responses": Endpoint.RESPONSES,
    b"/v1/messages": Endpoint.MESSAGES,
    b"/v1/messages/count_tokens": Endpoint.COUNT_TOKENS,
}
"""The endpoint of a path, its dialect the caller's. What is passed through has other paths: see `passthrough`."""
ENDPOINT_NAMES = {endpoint: endpoint.name.lower() for endpoint in Endpoint}
"""What an endpoint is called in logs, metrics and the ledger."""
LONGEST_ID = 128

KEPT_HEADERS = 4096  # rendered heads, by what is the same in many answers
_ANTHROPIC = frozenset({Endpoint.MESSAGES, Endpoint.COUNT_TOKENS})
_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d{1,15})')
_UNPRINTABLE = re.compile(rb"[^\x20-\x7e]")
_OWN = b"x-request-id: %b\r\nx-infermux-latency-ms: %d\r\nx-infermux-attempts: %d\r\n"
_USED = (
    b"x-infermux-prompt-tokens: %d\r\n",
    b"x-infermux-completion-tokens: %d\r\n",
    b"x-infermux-cost: %.8f\r\n",
)
_Alike = tuple[str, str, str, str, bytes, int]
"""What the heads of many answers have in common, and how much is known of what they used: see `_form`."""


def is_inference(method: bytes, path: bytes) -> bool:
    """Whether a request is this handler's."""
    return method == b"POST" and (path in ROUTES or path.startswith(PREFIXES))


@attrs.define(eq=False, repr=False)
class Inference:
    """Answers inference requests, by `rules`. `in_flight` counts those under way, `draining` refuses new ones.

    `leaving`: it soon will, and who looks whether to send requests here is told so.
    `keys` are those of `auth.mode: keys`; with `sampler` every request has a place in a trace; `caching` keeps answers.
    `running` has those that are served, in the order of their coming; `decisions` what was decided of the last ones
    that have ended.
    """

    fleet: Fleet
    rules: Rules
    keys: Keys | None = None
    sampler: Sampler | None = None
    caching: Caching | None = None
    in_flight: int = 0
    leaving: bool = False
    draining: bool = False
    running: dict[Draft, None] = attrs.field(factory=dict[Draft, None])
    decisions: Decisions = attrs.field(factory=Decisions)
    _models: ModelRule = attrs.field(factory=ModelRule)
    _ids: itertools.count[int] = attrs.field(factory=itertools.count)
    _id_prefix: bytes = attrs.field(factory=lambda: b"req-" + secrets.token_hex(6).encode() + b"-")
    _rendered: dict[_Alike, bytes] = attrs.field(factory=dict["_Alike", bytes])

    def __repr__(self) -> str:
        return f"Inference({self.in_flight} in flight)"

    async def __call__(self, exchange: Exchange) -> None:
        """Serve one exchange. Raises CallerLeft; everything else becomes an answer."""
        head = exchange.head
        endpoint = ROUTES.get(head.path)
        fleet = self.fleet
        name = ENDPOINT_NAMES[endpoint] if endpoint is not None else passed_name(head.path)
        draft = Draft(fleet.journal, self._request_id(head), name, NOBODY, fleet.now())  # by position, as a record
        overheard = Overheard(exchange) if self.rules.config.log.bodies else None
        exchange = exchange if overheard is None else overheard
        draft.trace, carried = place_of(head, self.sampler)
        self.in_flight += 1
        self.running[draft] = None
        permit: Permit | None = None
        try:
            found = self._admit(head)
            draft.who = found.who
            run = draft.run = await self._received(exchange, endpoint, draft, found, carried)
            run.killed = draft.killed
            if found.key is not None:
                permit = self._permit(found.key, run) if fleet.supply is None else await self._supplied(found.key, run)
            if self.caching is not None:
                await self.caching.serve(exchange, run, draft, self._served)
            else:
                await self._served(exchange, run, draft)
            draft.ended_well()
        except InfermuxError as error:
            await self._refuse(exchange, error, draft)
        except CallerLeft:
            draft.left(stalled=exchange.stalled)
            raise
        except Exception:
            log.exception("request %s crashed", draft.id.decode("latin-1"))
            await self._refuse(exchange, _crashed(), draft)
        finally:
            self.in_flight -= 1
            del self.running[draft]
            now = fleet.now()
            if draft.run is not None:
                draft.run.close()
                if permit is not None:
                    permit.release(draft.run.trail, now)
                if draft.run.call.upload is not None:
                    draft.run.call.upload.close()
            record = draft.close(shutting_down=exchange.shutting_down and not exchange.left, now=now)
            if record is not None:
                self.decisions.note(record, draft.run)
            if overheard is not None:
                overheard.tell(draft.id, self.rules.config)

    # In.

    def _admit(self, head: Head) -> Admitted:
        rules = self.rules
        if head.passed is not rules:
            if rules.host_ruled:
                rules.host_rule.check(head)
            found = admitted(head, rules.config, self.keys)
            self._check_type(head)
            head.passed = rules
        else:
            found = admitted(head, rules.config, self.keys)
        if self.draining:
            raise ShuttingDown("the router is shutting down; send the request to another one", retry_after=1)
        if self.in_flight > rules.config.limits.max_concurrent_requests:
            raise Overloaded(
                "the router serves as many requests as it may (limits.max_concurrent_requests)", retry_after=1
            )
        return found

    def _check_type(self, head: Head) -> None:
        content_type = head.get(b"content-type")
        if content_type is not None and b"json" not in content_type.lower() and head.path in ROUTES:
            raise UnsupportedMediaType("the body must be JSON, sent with `Content-Type: application/json`")

    def _permit(self, key: Known, run: Run) -> Permit:
        """What a request with a key needs before anything is sent. Raises ModelNotAllowed, RateLimited."""
        assert self.keys is not None
        self._models.check(key.stored, run.want, self.fleet.catalogue)
        return self.keys.admit(key, run.want, run.started_at)

    async def _supplied(self, key: Known, run: Run) -> Permit:
        """`_permit` where nodes share the limits: while this one has nothing left, what it asked for is to come."""
        assert self.keys is not None
        self._models.check(key.stored, run.want, self.fleet.catalogue)
        now, supply = run.started_at, self.fleet.supply
        deadline = now + REQUEST_WAITS
        while True:
            try:
                return self.keys.admit(key, run.want, now)
            except RateLimited:
                if supply is None or not await supply.coming(deadline):
                    raise
            now = self.fleet.now()

    async def _received(
        self, exchange: Exchange, endpoint: Endpoint | None, draft: Draft, found: Admitted, carried: Carried
    ) -> Run:
        """The request, with as much of its body as it takes to route it."""
        fleet, rules = self.fleet, self.rules
        try:
            if endpoint is None:
                return await passed(fleet, rules, exchange, found=found, carried=carried)
            body = await exchange.body()
        finally:
            now = fleet.now()
            draft.received = now - draft.began
        return read(fleet, rules, exchange, endpoint=endpoint, body=body, found=found, carried=carried, now=now)

    def _request_id(self, head: Head) -> bytes:
        given = None if head.is_plain else head.get(b"x-request-id")
        if given and len(given) <= LONGEST_ID and given.isascii() and given.decode().isprintable():
            return given
        return self._id_prefix + b"%x" % next(self._ids)

    # Out.

    async def _served(self, exchange: Exchange, run: Run, draft: Draft) -> None:
        """Have it answered by a provider."""
        opening: Opening | None = None
        if run.call.stream:
            opening = Opening(self, exchange, run, draft)
            answer = await self._begun(exchange, run, opening)
        else:
            answer = await run.begin()
        if isinstance(answer, Answer):
            draft.status = answer.status
            await exchange.respond(answer.status, self._whole(run, answer, draft.id), answer.body)
        elif answer is not None:
            opening = opening or Opening(self, exchange, run, draft)
            try:
                # Called from here: a method between would be a frame of each open stream.
                await run.pump(opening.open(answer))
            except CallerLeft:
                raise  # from a variable it would hold its own frame, and by that all of this, for the collector
            except Exception as error:
                await self._ended_badly(exchange, run, opening, error)
            else:
                await exchange.finish(_trailers(exchange.head, run))

    async def _begun(self, exchange: Exchange, run: Run, opening: Opening) -> Answer | Stream | None:
        """The answer to a request for a stream, which may begin before its first content; None: it was broken off."""
        try:
            return await run.begin(opening.commit)
        except InfermuxError as error:
            if not opening.is_open:
                raise
            await self._break_off(exchange, run, opening, error)
            return None

    def _whole(self, run: Run, answer: Answer, request_id: bytes) -> HeaderLines:
        """The header lines of a whole answer."""
        usage = run.usage
        used: tuple[float, ...] = ()
        if usage is not None:
            dollars = None if (lease := run.lease) is None else lease.cost
            tokens = usage.prompt_tokens, usage.completion_tokens
            used = tokens if dollars is None else (*tokens, dollars)
        lines = self._headers(run, answer, request_id, used)
        return HeaderLines(lines + b"x-infermux-estimated: true\r\n" if answer.estimated else lines)

    async def _ended_badly(self, exchange: Exchange, run: Run, opening: Opening, error: Exception) -> None:
        """Tell the caller in its stream."""
        if isinstance(error, InfermuxError):
            await self._break_off(exchange, run, opening, error)
            return
        log.error("request %s crashed while streaming", opening.draft.id.decode("latin-1"), exc_info=error)
        opening.draft.broke(_crashed())
        exchange.send_now(_told_in_band(_crashed(), exchange.head, opening))
        await exchange.finish(_trailers(exchange.head, run))

    async def _break_off(self, exchange: Exchange, run: Run, opening: Opening, error: InfermuxError) -> None:
        """Tell the caller in its stream that there is no more, where that can be told."""
        opening.draft.broke(error)
        if run.call.path and not opening.is_events:
            exchange.abort()  # in the middle of a picture or of speech nothing can be told
            return
        exchange.send_now(_told_in_band(error, exchange.head, opening))
        await exchange.finish(_trailers(exchange.head, run))

    def start_stream(self, exchange: Exchange, run: Run, stream: Stream, request_id: bytes) -> None:
        lines = self._headers(run, stream, request_id)
        if run.rescue is not None and takes_trailers(exchange.head):
            lines += b"trailer: x-infermux-rescued\r\n"
        exchange.start(200, HeaderLines(lines + b"cache-control: no-cache\r\n"))

    def _headers(self, run: Run, answer: Answer | Stream, request_id: bytes, used: tuple[float, ...] = ()) -> bytes:
        """`used`: tokens of the prompt and of the answer, US dollars, as far as they are known."""
        lease, plan = run.lease, run.plan
        assert lease is not None
        alike = (lease.provider, lease.model, plan.strategy, plan.group, answer.content_type, len(used))
        form = self._rendered.get(alike)
        if form is None:
            if len(self._rendered) >= KEPT_HEADERS:
                self._rendered.clear()
            form = self._rendered[alike] = _form(alike)
        waited = int((self.fleet.now() - run.started_at) * 1000)  # of a float the formatting costs an exception
        lines = form % (request_id, waited, run.attempts, *used)
        if answer.dropped:
            lines += b"x-infermux-dropped: %b\r\n" % _UNPRINTABLE.sub(b"?", ", ".join(answer.dropped).encode())
        if run.account is not None and run.account.exceeded:
            lines += b"x-infermux-budget: %b\r\n" % _UNPRINTABLE.sub(b"?", _exceeded(run.account.exceeded))
        if run.call.endpoint in _ANTHROPIC:
            lines += b"request-id: %b\r\n" % request_id  # where Anthropic's SDK looks for it
        return lines

    async def _refuse(self, exchange: Exchange, error: InfermuxError, draft: Draft) -> None:
        draft.refused(error)
        headers, body = error_answer(error, shape_of(exchange.head.path), request_id=draft.id)
        attempts = b"%d" % (draft.run.attempts if draft.run is not None else 0)
        extra = [(b"x-request-id", draft.id), (b"x-infermux-attempts", attempts)]
        await exchange.respond(error.status, [*headers, *extra], body)


def _form(alike: _Alike) -> bytes:
    """The header lines of answers that are alike, to be formatted with what is each one's own.

    A model's name may come from a caller: it is made printable.
    """
    provider, model, strategy, group, content_type, used = alike
    lines = [(b"content-type", content_type), (b"x-infermux-provider", provider.encode())]
    lines += [(b"x-infermux-model", model.encode()), (b"x-infermux-strategy", strategy.encode())]
    if group:
        lines.append((b"x-infermux-route-group", group.encode()))
    same = b"".join([b"%b: %b\r\n" % (name, _UNPRINTABLE.sub(b"?", value)) for name, value in lines])
    return same.replace(b"%", b"%%") + _OWN + b"".join(_USED[:used])


@attrs.define(eq=False)
class Opening:
    """A stream's answer, which begins once: with its first content, or before it when that takes too long."""

    inference: Inference
    exchange: Exchange
    run: Run
    draft: Draft
    sink: Sink = attrs.field(init=False)
    is_open: bool = False
    is_events: bool = False

    def __attrs_post_init__(self) -> None:
        self.sink = Numbered(self.exchange) if self.run.call.endpoint is Endpoint.RESPONSES else self.exchange

    def open(self, stream: Stream) -> Sink:
        """The way out, its head sent."""
        if not self.is_open:
            self.is_open = True
            self.is_events = stream.content_type.lower().startswith(b"text/event-stream")
            self.draft.status = 200
            self.inference.start_stream(self.exchange, self.run, stream, self.draft.id)
        return self.sink

    def commit(self, stream: Stream, data: bytes) -> None:
        """Begin now, with start-up events."""
        self.open(stream).send_now(data)


@attrs.define(eq=False)
class Numbered:
    """The sink of a response's stream: it knows the number of the last event, which an error's must follow."""

    exchange: Exchange
    _last: bytes = b""

    def send_now(self, data: bytes) -> bool:
        self._last = data
        return self.exchange.send_now(data)

    async def flush(self) -> None:
        await self.exchange.flush()

    @property
    def next_number(self) -> int:
        numbers = _NUMBER.findall(self._last)
        return int(numbers[-1]) + 1 if numbers else 0


def takes_trailers(head: Head) -> bool:
    """Whether the caller said that it reads fields after the body (`TE: trailers`, RFC 9110, 10.1.4)."""
    said = head.get(b"te")
    return said is not None and b"trailers" in [word.strip().lower() for word in said.split(b",")]


def _trailers(head: Head, run: Run) -> Headers:
    """Who went on with the answer, and who broke off before: `b; from=a; attempts=2`."""
    if not run.rescues or not takes_trailers(head):
        return ()
    last = run.rescues[-1]
    broken = ",".join(rescued.provider for rescued in run.rescues)
    return [(b"x-infermux-rescued", f"{last.by}; from={broken}; attempts={run.attempts}".encode())]


def _told_in_band(error: InfermuxError, head: Head, opening: Opening) -> bytes:
    number = opening.sink.next_number if isinstance(opening.sink, Numbered) else 0
    return error_event(error, shape_of(head.path), sequence=number, request_id=opening.draft.id)


def _exceeded(budgets: tuple[str, ...]) -> bytes:
    return ", ".join(f"{each} exceeded" for each in budgets).encode()


def _crashed() -> InternalError:
    return InternalError("something went wrong in the router; its log has the details")
