"""What infermux.yml may say: every key with its kind, its default and its meaning.

The defaults come from the classes of `settings`; the loader, the JSON Schema and the reference page are made from here.
"""

from __future__ import annotations

from typing import Any

import attrs

from . import settings
from .credentials import goes_without
from .kinds import ListOf, MapOf, one_of
from .provider_section import CIRCUIT_BREAKER, PROVIDER, Draft
from .scalars import (
    ADDRESS,
    AMOUNT,
    COUNT,
    COUNT_OR_ZERO,
    CREDENTIAL,
    DATABASE,
    DOLLARS,
    DURATION,
    DURATION_OR_ZERO,
    FILE,
    HEDGE_AFTER,
    HOST,
    NAME,
    SHARE,
    SHARE_ABOVE_ZERO,
    SIZE,
    STATE,
    STICKY_KEY,
    STRATEGY,
    SWITCH,
    TAG,
    TEXT,
    URL,
    WORKERS,
)
from .section import Key, Section, keys_of, section_of
from .values import name


def _config(*, providers: tuple[Draft, ...] = (), **given: Any) -> settings.Config:
    breaker = given.get("circuit_breaker", settings.CircuitBreaker())
    lends = given.get("auth", settings.AuthSettings()).mode is settings.AuthMode.PASSTHROUGH
    ready = tuple(_finished(draft, breaker, lends) for draft in providers)
    return settings.Config(providers=ready, **given)


def joined(config: settings.Config, more: tuple[Draft, ...]) -> settings.Config:
    """`config` with further providers after its own."""
    lends = config.auth.mode is settings.AuthMode.PASSTHROUGH
    ready = (_finished(draft, config.circuit_breaker, lends) for draft in more)
    return attrs.evolve(config, providers=(*config.providers, *ready))


def _finished(draft: Draft, breaker: settings.CircuitBreaker, lends: bool) -> settings.ProviderSettings:
    return attrs.evolve(
        draft.settings,
        circuit_breaker=attrs.evolve(breaker, **draft.circuit_breaker),
        borrows=lends and goes_without(draft.settings),
    )


def _price(*, above: tuple[settings.PriceStep, ...] = (), **given: Any) -> settings.Price:
    return settings.Price(above=tuple(sorted(above, key=lambda step: step.prompt_tokens)), **given)


def _step(*, prompt_tokens: int, **rates: Any) -> settings.PriceStep:
    return settings.PriceStep(prompt_tokens=prompt_tokens, price=settings.Price(**rates))


