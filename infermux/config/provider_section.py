"""What infermux.yml may say about one provider, and about circuit breakers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from . import settings
from .kinds import ListOf, MapOf, Raw, one_of
from .scalars import (
    AMOUNT,
    COUNT,
    COUNT_OR_ZERO,
    CREDENTIAL,
    DURATION,
    DURATION_OR_ZERO,
    ERROR_STATUS,
    FILE,
    HEADER_VALUE,
    LIMIT,
    LIMIT_OR_AUTO,
    NAME,
    POSITIVE,
    PROVIDER_TYPE,
    PROXY,
    SHARE,
    SHARE_ABOVE_ZERO,
    SWITCH,
    TEXT,
    TEXTS,
    TRUE,
    URL,
    VARIABLE,
)
from .section import Key, Section, keys_of, section_of
from .values import header_name, variable_name


@attrs.frozen(kw_only=True)
class Draft:
    """A provider before the global circuit breaker is put under its own."""

    settings: settings.ProviderSettings
    circuit_breaker: Mapping[str, Any]


def _draft(*, circuit_breaker: Mapping[str, Any] | None = None, **given: Any) -> Draft:
    return Draft(settings=settings.ProviderSettings(**given), circuit_breaker=circuit_breaker or {})


CIRCUIT_BREAKER_KEYS = keys_of(
    settings.CircuitBreaker,
    ("error_rate_threshold", SHARE_ABOVE_ZERO, "Opens when this share of the window's requests failed."),
    ("consecutive_failures", COUNT, "Opens after this many failures in a row."),
    ("latency_p95_ms", POSITIVE.or_null(), "Opens when the window's 95th percentile is above it, in ms; null: never."),
    ("window_seconds", POSITIVE, "Length of the sliding window, in seconds."),
    ("min_requests", COUNT, "Requests the window must hold before its error rate or latency counts."),
    ("recovery_window", DURATION, "How long it stays open before one live request is let through as a probe."),
    ("probe_timeout", DURATION, "Time that probe has until its first token."),
)
CIRCUIT_BREAKER = section_of(settings.CircuitBreaker, CIRCUIT_BREAKER_KEYS)

TIMEOUTS = section_of(
    settings.Timeouts,
    keys_of(
        settings.Timeouts,
        ("connect", DURATION, "To connect, TLS included."),
        ("first_token", DURATION.or_null(), "To the first token of a stream; null: `timeout`."),
        ("idle", DURATION, "Between two events of a stream."),
        ("total", DURATION.or_null(), "For the whole attempt; null: no bound."),
    ),
)
RATE_LIMITS = section_of(
    settings.RateLimits,
    keys_of(
        settings.RateLimits,
        ("requests_per_minute", LIMIT, "Requests admitted a minute, refilled continuously; null: no limit."),
        ("tokens_per_minute", LIMIT, "Tokens admitted a minute, prompt and answer; null: no limit."),
        (
            "max_concurrent",
            LIMIT_OR_AUTO,
            "Requests in flight at once; `auto`: found out from latency and refusals; null: no limit.",
        ),
    ),
)
HEALTH_CHECK = section_of(
    settings.HealthCheck,
    keys_of(
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
CLIENT_TLS = section_of(
    settings.ClientTls,
    keys_of(
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
SIMULATE = section_of(
    settings.Simulate,
    keys_of(
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
        *keys_of(
            settings.ProviderSettings,
            (
                "api_key",
                CREDENTIAL,
                "Its credential. Required for anthropic, azure_openai, and openai at its hosted address, but with "
                "`auth.mode: passthrough`.",
            ),
            (
                "api_keys",
                ListOf(item=attrs.evolve(CREDENTIAL, nullable=False), what="a list of keys"),
                "Several credentials in place of `api_key`: a refused one is retired, one that answers 429 rests.",
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
        *keys_of(
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
            (
                "region",
                TEXT.or_null(),
                "bedrock: the AWS region; null: AWS_REGION, AWS_DEFAULT_REGION or that of the AWS profile.",
            ),
            (
                "fetch_images",
                SWITCH,
                "bedrock: fetch the images that callers give by URL, at public addresses only; false: refuse them.",
            ),
            ("http2", SWITCH, "Speak HTTP/2 to it."),
            ("proxy", PROXY, "HTTP proxy to reach it by; null: what the environment says."),
            ("tls", CLIENT_TLS, "How its certificate is checked."),
            ("simulate", SIMULATE, "simulated: how it behaves."),
            (
                "command",
                ListOf(item=TEXT, what="a list: the program and its arguments", nullable=True, at_least=1),
                "process: the program and its arguments; a bare name is looked up on PATH. Required there.",
            ),
            (
                "env",
                MapOf(value=VARIABLE, what="a mapping of variables", key=variable_name, key_what="a variable's name"),
                "process: its environment, beside PATH, HOME and LANG.",
            ),
            ("cwd", TEXT.or_null(), "process: the folder it starts in; null: that of infermux."),
            ("strict", SWITCH, "process: infermux ends when it cannot be started, instead of serving the others."),
        ),
    ),
)
