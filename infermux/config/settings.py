"""The shapes and defaults of `infermux.yml`, one frozen class per section. Durations are seconds, sizes bytes.

These are plain values: reading a file, interpolation and all checks live beside this module.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from infermux.secret import Secret


class AuthMode(enum.Enum):
    OPEN = "open"
    STATIC_KEY = "static_key"
    PASSTHROUGH = "passthrough"
    KEYS = "keys"

    @property
    def lets_anybody_in(self) -> bool:
        """Whether nothing is asked for that a stranger does not have."""
        return self is AuthMode.OPEN or self is AuthMode.PASSTHROUGH


class ProbeMethod(enum.Enum):
    AUTO = "auto"
    GENERATE = "generate"
    MODELS = "models"
    NONE = "none"


def _frozen_dict() -> Any:
    return attrs.field(factory=dict[str, Any])


@attrs.frozen(kw_only=True)
class LogSettings:
    level: str = "info"
    format: str = "text"
    timestamps: bool = True
    bodies: bool = False


@attrs.frozen(kw_only=True)
class TlsSettings:
    """The server's own certificate."""

    cert_file: str | None = None
    key_file: str | None = None


@attrs.frozen(kw_only=True)
class AuthSettings:
    mode: AuthMode = AuthMode.OPEN
    key: Secret | None = None

    @property
    def is_keyed(self) -> bool:
        """Whether callers come with keys that the router handed out, which may have budgets of their own."""
        return self.mode is AuthMode.KEYS


@attrs.frozen(kw_only=True)
class LimitSettings:
    max_body_bytes: int = 32 * 1024 * 1024
    max_concurrent_requests: int = 10_000
    header_timeout: float = 10.0
    write_timeout: float = 60.0


@attrs.frozen(kw_only=True)
class Timeouts:
    """Of one attempt. `first_token` None: the provider's `timeout`. `total` None: no bound."""

    connect: float = 5.0
    first_token: float | None = None
    idle: float = 60.0
    total: float | None = None


@attrs.frozen(kw_only=True)
class RateLimits:
    """`max_concurrent` "auto": found out from latency and refusals."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent: int | Literal["auto"] | None = None


@attrs.frozen(kw_only=True)
class HealthCheck:
    interval: float = 60.0
    timeout: float = 10.0
    disabled: bool = False
    method: ProbeMethod = ProbeMethod.AUTO
    model: str | None = None


@attrs.frozen(kw_only=True)
class CircuitBreaker:
    error_rate_threshold: float = 0.5
    consecutive_failures: int = 5
    latency_p95_ms: float | None = None
    window_seconds: float = 60.0
    min_requests: int = 10
    recovery_window: float = 30.0
    probe_timeout: float = 5.0


@attrs.frozen(kw_only=True)
class ClientTls:
    """How the provider's own certificate is checked. Anything but the defaults selects the httpx transport."""

    ca_file: str | None = None
    verify: bool = True


@attrs.frozen(kw_only=True)
class Simulate:
    """A simulated provider: `first_token` seconds, then `tokens_per_second`; `failure_rate` 0..1; `script`: faults."""

    first_token: float = 0.2
    tokens_per_second: float = 50.0
    failure_rate: float = 0.0
    script: tuple[Mapping[str, Any], ...] = ()


