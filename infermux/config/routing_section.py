"""Which provider gets a request, and what happens when it fails: the sections routing, retry, hedge and queue."""

from __future__ import annotations

from . import settings
from .kinds import ListOf, MapOf, one_of
from .scalars import (
    AMOUNT,
    COUNT,
    COUNT_OR_ZERO,
    DURATION,
    DURATION_OR_ZERO,
    HEDGE_AFTER,
    NAME,
    SHARE,
    SHARE_ABOVE_ZERO,
    STICKY_KEY,
    STRATEGY,
    SWITCH,
    TEXT,
)
from .section import Key, keys_of, section_of

_GROUP = section_of(
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
                ListOf(item=_GROUP, what="a list of groups"),
                "The first group whose `models` match sets strategy and candidates.",
            ),
        ),
    ),
)
_BACKOFF = section_of(
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
        ("backoff", _BACKOFF, "Waits between tries at the same provider."),
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
