"""What infermux.yml may say: every key with its kind, its default and its meaning.

The defaults come from the classes of `settings`; the loader, the JSON Schema and the reference page are made from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from . import settings
from .kinds import Key, Kind, ListOf, MapOf, Raw, Section, one_of
from .scalars import (
    ADDRESS,
    AMOUNT,
    COUNT,
    COUNT_OR_ZERO,
    CREDENTIAL,
    DURATION,
    DURATION_OR_ZERO,
    ERROR_STATUS,
    FILE,
    HEADER_VALUE,
    HOST,
    LIMIT,
    NAME,
    POSITIVE,
    PROVIDER_TYPE,
    PROXY,
    SHARE,
    SHARE_ABOVE_ZERO,
    SIZE,
    STICKY_KEY,
    STRATEGY,
    SWITCH,
    TEXT,
    TEXTS,
    TRUE,
    URL,
)
from .values import header_name, name


@attrs.frozen(kw_only=True)
class Draft:
    """A provider before the global circuit breaker is put under its own."""

    settings: settings.ProviderSettings
    circuit_breaker: Mapping[str, Any]


def _draft(*, circuit_breaker: Mapping[str, Any] | None = None, **given: Any) -> Draft:
    return Draft(settings=settings.ProviderSettings(**given), circuit_breaker=circuit_breaker or {})


def _config(*, providers: tuple[Draft, ...] = (), **given: Any) -> settings.Config:
    breaker = given.get("circuit_breaker", settings.CircuitBreaker())
    ready = tuple(
        attrs.evolve(draft.settings, circuit_breaker=attrs.evolve(breaker, **draft.circuit_breaker))
        for draft in providers
    )
    return settings.Config(providers=ready, **given)


def _default(owner: type, key: str) -> Any:
    default = attrs.fields_dict(owner)[key].default
    factory = getattr(default, "factory", None)
    return default if factory is None else factory()


def _keys(owner: type, *rows: tuple[str, Kind, str]) -> tuple[Key, ...]:
    return tuple(Key(name=key, kind=kind, doc=doc, default=_default(owner, key)) for key, kind, doc in rows)


def _later(*rows: tuple[str, Kind, Any, str]) -> tuple[Key, ...]:
    return tuple(Key(name=key, kind=kind, doc=doc, default=default, later=True) for key, kind, default, doc in rows)


def _section(owner: type, keys: tuple[Key, ...]) -> Section:
    return Section(keys=keys, make=owner)


LOG = _section(
    settings.LogSettings,
    (
        *_keys(
            settings.LogSettings,
            ("level", one_of(("debug", "info", "warn", "error")), "What is logged: this level and above."),
            ("format", one_of(("text", "json")), "Lines for people, or one JSON object a line."),
            ("timestamps", SWITCH, "Whether each line begins with the time."),
        ),
        *_later(("bodies", SWITCH, False, "Log prompts and answers.")),
    ),
)
TLS = _section(
    settings.TlsSettings,
    _keys(
        settings.TlsSettings,
        ("cert_file", FILE.or_null(), "PEM file with the server's certificate chain. Needs `key_file`."),
        ("key_file", FILE.or_null(), "PEM file with its private key. Needs `cert_file`."),
    ),
)
AUTH = _section(
    settings.AuthSettings,
    _keys(
        settings.AuthSettings,
        (
            "mode",
            one_of(("open", "static_key"), settings.AuthMode, later=("passthrough", "keys")),
            "Who may call: anybody (`open`), or who sends `key` as `Authorization: Bearer` or `x-api-key`.",
        ),
        ("key", CREDENTIAL, "The key of `static_key`."),
    ),
)
LIMITS = _section(
    settings.LimitSettings,
    _keys(
        settings.LimitSettings,
        ("max_body_bytes", SIZE, "Largest request body; a larger one is answered 413."),
        ("max_concurrent_requests", COUNT, "Requests served at once; more are answered 503."),
        ("header_timeout", DURATION, "A caller must send its head, and each part of its body, within this time."),
        ("write_timeout", DURATION, "A caller that reads nothing of its answer for this long is cut off."),
    ),
)
CIRCUIT_BREAKER_KEYS = _keys(
    settings.CircuitBreaker,
    ("error_rate_threshold", SHARE_ABOVE_ZERO, "Opens when this share of the window's requests failed."),
    ("consecutive_failures", COUNT, "Opens after this many failures in a row."),
    ("latency_p95_ms", POSITIVE.or_null(), "Opens when the window's 95th percentile is above it, in ms; null: never."),
    ("window_seconds", POSITIVE, "Length of the sliding window, in seconds."),
    ("min_requests", COUNT, "Requests the window must hold before its error rate or latency counts."),
    ("recovery_window", DURATION, "How long it stays open before one live request is let through as a probe."),
    ("probe_timeout", DURATION, "Time that probe has until its first token."),
)
CIRCUIT_BREAKER = _section(settings.CircuitBreaker, CIRCUIT_BREAKER_KEYS)

TIMEOUTS = _section(
    settings.Timeouts,
    _keys(
        settings.Timeouts,
        ("connect", DURATION, "To connect, TLS included."),
        ("first_token", DURATION.or_null(), "To the first token of a stream; null: `timeout`."),
        ("idle", DURATION, "Between two events of a stream."),
        ("total", DURATION.or_null(), "For the whole attempt; null: no bound."),
    ),
)
RATE_LIMITS = _section(
    settings.RateLimits,
    _keys(
        settings.RateLimits,
        ("requests_per_minute", LIMIT, "Requests admitted a minute, refilled continuously; null: no limit."),
        ("tokens_per_minute", LIMIT, "Tokens admitted a minute, prompt and answer; null: no limit."),
        ("max_concurrent", LIMIT, "Requests in flight at once; null: no limit."),
    ),
)
HEALTH_CHECK = _section(
    settings.HealthCheck,
    _keys(
        settings.HealthCheck,
        ("interval", DURATION, "Time between two probes, with jitter."),
        ("timeout", DURATION, "A probe that takes longer has failed."),
        ("disabled", SWITCH, "Never probe; the provider counts as healthy."),
        (
            "method",
            one_of(("auto", "generate", "models", "none"), settings.ProbeMethod),
            "`generate` asks for one token, `models` lists the models, `none` does not probe; `auto`: `generate` where "
            "`models` is given, `models` for open-ended and ollama providers.",
        ),
        ("model", TEXT.or_null(), "Model of the probe; null: the first chat model of `models`."),
    ),
)
CLIENT_TLS = _section(
    settings.ClientTls,
    _keys(
        settings.ClientTls,
        ("ca_file", FILE.or_null(), "PEM file of the authorities to trust; null: those of the system."),
        ("verify", SWITCH, "Whether the provider's certificate is checked."),
    ),
)
STEP = Section(
    what="a mapping such as {status: 429}",
    keys=(
        Key(name="ok", kind=TRUE, doc="A normal answer."),
        Key(name="status", kind=ERROR_STATUS, doc="An error with this status."),
        Key(name="retry_after", kind=DURATION_OR_ZERO, doc="Its `Retry-After`."),
        Key(name="code", kind=TEXT, doc="Its code."),
        Key(name="message", kind=TEXT, doc="Its message."),
        Key(name="hang", kind=TRUE, doc="Silence."),
        Key(name="refuse", kind=TRUE, doc="No connection."),
        Key(name="malformed", kind=TRUE, doc="A 2xx that is no completion."),
        Key(name="cut_after", kind=COUNT_OR_ZERO, doc="The answer breaks off after so many tokens."),
        Key(name="stall_after", kind=COUNT_OR_ZERO, doc="The answer stands still after so many tokens."),
        Key(name="for", kind=DURATION_OR_ZERO, doc="How long it stands still; absent: for ever."),
        Key(name="first_token", kind=DURATION_OR_ZERO, doc="Time to the first token."),
        Key(name="tokens_per_second", kind=AMOUNT, doc="Speed after it; 0: all at once."),
        Key(name="times", kind=COUNT, doc="For so many requests instead of one."),
        Key(name="repeat", kind=TRUE, doc="For all requests from then on."),
        Key(name="from", kind=DURATION_OR_ZERO, doc="Not for the next request but for all from this time on."),
        Key(name="to", kind=DURATION_OR_ZERO, doc="Until this time, both counted from the start."),
    ),
)
SIMULATE = _section(
    settings.Simulate,
    _keys(
        settings.Simulate,
        ("first_token", DURATION_OR_ZERO, "Time to the first token."),
        ("tokens_per_second", POSITIVE, "Speed after it."),
        ("failure_rate", SHARE, "Share of the requests that fail."),
        (
            "script",
            ListOf(
                item=STEP,
                what="a list of steps",
            ),
            "Faults: what the first requests come to, a step each, then normal answers.",
        ),
    ),
)

PROVIDER = Section(
    make=_draft,
    keys=(
        Key(name="name", kind=NAME, doc="Unique; shows in logs and headers.", default="", required=True),
        Key(name="type", kind=PROVIDER_TYPE, doc="The protocol it speaks.", default="", required=True),
        *_keys(
            settings.ProviderSettings,
            (
                "api_key",
                CREDENTIAL,
                "Its credential. Required for anthropic, azure_openai, and openai at its hosted address.",
            ),
            ("base_url", URL.or_null(), "Its address; null: the type's own. Required for azure_openai."),
            ("timeout", DURATION, "Of one attempt: the whole answer, or the first token when streaming."),
            ("timeouts", TIMEOUTS, "Finer bounds of one attempt."),
            (
                "models",
                ListOf(
                    item=TEXT,
                    what="a list of model names",
                    nullable=True,
                    at_least=1,
                    instead="; leave the key out to serve any model",
                ),
                "Models it serves; null: considered for any model name.",
            ),
            (
                "model_aliases",
                MapOf(value=TEXT, what="a mapping of caller's model names to the provider's"),
                "Caller's name to provider's name; the provider then serves that name too.",
            ),
            ("weight", POSITIVE, "Its share of the traffic, for strategies that look at it."),
            ("tags", TEXTS, "Words of yours, shown in listings."),
            ("rate_limits", RATE_LIMITS, "What it may be sent."),
            ("health_check", HEALTH_CHECK, "How it is probed."),
        ),
        Key(
            name="circuit_breaker",
            kind=Section(keys=CIRCUIT_BREAKER_KEYS),
            doc="Overrides the global section key by key.",
        ),
        *_keys(
            settings.ProviderSettings,
            ("azure_deployment", TEXT.or_null(), "azure_openai: the deployment; null: the model's name."),
            ("azure_api_version", TEXT.or_null(), "azure_openai: the `api-version` it is asked with. Required there."),
            ("default_max_tokens", COUNT, "Sent where the protocol requires a bound and the caller gave none."),
            (
                "headers",
                MapOf(
                    value=HEADER_VALUE,
                    what="a mapping of header names to values",
                    key=header_name,
                    key_what="a header name",
                ),
                "Extra request headers.",
            ),
            ("extra_body", MapOf(value=Raw(), what="a mapping"), "Merged into the request body; the caller wins."),
            ("http2", SWITCH, "Speak HTTP/2 to it."),
            ("proxy", PROXY, "HTTP proxy to reach it by; null: what the environment says."),
            ("tls", CLIENT_TLS, "How its certificate is checked."),
            ("simulate", SIMULATE, "simulated: how it behaves."),
        ),
        *_later(
            ("api_keys", ListOf(item=CREDENTIAL, what="a list of keys"), (), "Several credentials."),
            ("region", TEXT.or_null(), None, "bedrock: the AWS region."),
            ("command", ListOf(item=TEXT, what="a list of text", nullable=True), None, "process: what to run."),
            ("fetch_images", SWITCH, False, "Fetch images by URL where the dialect takes only their bytes."),
            ("strict", SWITCH, False, "process: exit when it cannot be started."),
            ("env", MapOf(value=TEXT, what="a mapping of variables"), {}, "process: its environment."),
            ("cwd", TEXT.or_null(), None, "process: its working directory."),
        ),
    ),
)

GROUP = _section(
    settings.Group,
    (
        Key(name="name", kind=NAME, doc="Unique; shows in headers.", default="", required=True),
        Key(
            name="models",
            kind=ListOf(item=TEXT, what="a list of model names or globs", at_least=1),
            doc="Models of the group, as globs: `claude-haiku-*`.",
            default=(),
            required=True,
        ),
        *_keys(
            settings.Group,
            ("strategy", STRATEGY.or_null(), "null: the global one."),
            (
                "providers",
                ListOf(
                    item=TEXT,
                    what="a list of provider names",
                    nullable=True,
                    at_least=1,
                    instead="; leave the key out for all",
                ),
                "Candidates; null: all that serve the model.",
            ),
        ),
        *_later(("cache", SWITCH, False, "Cache the answers of this group.")),
    ),
)
_FALLBACKS = MapOf(value=ListOf(item=TEXT, what="a list of models"), what="a mapping of models to lists of models")
ROUTING = _section(
    settings.Routing,
    (
        *_keys(
            settings.Routing,
            ("strategy", STRATEGY, "In which order the providers of a model are tried."),
            ("default_model", TEXT.or_null(), "For no model and `auto`; null: the first model of the first provider."),
            (
                "aliases",
                one_of(("after", "equal")),
                "Providers that alias a name come after those that list it, or mixed with them.",
            ),
            (
                "least_latency",
                _section(
                    settings.LeastLatency,
                    _keys(
                        settings.LeastLatency,
                        ("ewma_decay", SHARE_ABOVE_ZERO, "Weight of the newest sample."),
                        ("min_samples", COUNT_OR_ZERO, "Below it a provider counts as unmeasured and is explored."),
                        ("measure", one_of(("response", "first_token")), "What is measured."),
                    ),
                ),
                "Of strategy `least_latency`.",
            ),
            (
                "sticky",
                _section(
                    settings.Sticky,
                    _keys(settings.Sticky, ("key", STICKY_KEY, "What requests of the same provider have in common.")),
                ),
                "Of strategy `sticky`.",
            ),
            ("fallbacks", _FALLBACKS, "Model to the models tried after its own providers."),
        ),
        *_later(("context_fallbacks", _FALLBACKS, {}, "Model to the models tried when the context is too long.")),
        *_keys(
            settings.Routing,
            (
                "groups",
                ListOf(item=GROUP, what="a list of groups"),
                "The first group whose `models` match sets strategy and candidates.",
            ),
        ),
    ),
)
RETRY = _section(
    settings.Retry,
    (
        *_keys(
            settings.Retry,
            ("max_attempts", COUNT, "All attempts of a request, over providers and fallback models."),
        ),
        *_later(
            ("same_provider", COUNT_OR_ZERO, 1, "Further tries at the same provider."),
            ("stay_when_model_changes", SWITCH, True, "Try the same provider again before another model."),
            ("wait_for_retry_after", DURATION_OR_ZERO, 3.0, "Longest `Retry-After` waited for."),
            ("budget_ratio", SHARE, 0.2, "Retries and hedges per request, at most."),
            ("budget_min_per_second", AMOUNT, 3.0, "Retries a second that are always allowed."),
            (
                "backoff",
                Section(
                    keys=_later(
                        ("base", DURATION, 0.1, "First wait."),
                        ("max", DURATION, 2.0, "Longest wait."),
                    )
                ),
                {},
                "Waits between tries at the same provider.",
            ),
        ),
    ),
)
_PRICE = _section(
    settings.Price,
    _keys(
        settings.Price,
        ("input_per_million", AMOUNT, "US dollars per million prompt tokens."),
        ("output_per_million", AMOUNT, "US dollars per million answer tokens."),
    ),
)
PRICING = MapOf(
    value=MapOf(value=_PRICE, what="a mapping of models to prices"),
    what="a mapping of provider names to prices",
    key=name,
    key_what="a provider's name",
)

_LATER_SECTIONS = _later(
    ("providers_file", FILE.or_null(), None, "A providers.json to add."),
    ("workers", COUNT, 1, "Worker processes."),
    ("rescue", one_of(("none", "continue")), "none", "What happens to a stream that breaks."),
    (
        "hedge",
        Section(
            keys=_later(
                ("enabled", SWITCH, False, "Ask a second provider when the first is slow."),
                ("after", TEXT, "p95", "When."),
                ("max_extra_ratio", SHARE, 0.05, "Hedges per request, at most."),
            )
        ),
        {},
        "Second attempts.",
    ),
    (
        "queue",
        Section(
            keys=_later(
                ("max_wait", DURATION_OR_ZERO, 0.0, "How long a request waits for a provider to become routable."),
                ("max_size", COUNT, 1000, "How many may wait."),
            )
        ),
        {},
        "Waiting for a provider.",
    ),
    ("budgets", ListOf(item=Raw(), what="a list of budgets"), (), "Spending limits per caller."),
    ("ledger", Section(keys=_later(("url", TEXT, "sqlite:///~/.infermux/ledger.db", "Database."))), {}, "Costs."),
    ("state", Section(keys=_later(("url", TEXT.or_null(), None, "Redis."))), {}, "State shared by several nodes."),
    (
        "cache",
        Section(
            keys=_later(
                ("enabled", SWITCH, False, "Cache answers."),
                ("ttl", DURATION, 300.0, "How long."),
                ("max_bytes", SIZE, 64 * 1024 * 1024, "How much."),
                ("shared", SWITCH, False, "One cache for all callers."),
            )
        ),
        {},
        "Answers kept.",
    ),
    (
        "telemetry",
        Section(keys=_later(("otlp_endpoint", TEXT.or_null(), None, "OpenTelemetry collector."))),
        {},
        "Traces.",
    ),
)

ROOT = Section(
    make=_config,
    what="a mapping of sections such as `providers:`",
    keys=(
        *_keys(
            settings.Config,
            ("listen", ADDRESS, 'Where to listen; ":8080" is every address of the machine, port 0 any free port.'),
            ("management_listen", ADDRESS.or_null(), "Where management is served; null: on `listen`."),
            (
                "management_hosts",
                ListOf(item=HOST, what="a list of host names"),
                "Host names that may be used to reach management besides loopback names and the listen address.",
            ),
            ("log", LOG, "Logging."),
            ("tls", TLS, "The server's own certificate; with both files set it serves HTTPS."),
            ("auth", AUTH, "Who may call."),
            ("limits", LIMITS, "Of the front end."),
            ("shutdown_grace", DURATION_OR_ZERO, "Time running requests have after SIGTERM."),
        ),
        Key(
            name="providers",
            kind=ListOf(item=PROVIDER, what="a list of providers"),
            doc="The LLM endpoints, in order of preference.",
            default=(),
        ),
        *_keys(
            settings.Config,
            ("circuit_breaker", CIRCUIT_BREAKER, "When a provider is set aside because live requests fail."),
            ("routing", ROUTING, "Which provider gets a request."),
            ("retry", RETRY, "Attempts."),
            ("pricing", PRICING, "Prices by provider name and model, for `cost_weighted`."),
        ),
        *_LATER_SECTIONS,
    ),
)