@attrs.frozen(kw_only=True)
class ProviderSettings:
    """One entry of `providers`. `circuit_breaker` has the global section's values with this provider's overrides.

    `borrows`: it has no credential of its own and is called with the caller's (`auth.mode: passthrough`).
    """

    name: str
    type: str
    api_key: Secret | None = None
    api_keys: tuple[Secret, ...] = ()
    base_url: str | None = None
    timeout: float = 60.0
    timeouts: Timeouts = attrs.field(factory=Timeouts)
    models: tuple[str, ...] | None = None
    model_aliases: Mapping[str, str] = _frozen_dict()
    weight: float = 1.0
    tags: tuple[str, ...] = ()
    rate_limits: RateLimits = attrs.field(factory=RateLimits)
    health_check: HealthCheck = attrs.field(factory=HealthCheck)
    circuit_breaker: CircuitBreaker = attrs.field(factory=CircuitBreaker)
    azure_deployment: str | None = None
    azure_api_version: str | None = None
    region: str | None = None
    default_max_tokens: int = 4096
    fetch_images: bool = False
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
    extra_body: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False)
    http2: bool = False
    proxy: str | None = attrs.field(default=None, repr=False)
    tls: ClientTls = attrs.field(factory=ClientTls)
    simulate: Simulate = attrs.field(factory=Simulate)
    command: tuple[str, ...] | None = None
    env: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
    cwd: str | None = None
    strict: bool = False
    borrows: bool = False

    @property
    def keys(self) -> tuple[Secret, ...]:
        """Every credential, `api_key` or `api_keys`; empty: it takes none."""
        return self.api_keys or (() if self.api_key is None else (self.api_key,))

    @property
    def first_token_timeout(self) -> float:
        """Seconds to the first token of a stream, or to the whole answer when not streaming."""
        return self.timeout if self.timeouts.first_token is None else self.timeouts.first_token


@attrs.frozen(kw_only=True)
class LeastLatency:
    ewma_decay: float = 0.1
    min_samples: int = 5
    measure: str = "response"


@attrs.frozen(kw_only=True)
class Sticky:
    key: str = "prefix"


@attrs.frozen(kw_only=True)
class Group:
    """A route group: the first one whose `models` (globs) match sets strategy and candidates.

    `strategy` None: the global one. `providers` None: all that serve the model. `cache`: its answers may be kept.
    """

    name: str
    models: tuple[str, ...]
    strategy: str | None = None
    providers: tuple[str, ...] | None = None
    cache: bool = False


@attrs.frozen(kw_only=True)
class Routing:
    strategy: str = "round_robin"
    default_model: str | None = None
    aliases: str = "after"
    least_latency: LeastLatency = attrs.field(factory=LeastLatency)
    sticky: Sticky = attrs.field(factory=Sticky)
    fallbacks: Mapping[str, tuple[str, ...]] = _frozen_dict()
    context_fallbacks: Mapping[str, tuple[str, ...]] = _frozen_dict()
    groups: tuple[Group, ...] = ()


@attrs.frozen(kw_only=True)
class Price:
    """US dollars per million tokens, and `per_request` dollars for each answer whatever its length.

    None is as `input_per_million` (cached input, cache writes), and as `output_per_million` (reasoning). `above`, in
    ascending order: with a longer prompt these prices hold, for all of the request's tokens. `service_tiers`: where the
    provider's answer names one of them as the tier it was served in.
    """

    input_per_million: float = 0.0
    output_per_million: float = 0.0
    cached_input_per_million: float | None = None
    cache_write_per_million: float | None = None
    reasoning_per_million: float | None = None
    per_request: float = 0.0
    above: tuple[PriceStep, ...] = ()
    service_tiers: Mapping[str, Price] = _frozen_dict()


@attrs.frozen(kw_only=True)
class PriceStep:
    """The prices of a request whose prompt has more than `prompt_tokens`."""

    prompt_tokens: int
    price: Price


@attrs.frozen(kw_only=True)
class Backoff:
    """Waits between tries at the same provider, in seconds: full jitter over `base` doubling up to `max`."""

    base: float = 0.1
    max: float = 2.0


@attrs.frozen(kw_only=True)
class Retry:
    """`max_attempts` counts all attempts of a request, over providers and fallback models.

    `same_provider`: how often a request goes to the same provider again, within the budget: `budget_ratio` of the
    requests, and `budget_min_per_second` always. `wait_for_retry_after` in seconds.
    """

    max_attempts: int = 4
    same_provider: int = 1
    stay_when_model_changes: bool = True
    wait_for_retry_after: float = 3.0
    budget_ratio: float = 0.2
    budget_min_per_second: float = 3.0
    backoff: Backoff = attrs.field(factory=Backoff)


