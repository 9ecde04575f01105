"""Parameters, headers and bodies of the description that several operations share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from infermux.actors.record import BYPASS, HIT, MISS
from infermux.keys import PRIORITIES

from ..admission import LONGEST_CALLER, MOST_TAGS
from ..inference import LONGEST_ID
from .shapes import COUNT, NUMBER, TEXT, Schema, one_of

_CALLER: Final = "^[!-~]([ -~]*[!-~])?$"
_TAG: Final = "[A-Za-z0-9._-]{1,64}=[!-+.-~-][!-+.-~-]{0,127}"
_TIMEOUT: Final = "^[+-]?[0-9.][0-9_.eEhms+-]*$"  # above 0 and below a day, which no pattern says


def in_query(name: str, schema: Schema, what: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": what, "schema": schema}


def in_path(name: str, what: str, schema: Schema | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": what,
        "schema": schema or {**TEXT, "minLength": 1},
    }


def in_header(name: str, what: str, schema: Schema | None = None) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": what, "schema": schema or TEXT}


# Of requests.

WHO: Final = (
    in_header(
        "X-Infermux-Caller",
        "Who asks, for costs, budgets and logs.",
        {**TEXT, "maxLength": LONGEST_CALLER, "pattern": _CALLER},
    ),
    in_header(
        "X-Infermux-Tags",
        "Different tags such as `env=prod,team=search`, for costs and budgets.",
        {
            "type": "array",
            "items": {**TEXT, "pattern": f"^{_TAG}$"},
            "minItems": 1,
            "maxItems": MOST_TAGS,
            "uniqueItems": True,
        },
    ),
    in_header("X-Infermux-Priority", "The class in which a request waits for a provider.", one_of(PRIORITIES)),
)
INFERENCE: Final = (
    *WHO,
    in_header(
        "X-Request-Id",
        f"Comes back in the answer: printable ASCII of at most {LONGEST_ID} characters, else the router makes one.",
    ),
    in_header(
        "X-Infermux-Timeout",
        "The whole request may take this long, such as `20s`, `250ms` or `1m30s`.",
        {**TEXT, "pattern": _TIMEOUT},
    ),
    in_header(
        "traceparent",
        "W3C Trace Context: goes on to the provider. One that is ill-formed is as if not there, and so are two.",
    ),
    in_header("tracestate", "Goes on with a `traceparent`."),
    in_header("openai-beta", "Goes on to a provider that speaks OpenAI's API."),
    in_header("anthropic-beta", "Goes on to a provider that speaks Anthropic's API."),
    in_header("anthropic-version", "Goes on to a provider that speaks Anthropic's API."),
)
STRICT: Final = in_header(
    "X-Infermux-Strict",
    "`true`: a request that would lose something by translation is refused, naming it.",
    one_of(("true", "false", "1", "0", "")),
)
CACHE_CONTROL: Final = in_header(
    "Cache-Control", "`no-cache`: a fresh answer, which is kept. `no-store`: the cache of answers keeps out of it."
)
ANTHROPIC_VERSION: Final = in_header("anthropic-version", "With it the models come in Anthropic's shape.")


# Of answers.


def said(what: str, schema: Schema = TEXT, *, required: bool = False) -> dict[str, Any]:
    """A response header."""
    return {"description": what, "schema": schema, **({"required": True} if required else {})}


_TRAIL: Final = {
    "X-Request-Id": said("the request's id", {**TEXT, "maxLength": LONGEST_ID}, required=True),
    "X-Infermux-Attempts": said("how many attempts were made, 0 from the cache", COUNT, required=True),
}
ANSWER_HEADERS: Final[Mapping[str, Any]] = {
    **_TRAIL,
    "X-Infermux-Provider": said("who answered", required=True),
    "X-Infermux-Model": said("the provider's name for the model", required=True),
    "X-Infermux-Strategy": said("what put the providers in order", required=True),
    "X-Infermux-Route-Group": said("the route group, where one matched"),
    "X-Infermux-Latency-Ms": said("to the whole answer, or to a stream's first content", COUNT, required=True),
    "X-Infermux-Prompt-Tokens": said("of a whole answer: what was used", COUNT),
    "X-Infermux-Completion-Tokens": said("of a whole answer: what was used", COUNT),
    "X-Infermux-Cost": said("of a whole answer: US dollars, where somebody knows the price", {**NUMBER, "minimum": 0}),
    "X-Infermux-Dropped": said("what of the request a translation could not carry; `name(how)`: changed"),
    "X-Infermux-Estimated": said("`true`: an estimate of the router's", {"const": "true"}),
    "X-Infermux-Cache": said("of groups with `cache: true`: what the cache did", one_of((HIT, MISS, BYPASS))),
    "Age": said("of a hit: seconds since it was answered", COUNT),
    "X-Infermux-Budget": said("the soft budgets that are used up"),
}
REFUSAL_HEADERS: Final[Mapping[str, Any]] = _TRAIL
ANTHROPIC_ID: Final[Mapping[str, Any]] = {"request-id": said("X-Request-Id again, where Anthropic's SDK looks for it")}
