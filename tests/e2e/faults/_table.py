"""The wall: what each upstream does, and what its caller must then see. Data only; all times are real figures, seconds.

`SCALE` is how much faster everything goes over sockets: the times of the upstreams, the timeouts, the waits. The text
of an answer is `SAID`; whoever sees no error has all of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from tests.mocks.anthropic_answers import Reply as Claude
from tests.mocks.anthropic_answers import Usage
from tests.mocks.openai_answers import Reply

SCALE = 0.05
RESCUES = (False, True)
TOKENS = ("w00", *(f" w{number:02}" for number in range(1, 60)))
SAID = "".join(TOKENS)
CUT_AT = 40
PART = "".join(TOKENS[:CUT_AT])
USAGE = (20, 60)

GOOD = Reply(tokens=TOKENS, interval=0.01, usage=USAGE, continues=True)
"""60 tokens in 0.6 s; or those that are missing, when it is asked to go on."""
STREAM_SECONDS = 0.6
SLACK = 0.4  # over the time that is expected: jitter of backoff, sweeps
LATE = 5.0  # seconds that a busy machine may add over sockets; how long things take is held on the virtual clock


def but(**more: Any) -> Reply:
    return attrs.evolve(GOOD, **more)


def refusal(message: str, code: str, kind: str = "invalid_request_error") -> Reply:
    error = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Reply(status=400, body=json.dumps(error).encode())


def limited(seconds: float) -> Reply:
    """A 429. `Retry-After` knows whole seconds only; over sockets it is told in milliseconds."""
    return Reply(status=429, headers=(("Retry-After", str(seconds)),))


TOO_LONG = refusal("This model's maximum context length is 8192 tokens.", "context_length_exceeded")
FILTERED = refusal("The response was filtered due to the prompt triggering our policy.", "content_filter")


@attrs.frozen(kw_only=True)
class Upstream:
    """One provider of a case: it answers `script`, then `rest`. `settings` are its own, durations in seconds."""

    script: tuple[Reply, ...] = ()
    rest: Reply = GOOD
    settings: Mapping[str, float] = attrs.field(factory=dict[str, float])
    claude: bool = False
    """It speaks Anthropic's dialect, where an answer may begin with what it is given."""
    longer: bool = False
    """It does not serve the case's model but the one that is declared for prompts that are too long."""


@attrs.frozen(kw_only=True)
class Saw:
    """What the caller sees: an error's `code` and `status` (200: in its stream), or the whole answer where None.

    `attempts` are those at each upstream, `seconds` the time it takes, `said` the text before the error.
    """

    code: str | None = None
    status: int = 200
    attempts: tuple[int, ...] = (1,)
    seconds: float = 0.0
    said: str = SAID
    retry_after: float | None = None


@attrs.frozen(kw_only=True)
class Case:
    """`whole` and `stream`: what is seen by who asks for either; None: there is nothing to see.

    `rescued`: the stream with `rescue: continue`, where that is another one.
    """

    name: str
    providers: tuple[Upstream, ...]
    whole: Saw | None
    stream: Saw
    rescued: Saw | None = None

    def expected(self, *, stream: bool, rescue: bool) -> Saw | None:
        if not stream:
            return self.whole
        return self.rescued or self.stream if rescue else self.stream

    @property
    def slug(self) -> str:
        return "".join(letter if letter.isalnum() else "-" for letter in self.name.lower())


def error(code: str, status: int, *attempts: int, seconds: float = 0.0, said: str = "", **more: Any) -> Saw:
    return Saw(code=code, status=status, attempts=attempts or (1,), seconds=seconds, said=said, **more)


def whole(*attempts: int, seconds: float = 0.0) -> Saw:
    return Saw(attempts=attempts or (1,), seconds=seconds)


def streamed(*attempts: int, seconds: float = 0.0) -> Saw:
    return Saw(attempts=attempts or (1,), seconds=seconds + STREAM_SECONDS)


