"""What infermux.yml may say: every key with its kind, its default and its meaning.

The defaults come from the classes of `settings`; the loader, the JSON Schema and the reference page are made from here.
"""

from __future__ import annotations

from typing import Any

import attrs

from . import settings
from .credentials import goes_without
from .kinds import ListOf, one_of
from .money_section import BUDGET, PRICING
from .provider_section import CIRCUIT_BREAKER, PROVIDER, Draft
from .routing_section import HEDGE, QUEUE, RETRY, ROUTING
from .scalars import (
    ADDRESS,
    COUNT,
    CREDENTIAL,
    DATABASE,
    DURATION,
    DURATION_OR_ZERO,
    FILE,
    HOST,
    NAME,
    SIZE,
    STATE,
    SWITCH,
    URL,
    WORKERS,
)
from .section import Key, Section, keys_of, section_of


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
