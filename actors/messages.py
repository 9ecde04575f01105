"""What the router and the provider actors say to each other, and the values that travel along.

Hot values are msgspec Structs: the same frozen, slotted semantics as attrs classes at a fifth of the construction cost.
"""

from __future__ import annotations

import enum

import msgspec

from infermux.errors import FailureKind
from infermux.providers.interface import Endpoint, Usage
from infermux.providers.peek import Preferences

from .homes import Home
from .identity import NOBODY, Identity


class Health(enum.Enum):
    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    CONFIG_ERROR = "config_error"
    UNCHECKED = "unchecked"  # health checks disabled: always passes


class Circuit(enum.Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Reason(enum.Enum):
    """Why a provider is not routable. Where only limits are in the way the caller gets 429, otherwise 503."""

    STARTING = "starting"  # its first probe has not ended
    UNHEALTHY = "unhealthy"
    CONFIG_ERROR = "config_error"
    CIRCUIT_OPEN = "circuit_open"
    PROBING = "half_open_probe_in_flight"
    COOLING_DOWN = "cooling_down"  # after a 429
    REQUEST_LIMIT = "requests_per_minute"
    TOKEN_LIMIT = "tokens_per_minute"
    CONCURRENCY = "max_concurrent"
    SLOW_START = "slow_start"  # it has just recovered
    DISABLED = "disabled"
    DRAINING = "draining"
    CLAIMED = "queue"  # others wait for it already
    CRASHED = "crashed"
    MODEL_SET_ASIDE = "model_not_found"  # this provider and model, for a minute

    @property
    def is_limit(self) -> bool:
        return self in _LIMITS


_LIMITS = frozenset(
    {
        Reason.COOLING_DOWN,
        Reason.REQUEST_LIMIT,
        Reason.TOKEN_LIMIT,
        Reason.CONCURRENCY,
        Reason.SLOW_START,
        Reason.CLAIMED,
    }
)


class Priority(enum.IntEnum):
    """The class of a request; where requests wait for a provider, the smaller goes first."""

    INTERACTIVE = 0
    DEFAULT = 1
    BATCH = 2


class Ewma(msgspec.Struct, frozen=True):
    """`value` in seconds over `samples` successes."""

    value: float = 0.0
    samples: int = 0


class Standing(msgspec.Struct, frozen=True):
    """What the router reads of a provider: published by its actor whenever it changes.

    `blocked_until` on trio's clock: 0 routable, inf until something happens, else the time that cures it.
    `penalty` is the decaying weight of recent failures as of `penalty_at` (seconds, added to the EWMA in orderings).
    `seen` is the number of the last Acquire the actor has handled: what the router sent beyond it is in transit, unless
    the actor crashed meanwhile, which counts up `life`.
    `response` and `first_token` are the provider's averages, `model_response` and `model_first_token` those by model.
    """

    reason: Reason | None = Reason.STARTING
    blocked_until: float = float("inf")
    health: Health = Health.UNKNOWN
    circuit: Circuit = Circuit.CLOSED
    in_flight: int = 0
    seen: int = 0
    life: int = 0
    exploring: bool = False
    penalty: float = 0.0
    penalty_at: float = 0.0
    response: Ewma = Ewma()
    first_token: Ewma = Ewma()
    model_response: dict[str, Ewma] = {}
    model_first_token: dict[str, Ewma] = {}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended: told once per lease.

    `failure` None and `cancelled` False: success. `latency` and `first_token` in seconds since the lease. `usage` None:
    unknown.
    `sent` False: the request never left (nothing is charged). `cancelled`: the caller left, or the router gave up
    the attempt for a reason of its own; neither success nor failure.
    """

    failure: FailureKind | None = None
    cancelled: bool = False
    sent: bool = True
    status: int | None = None
    latency: float = 0.0
    first_token: float | None = None
    usage: Usage | None = None
    retry_after: float | None = None
    malformed_events: int = 0  # that were left out of the answer


class Want(msgspec.Struct, frozen=True):
    """One request as the router sees it. `affinity` is the sticky key, `max_tokens` None when the caller gave none.

    `images` and `tools`: it has some, which is only looked for where a provider says that its models take none.
    `who` asks, as far as anybody said. `home` is who keeps `previous_response`, the response it goes on from, where
    that is known: nobody else can answer.
    """

    model: str
    endpoint: Endpoint = Endpoint.CHAT
    prompt_tokens: int = 0
    max_tokens: int | None = None
    affinity: bytes = b""
    preferences: Preferences | None = None
    priority: Priority = Priority.DEFAULT
    who: Identity = NOBODY
    previous_response: str | None = None
    home: Home | None = None
    images: bool = False
    tools: bool = False

    def __repr__(self) -> str:
        """Without the affinity, which may be what a caller said."""
        return f"Want({self.model!r}, {self.endpoint.name}, caller={self.who.caller!r}, {self.prompt_tokens} tokens)"

    @property
    def home_key(self) -> int | None:
        """The place of the credential that keeps the response before; None: unknown, or its provider has one alone."""
        return None if self.home is None else self.home.key