def broken(code: str, *attempts: int, seconds: float = 0.4) -> Saw:
    """The first 40 tokens, then an error in the stream."""
    return error(code, 200, *attempts, seconds=seconds, said=PART)


ALONE = (1,)
QUICK = {"timeout": 10.0}
IMPATIENT = {"idle": 10.0}
SECOND = Upstream()


def alone(*script: Reply, rest: Reply = GOOD, **settings: float) -> tuple[Upstream, ...]:
    return (Upstream(script=script, rest=rest, settings=settings),)


def backed(*script: Reply, rest: Reply = GOOD, **settings: float) -> tuple[Upstream, ...]:
    """With a second provider of the same model."""
    return (Upstream(script=script, rest=rest, settings=settings), SECOND)


WALL: tuple[Case, ...] = (
    Case(name="no fault", providers=alone(), whole=whole(), stream=streamed()),
    Case(
        name="429 with Retry-After",
        providers=alone(limited(2)),
        whole=whole(2, seconds=2.0),
        stream=streamed(2, seconds=2.0),
    ),
    Case(
        name="429 for ever",
        providers=alone(rest=limited(30)),
        whole=error("rate_limited", 429, 1, retry_after=30),
        stream=error("rate_limited", 429, 1, retry_after=30),
    ),
    Case(
        name="429 for ever, and a second provider",
        providers=backed(rest=limited(30)),
        whole=whole(1, 1),
        stream=streamed(1, 1),
    ),
    Case(name="one 500", providers=alone(Reply(status=500)), whole=whole(2), stream=streamed(2)),
    Case(
        name="503 for ever",
        providers=alone(rest=Reply(status=503)),
        whole=error("upstream_error", 502, 2),
        stream=error("upstream_error", 502, 2),
    ),
    Case(
        name="503 for ever, and a second provider",
        providers=backed(rest=Reply(status=503)),
        whole=whole(1, 1),
        stream=streamed(1, 1),
    ),
    Case(
        name="TCP reset",
        providers=alone(rest=Reply(reset=True)),
        whole=error("upstream_error", 502, 1),
        stream=error("upstream_error", 502, 1),
    ),
    Case(
        name="TCP reset, and a second provider",
        providers=backed(rest=Reply(reset=True)),
        whole=whole(1, 1),
        stream=streamed(1, 1),
    ),
    Case(
        name="silence",
        providers=alone(rest=Reply(hang=True), **QUICK),
        whole=error("total_timeout", 504, 1, seconds=10.0),
        stream=error("first_token_timeout", 504, 1, seconds=10.0),
    ),
    Case(
        name="silence, and a second provider",
        providers=backed(rest=Reply(hang=True), **QUICK),
        whole=whole(1, 1, seconds=10.0),
        stream=streamed(1, 1, seconds=10.0),
    ),
    Case(
        name="first token after 20 s",
        providers=alone(rest=but(delay=20.0)),
        whole=whole(1, seconds=20.0),
        stream=streamed(1, seconds=20.0),
    ),
    Case(
        name="first token after 20 s, of which 10 are allowed, and a second provider",
        providers=backed(rest=but(delay=20.0), **QUICK),
        whole=whole(1, 1, seconds=10.0),
        stream=streamed(1, 1, seconds=10.0),
    ),
    Case(
        name="a role at once, the first token after 20 s",
        providers=alone(rest=but(stall_after=0, stall_for=20.0)),
        whole=whole(),
        stream=streamed(1, seconds=20.0),
    ),
    Case(
        name="a cut at token 40 of 60, and a second provider",
        providers=backed(rest=but(cut_after=CUT_AT)),
        whole=whole(1, 1),
        stream=broken("upstream_error", 1, 0),
        rescued=streamed(1, 1),
    ),
    Case(
        name="a reset at token 40 of 60, and a second provider",
        providers=backed(rest=but(reset_after=CUT_AT)),
        whole=whole(1, 1),
        stream=broken("upstream_error", 1, 0),
        rescued=streamed(1, 1),
    ),
    Case(
        name="an error in the stream at token 40 of 60, and a second provider",
        providers=backed(rest=but(error_after=CUT_AT)),
        whole=whole(1, 0),
        stream=broken("upstream_error", 1, 0),
        rescued=streamed(1, 1),
    ),
    Case(
        name="a 30 s stall",
        providers=alone(rest=but(stall_after=CUT_AT, stall_for=30.0)),
        whole=whole(),
        stream=streamed(1, seconds=30.0),
    ),
    Case(
        name="a 30 s stall, of which 10 are allowed, and a second provider",
        providers=backed(rest=but(stall_after=CUT_AT, stall_for=30.0), **IMPATIENT),
        whole=whole(1, 0),
        stream=broken("idle_timeout", 1, 0, seconds=10.4),
        rescued=streamed(1, 1, seconds=10.0),
    ),
    Case(
        name="one malformed chunk",
        providers=alone(rest=but(malformed_after=CUT_AT)),
        whole=whole(),
        stream=streamed(),
    ),
    Case(
        name="no [DONE], but a finish reason",
        providers=alone(rest=but(done=False)),
        whole=whole(),
        stream=streamed(),
    ),
    Case(
        name="no [DONE] and no finish reason, and a second provider",
        providers=backed(rest=but(tokens=TOKENS[:CUT_AT], finish=False, done=False)),
        whole=None,  # a whole answer has its finish reason
        stream=broken("upstream_error", 1, 0),
        rescued=streamed(1, 1),
    ),
    Case(
        name="context length",
        providers=backed(rest=TOO_LONG),
        whole=error("context_length_exceeded", 400, 1, 0),
        stream=error("context_length_exceeded", 400, 1, 0),
    ),
    Case(
        name="context length, and a model declared for it",
        providers=(Upstream(rest=TOO_LONG), Upstream(longer=True)),
        whole=whole(1, 1),
        stream=streamed(1, 1),
    ),
    Case(
        name="content filter, and a second provider",
        providers=backed(rest=FILTERED),
        whole=error("content_filter", 400, 1, 0),
        stream=error("content_filter", 400, 1, 0),
    ),
    Case(
        name="a cut at token 40 of 60, and a second provider that takes assistant prefill",
        providers=(Upstream(rest=but(cut_after=CUT_AT)), Upstream(claude=True)),
        whole=whole(1, 1),
        stream=broken("upstream_error", 1, 0),
        rescued=streamed(1, 1),
    ),
    Case(
        name="a cut at token 40 of 60, and a second provider that refuses assistant prefill",
        providers=(Upstream(rest=but(cut_after=CUT_AT)), Upstream(rest=but(refuses_prefill=True), claude=True)),
        whole=whole(1, 1),
        stream=broken("upstream_error", 1, 0),
        rescued=streamed(1, 2),  # asked to go on after all
    ),
)


def scaled(reply: Reply, scale: float) -> Reply:
    """The same reply in another time."""
    if scale == 1.0:
        return reply
    headers = tuple(
        ("retry-after-ms", str(int(float(value) * 1000 * scale))) if name == "Retry-After" else (name, value)
        for name, value in reply.headers
    )
    return attrs.evolve(
        reply,
        delay=reply.delay * scale,
        interval=reply.interval * scale,
        stall_for=reply.stall_for * scale,
        headers=headers,
    )


def as_claude(reply: Reply) -> Claude:
    """The same of a provider that speaks Anthropic's dialect, as far as the wall has it."""
    return Claude(
        delay=reply.delay,
        interval=reply.interval,
        tokens=reply.tokens,
        usage=Usage(input_tokens=reply.usage[0], output_tokens=reply.usage[1]),
        continues=reply.continues,
        refuses_prefill=reply.refuses_prefill,
    )