@attrs.frozen(kw_only=True)
class Hedge:
    """A second attempt where the first has no first token. `after`: a percentile such as "p95", or a duration."""

    enabled: bool = False
    after: str = "p95"
    max_extra_ratio: float = 0.05


@attrs.frozen(kw_only=True)
class Queue:
    """Waiting for a provider to become routable: at most `max_wait` seconds, `max_size` requests."""

    max_wait: float = 0.0
    max_size: int = 1000


@attrs.frozen(kw_only=True)
class Budget:
    """What one caller, key, tag (`NAME=VALUE`) or group may spend; none of the four: all of them together.

    "*" is everyone whom no other budget of that kind names, each for itself. `period` day, week or month, UTC. `hard`:
    requests are refused, otherwise they are only told. `unpriced` "refuse": a hard one takes no model without a price.
    """

    caller: str | None = None
    key: str | None = None
    tag: str | None = None
    group: str | None = None
    limit_usd: float = 0.0
    period: str = "month"
    hard: bool = True
    unpriced: str = "allow"


@attrs.frozen(kw_only=True)
class LedgerSettings:
    """`url` may hold a password. None: nothing is written down."""

    url: Secret | None = Secret("sqlite:///~/.infermux/ledger.db")


@attrs.frozen(kw_only=True)
class StateSettings:
    """What several nodes share. `url` may hold a password. None: nothing. `prefix` begins every key.

    `nodes`: as many there are taken to be until Redis has told how many there are.
    """

    url: Secret | None = None
    prefix: str = "infermux"
    nodes: int = 1


@attrs.frozen(kw_only=True)
class CacheSettings:
    """Exact answers, kept `ttl` seconds in at most `max_bytes` of memory. `shared`: who asks makes no difference."""

    enabled: bool = False
    ttl: float = 300.0
    max_bytes: int = 64 * 1024 * 1024
    shared: bool = False


@attrs.frozen(kw_only=True)
class TelemetrySettings:
    """`otlp_endpoint` is a collector's base URL; None: no traces."""

    otlp_endpoint: str | None = None


@attrs.frozen(kw_only=True)
class Config:
    """A whole, checked configuration. `source` is the file it came from.

    `providers_file` is the providers.json whose entries follow those of `source`, whether there is one by now or not.
    `workers` "auto": as many as there are processors.
    """

    listen: str = "127.0.0.1:8080"
    management_listen: str | None = None
    management_hosts: tuple[str, ...] = ()
    workers: int | Literal["auto"] = 1
    log: LogSettings = attrs.field(factory=LogSettings)
    tls: TlsSettings = attrs.field(factory=TlsSettings)
    auth: AuthSettings = attrs.field(factory=AuthSettings)
    limits: LimitSettings = attrs.field(factory=LimitSettings)
    shutdown_delay: float = 0.0
    shutdown_grace: float = 30.0
    providers: tuple[ProviderSettings, ...] = ()
    providers_file: str | None = None
    circuit_breaker: CircuitBreaker = attrs.field(factory=CircuitBreaker)
    routing: Routing = attrs.field(factory=Routing)
    retry: Retry = attrs.field(factory=Retry)
    rescue: str = "none"
    hedge: Hedge = attrs.field(factory=Hedge)
    queue: Queue = attrs.field(factory=Queue)
    pricing: Mapping[str, Mapping[str, Price]] = _frozen_dict()
    budgets: tuple[Budget, ...] = ()
    ledger: LedgerSettings = attrs.field(factory=LedgerSettings)
    state: StateSettings = attrs.field(factory=StateSettings)
    cache: CacheSettings = attrs.field(factory=CacheSettings)
    telemetry: TelemetrySettings = attrs.field(factory=TelemetrySettings)
    source: str | None = None