LOG = section_of(
    settings.LogSettings,
    keys_of(
        settings.LogSettings,
        ("level", one_of(("debug", "info", "warn", "error")), "What is logged: this level and above."),
        ("format", one_of(("text", "json")), "Lines for people, or one JSON object a line."),
        ("timestamps", SWITCH, "Whether each line begins with the time."),
        ("bodies", SWITCH, "Log prompts and answers too, the first 16 KiB of each, at level `info`."),
    ),
)
TELEMETRY = section_of(
    settings.TelemetrySettings,
    keys_of(
        settings.TelemetrySettings,
        (
            "otlp_endpoint",
            URL.or_null(),
            "An OpenTelemetry collector, by OTLP over HTTP (`/v1/traces` is added); null: no traces. "
            "Needs the extra `infermux[otel]`.",
        ),
    ),
)
TLS = section_of(
    settings.TlsSettings,
    keys_of(
        settings.TlsSettings,
        ("cert_file", FILE.or_null(), "PEM file with the server's certificate chain. Needs `key_file`."),
        ("key_file", FILE.or_null(), "PEM file with its private key. Needs `cert_file`."),
    ),
)
AUTH = section_of(
    settings.AuthSettings,
    keys_of(
        settings.AuthSettings,
        (
            "mode",
            one_of(("open", "static_key", "keys", "passthrough"), settings.AuthMode),
            "Who may call: anybody (`open`); who sends `key` as `Authorization: Bearer` or `x-api-key` (`static_key`), "
            "or one of the keys that `infermux keys` hands out (`keys`); anybody, with a provider's own credential "
            "(`passthrough`).",
        ),
        ("key", CREDENTIAL, "The key of `static_key`."),
    ),
)
LIMITS = section_of(
    settings.LimitSettings,
    keys_of(
        settings.LimitSettings,
        ("max_body_bytes", SIZE, "Largest request body; a larger one is answered 413."),
        ("max_concurrent_requests", COUNT, "Requests served at once; more are answered 503."),
        ("header_timeout", DURATION, "A caller must send its head, and each part of its body, within this time."),
        ("write_timeout", DURATION, "A caller that reads nothing of its answer for this long is cut off."),
    ),
)
GROUP = section_of(
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
        *keys_of(
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
            ("cache", SWITCH, "Keep the answers of this group, where `cache.enabled` is true; see docs/caching.md."),
        ),
    ),
)
_FALLBACKS = MapOf(value=ListOf(item=TEXT, what="a list of models"), what="a mapping of models to lists of models")
ROUTING = section_of(
    settings.Routing,
    (
        *keys_of(
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
                section_of(
                    settings.LeastLatency,
                    keys_of(
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
                section_of(
                    settings.Sticky,
                    keys_of(settings.Sticky, ("key", STICKY_KEY, "What requests of the same provider have in common.")),
                ),
                "Of strategy `sticky`.",
            ),
            ("fallbacks", _FALLBACKS, "Model to the models tried after its own providers."),
        ),
        *keys_of(
            settings.Routing,
            ("context_fallbacks", _FALLBACKS, "Model to the models tried when the prompt is too long for it."),
            (
                "groups",
                ListOf(item=GROUP, what="a list of groups"),
                "The first group whose `models` match sets strategy and candidates.",
            ),
        ),
    ),
)
BACKOFF = section_of(
    settings.Backoff,
    keys_of(
        settings.Backoff,
        ("base", DURATION, "The first wait is random, from nothing to this; it doubles with each further one."),
        ("max", DURATION, "The longest wait."),
    ),
)
RETRY = section_of(
    settings.Retry,
    keys_of(
        settings.Retry,
        ("max_attempts", COUNT, "All attempts of a request, over providers and fallback models."),
        ("same_provider", COUNT_OR_ZERO, "Further tries at the same provider, where another model would be the next."),
        ("stay_when_model_changes", SWITCH, "Try the same provider again before a candidate with another model."),
        ("wait_for_retry_after", DURATION_OR_ZERO, "The longest `Retry-After` of a 429 that is waited for."),
        ("budget_ratio", SHARE, "Further tries at the same provider, as a share of the requests, at most."),
        ("budget_min_per_second", AMOUNT, "Such tries a second that are allowed whatever the share."),
        ("backoff", BACKOFF, "Waits between tries at the same provider."),
    ),
)
HEDGE = section_of(
    settings.Hedge,
    keys_of(
        settings.Hedge,
        ("enabled", SWITCH, "Ask a second provider when the first one is slow; the first token wins."),
        ("after", HEDGE_AFTER, "How long to wait for the first: a percentile of its own times, or a duration."),
        ("max_extra_ratio", SHARE, "Second attempts as a share of the requests, at most."),
    ),
)
QUEUE = section_of(
    settings.Queue,
    keys_of(
        settings.Queue,
        ("max_wait", DURATION_OR_ZERO, "How long a request waits for a provider to become routable; 0: not at all."),
        ("max_size", COUNT, "How many may wait at once."),
    ),
)
_RATES = keys_of(
    settings.Price,
    ("input_per_million", DOLLARS, "US dollars per million prompt tokens."),
    ("output_per_million", DOLLARS, "US dollars per million answer tokens."),
    (
        "cached_input_per_million",
        DOLLARS.or_null(),
        "Of prompt tokens read from the provider's cache; null: as input.",
    ),
    (
        "cache_write_per_million",
        DOLLARS.or_null(),
        "Of prompt tokens written to the provider's cache; null: as input.",
    ),
    ("reasoning_per_million", DOLLARS.or_null(), "Of answer tokens that are reasoning; null: as output."),
    ("per_request", DOLLARS, "US dollars for each answer, whatever its length."),
)
_STEP = Section(
    make=_step,
    keys=(Key(name="prompt_tokens", kind=COUNT, doc="Prompts longer than this.", default=1, required=True), *_RATES),
)
_PRICE = Section(
    make=_price,
    keys=(
        *_RATES,
        Key(
            name="above",
            kind=ListOf(item=_STEP, what="a list of prices for longer prompts"),
            doc="Prices of requests with longer prompts, for all of their tokens.",
            default=(),
        ),
        Key(
            name="service_tiers",
            kind=MapOf(
                value=Section(keys=_RATES, make=settings.Price), what="a mapping of the provider's tiers to prices"
            ),
            doc="Prices where the answer names such a tier (`batch`, `flex`, `priority`).",
            default={},
        ),
    ),
)
PRICING = MapOf(
    value=MapOf(value=_PRICE, what="a mapping of models to prices"),
    what="a mapping of provider names to prices",
    key=name,
    key_what="a provider's name",
)

BUDGET = Section(
    make=settings.Budget,
    what="a budget: a mapping with limit_usd and period",
    keys=(
        *keys_of(
            settings.Budget,
            ("caller", TEXT.or_null(), 'Of one caller by its name; "*": of each that no other budget names.'),
            ("key", TEXT.or_null(), 'Of one key by its id; "*" as above.'),
            ("tag", TAG.or_null(), 'Of requests with that tag: "NAME=VALUE"; "NAME=*": of each value.'),
            ("group", TEXT.or_null(), 'Of one route group; "*" as above.'),
        ),
        Key(name="limit_usd", kind=DOLLARS, doc="US dollars per period.", default=0.0, required=True),
        Key(
            name="period",
            kind=one_of(("day", "week", "month")),
            doc="When it begins anew: at midnight, on Monday, on the first; UTC.",
            default="month",
            required=True,
        ),
        *keys_of(
            settings.Budget,
            ("hard", SWITCH, "Refuse what does not fit (429), or only say so in `X-Infermux-Budget` and the log."),
            (
                "unpriced",
                one_of(("allow", "refuse")),
                "Of a hard one: models whose price nobody knows count as 0, or are refused.",
            ),
        ),
    ),
)
LEDGER = section_of(
    settings.LedgerSettings,
    keys_of(
        settings.LedgerSettings,
        ("url", DATABASE.or_null(), "The database of requests and their costs; null: nothing is written down."),
    ),
)
CACHE = section_of(
    settings.CacheSettings,
    keys_of(
        settings.CacheSettings,
        ("enabled", SWITCH, "Keep the answers of the route groups that say `cache: true`."),
        ("ttl", DURATION, "How long an answer is given again."),
        ("max_bytes", SIZE, "Memory for kept answers, keys and bookkeeping included; one takes an eighth at most."),
        ("shared", SWITCH, "Give answers to other callers than the one who asked first; not with `passthrough`."),
    ),
)

STATE_SECTION = section_of(
    settings.StateSettings,
    keys_of(
        settings.StateSettings,
        ("url", STATE, "The Redis or Valkey; null: each router has its limits for itself."),
        ("prefix", NAME, "What every key in it begins with: routers of one prefix share their limits."),
        ("nodes", COUNT, "How many routers there are taken to be while it cannot be reached and has not told yet."),
    ),
)

ROOT = Section(
    make=_config,
    what="a mapping of sections such as `providers:`",
    keys=(
        *keys_of(
            settings.Config,
            ("listen", ADDRESS, 'Where to listen; ":8080" is every address of the machine, port 0 any free port.'),
            ("management_listen", ADDRESS.or_null(), "Where management is served; null: on `listen`."),
            (
                "management_hosts",
                ListOf(item=HOST, what="a list of host names"),
                "Host names that may be used to reach management besides loopback names and the listen address.",
            ),
            (
                "workers",
                WORKERS,
                "Processes on one port; `auto`: one per processor it may use; see docs/workers.md.",
            ),
            ("log", LOG, "Logging."),
            ("tls", TLS, "The server's own certificate; with both files set it serves HTTPS."),
            ("auth", AUTH, "Who may call."),
            ("limits", LIMITS, "Of the front end."),
            (
                "shutdown_delay",
                DURATION_OR_ZERO,
                "Time after SIGTERM in which new requests are still taken, while readiness says no.",
            ),
            ("shutdown_grace", DURATION_OR_ZERO, "Time running requests have after that."),
        ),
        Key(
            name="providers",
            kind=ListOf(item=PROVIDER, what="a list of providers"),
            doc="The LLM endpoints, in order of preference.",
            default=(),
        ),
        *keys_of(
            settings.Config,
            (
                "providers_file",
                FILE.or_null(),
                "The providers.json whose providers come after these; null: ~/.infermux/providers.json where no -c was "
                "given, else none. See docs/installing-providers.md.",
            ),
            ("circuit_breaker", CIRCUIT_BREAKER, "When a provider is set aside because live requests fail."),
            ("routing", ROUTING, "Which provider gets a request."),
            ("retry", RETRY, "Attempts."),
            (
                "rescue",
                one_of(("none", "continue")),
                "A stream that breaks: tell the caller (`none`), or another provider goes on from there (`continue`); "
                "see docs/reliability.md.",
            ),
            ("hedge", HEDGE, "Second attempts beside a slow first one."),
            ("queue", QUEUE, "Waiting for a provider to become routable."),
            ("pricing", PRICING, "Prices by provider name and model, before those of the price library."),
            ("budgets", ListOf(item=BUDGET, what="a list of budgets"), "What callers, keys, tags or groups may spend."),
            ("ledger", LEDGER, "Where requests are written down, and keys kept."),
            ("state", STATE_SECTION, "What several routers share; see docs/shared-state.md."),
            ("cache", CACHE, "Answers that are given again to the same request; see docs/caching.md."),
            ("telemetry", TELEMETRY, "Traces."),
        ),
    ),
)
