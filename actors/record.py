"""What became of one request: made once, when it has ended, for whoever keeps books of it."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from infermux.errors import Fault
from infermux.providers.interface import Usage

from .identity import NOBODY, Identity

HIT, MISS, BYPASS = "hit", "miss", "bypass"
"""What the cache of answers did for a request: answered it, let it through, was told to keep out of it."""


class Ending(enum.Enum):
    """How a request ended. The values are words of logs, metrics and the ledger."""

    __hash__ = object.__hash__  # that of enum is Python code; records are counted by it

    OK = "ok"  # a whole answer
    BROKEN = "broken"  # a part of an answer, and the caller was told that it is one
    REFUSED = "refused"  # an error in place of an answer
    LEFT = "left"  # the caller went away


WORDS: Final = {ending: ending.value for ending in Ending}
"""The value of each. Asking a member for it, by enum's own property, costs as much as ten attributes do."""


class Tried(msgspec.Struct, frozen=True):
    """One attempt. Times in seconds since the request began; `first_token` None: it had none.

    `span` is its own in a trace, in hexadecimal, "" without one.
    `outcome` is "ok", "cancelled" or the value of a `FailureKind`. `cost` in US dollars, None: nobody knows the price.
    """

    provider: str
    model: str
    started: float
    ended: float
    first_token: float | None = None
    outcome: str = "ok"
    status: int | None = None
    usage: Usage | None = None
    cost: float | None = None
    probe: bool = False
    span: str = ""


class Place(msgspec.Struct, frozen=True):
    """A place in a distributed trace, in lower case hexadecimal digits as W3C's Trace Context has them.

    `span` is the request's own, `parent` that of the caller: "" where the trace begins here. Without spans of our own
    (`telemetry`) `span` is the caller's too. `sampled`: whoever decides about the trace wants it kept.
    """

    trace: str
    span: str
    parent: str = ""
    sampled: bool = True


class Record(msgspec.Struct, frozen=True):
    """One request, from its head to its last byte.

    `at` is the time it came, in seconds since 1970. `latency`, `first_token`, `waited` (queued, and in pauses before
    the same provider was asked again) and `overhead` (what is neither a provider's time nor waiting: our own) are
    seconds. `requested` is the model the caller named, `model` and `provider` those that answered, "" where none did.
    `usage` is of all attempts together, `cost` too: US dollars, None where the price of one of them is unknown.
    `trace` is its place in a distributed trace, where it has one.
    `status` is the HTTP status the caller got; 499 where it left before. `code` is the error's, "" without one, and
    `message` what it said, which may quote a provider: for whoever operates this router.
    """

    id: str
    at: float
    who: Identity = NOBODY
    endpoint: str = ""
    stream: bool = False
    requested: str = ""
    group: str = ""
    strategy: str = ""
    provider: str = ""
    model: str = ""
    attempts: tuple[Tried, ...] = ()
    rescues: int = 0
    ending: Ending = Ending.OK
    status: int = 200
    code: str = ""
    message: str = ""
    fault: Fault | None = None
    usage: Usage | None = None
    cost: float | None = None
    latency: float = 0.0
    first_token: float | None = None
    waited: float = 0.0
    overhead: float = 0.0
    trace: Place | None = None
    cache: str = ""  # `HIT`, which no provider answered and which costs nothing, `MISS` or `BYPASS`; "": not cached
