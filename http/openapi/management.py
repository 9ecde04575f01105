"""The operations below `/_infermux/`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from infermux.actors.decisions import KEPT
from infermux.actors.provider_messages import Verb
from infermux.costs import GROUPS
from infermux.errors import (
    ConfigError,
    Conflict,
    DatabaseUnavailable,
    KeysUnavailable,
    NotFound,
    Overloaded,
)
from infermux.key_declaration import LONGEST_GLOB, LONGEST_NAME, MOST_GLOBS
from infermux.keys import PERIODS, PRIORITIES

from ..dashboard import POLICY, TYPES
from ..explain import LISTED
from ..polled import METRICS
from .operation import JSON, Operation, Response, json_answer, json_body
from .parts import in_header, in_path, in_query, said
from .shapes import FLAG, TEXT, Schema, event, listed, maybe, one_of, record, ref

GUARD: Final = "management"
PAGE: Final = "page"
"""What a cookie opens too."""
Found = tuple[str, str, Operation]
"""The path below the prefix, the method in lower case, what it is."""

_PROVIDER: Final = in_path("name", "A provider's name.")
_KEY: Final = in_path("name", "A key's public id, or its name.")
_REQUEST: Final = in_path("request_id", "A request's id, from the `X-Request-Id` of its answer.")
_DECIMAL: Final = "[0-9]{1,6}(\\.[0-9]{1,2})?"


def management() -> Iterator[Found]:
    """All of them."""
    yield from _router()
    yield from _providers()
    yield from _requests()
    yield from _cache()
    yield from _money()
    yield from _keys()
    yield from _dashboard()


def metrics() -> Operation:
    """The page of Prometheus, which has a path of its own on `management_listen`."""
    text = {"schema": TEXT}
    return Operation(
        id="metrics",
        tag="Metrics",
        summary="Metrics for Prometheus, in the format that `Accept` asks for",
        answers={
            "200": {"description": "Metrics", "content": {"text/plain": text, "application/openmetrics-text": text}}
        },
        guard=GUARD,
    )


def _shown(id: str, tag: str, summary: str, document: str, **more: Any) -> Operation:
    """One that answers 200 with a document."""
    links = more.pop("links", {})
    linked = {"links": links} if links else {}
    return Operation(
        id=id,
        tag=tag,
        summary=summary,
        answers={"200": json_answer(document, ref(document), **linked)},
        guard=GUARD,
        **more,
    )


def _link(operation: str, **parameters: str) -> dict[str, Any]:
    return {"operationId": operation, "parameters": parameters}


# The router.


def _router() -> Iterator[Found]:
    alive = {"200": json_answer("It lives", ref("Health"))}
    yield "/health", "get", Operation(id="health", tag="Router", summary="Whether the process lives", answers=alive)
    accepting = {
        "200": json_answer("It takes requests", ref("Accepting")),
        "503": json_answer("It drains, or is about to", ref("Accepting")),
    }
    summary = "Whether new callers are to come here, whatever the providers do"
    yield "/accepting", "get", Operation(id="accepting", tag="Router", summary=summary, answers=accepting)
    ready = {
        "200": json_answer("A provider is routable, and the router does not drain", ref("Ready")),
        "503": json_answer("Not ready, with the reason", ref("Ready")),
    }
    summary = "Whether requests can be served"
    yield "/ready", "get", Operation(id="ready", tag="Router", summary=summary, answers=ready)
    yield "/status", "get", _shown("status", "Router", "The router, and one row per provider", "Status")
    yield "/overview", "get", _shown("overview", "Router", "All that the dashboard shows, in one piece", "Overview")
    yield "/config", "get", _shown("config", "Router", "The configuration in force, secrets masked", "Config")
    dry_run = in_query(
        "dry_run", one_of(("true", "false", "1", "0", "")), "`true`, or nothing: only tell the difference."
    )
    summary = "Read the file again and serve what it says"
    told = _shown("reload", "Router", summary, "Reloaded", parameters=(dry_run,), errors=(ConfigError,))
    yield "/reload", "post", told
    yield METRICS, "get", metrics()
    yield "/openapi.json", "get", _openapi()
    yield "/events", "get", _events()


def _openapi() -> Operation:
    answers = {"200": json_answer("This document", {"type": "object", "required": ["openapi", "info", "paths"]})}
    return Operation(id="openapi", tag="Router", summary="This description", answers=answers, guard=GUARD)


def _events() -> Operation:
    what = (
        "Server-sent events without an end: `overview` (an Overview) first, then `snapshot` (a Snapshot) every second, "
        "`change` (a ProviderChange), `request` (a Decision) and `budget` (an ExceededBudget) as they happen"
    )
    caching = {"Cache-Control": said("never kept", {"const": "no-store"}, required=True)}
    answer = {"description": what, "headers": caching, "content": {"text/event-stream": {"schema": _each()}}}
    return Operation(
        id="events",
        tag="Router",
        summary="What happens, as it happens",
        answers={"200": answer},
        errors=(Overloaded,),
        guard=GUARD,
    )


def _each() -> Schema:
    """Of each event: OpenAPI 3.1 has no word for a sequence of them."""
    told = {
        "overview": "Overview",
        "snapshot": "Snapshot",
        "change": "ProviderChange",
        "request": "Decision",
        "budget": "ExceededBudget",
    }
    return {"anyOf": [event(ref(document), name=name) for name, document in told.items()]}


# Providers.


def _providers() -> Iterator[Found]:
    named = "$response.body#/providers/0/name"
    commands = {verb.value: _link("command", name=named, verb=verb.value) for verb in Verb}
    links = {"show": _link("provider", name=named), **commands}
    yield "/providers", "get", _shown("providers", "Providers", "Every provider", "Providers", links=links)
    one = _shown(
        "provider", "Providers", "All that is known of one", "Provider", parameters=(_PROVIDER,), errors=(NotFound,)
    )
    yield "/providers/{name}", "get", one
    verb = in_path("verb", "What it is to do.", one_of(verb.value for verb in Verb))
    summary = "Enable, disable, drain, probe or reset a provider"
    command = _shown(
        "command", "Providers", summary, "Provider", parameters=(_PROVIDER, verb), errors=(NotFound, Conflict)
    )
    yield "/providers/{name}/{verb}", "post", command


# Requests.


def _requests() -> Iterator[Found]:
    first = _link("kill", request_id="$response.body#/requests/0/id")
    asked = _link("explain", request_id="$response.body#/requests/0/id")
    running = _shown(
        "requests",
        "Requests",
        "The running ones, the oldest first",
        "RunningRequests",
        links={"kill": first, "explain": asked},
    )
    yield "/requests", "get", running
    kill = _shown("kill", "Requests", "End one", "Killed", parameters=(_REQUEST,), errors=(NotFound, Conflict))
    yield "/requests/{request_id}", "delete", kill
    limit = in_query(
        "limit", {"type": "integer", "minimum": 1, "maximum": KEPT, "default": LISTED}, "How many, the newest first."
    )
    why = {"explain": _link("explain", request_id="$response.body#/decisions/0/id")}
    summary = "The last requests that have ended"
    yield "/explain", "get", _shown("decisions", "Requests", summary, "Decisions", parameters=(limit,), links=why)
    summary = "Why a request went where it did"
    yield (
        "/explain/{request_id}",
        "get",
        _shown("explain", "Requests", summary, "Explanation", parameters=(_REQUEST,), errors=(NotFound,)),
    )


# The cache of answers.


def _cache() -> Iterator[Found]:
    yield "/cache", "get", _shown("cache", "Cache", "How large the cache of answers is, and what came of it", "Cache")
    summary = "Empty the cache of answers"
    yield "/cache", "delete", _shown("empty", "Cache", summary, "CacheEmptied", errors=(NotFound,))


# Money.


def _money() -> Iterator[Found]:
    yield "/prices", "get", _shown("prices", "Money", "The price of each declared model", "Prices")
    yield "/budgets", "get", _shown("budgets", "Money", "What each budget has spent, promised and left", "Budgets")
    yield (
        "/costs",
        "get",
        Operation(
            id="costs",
            tag="Money",
            summary="What requests have cost",
            parameters=_cost_parameters(),
            answers={"200": _costs()},
            errors=(NotFound, DatabaseUnavailable),
            guard=GUARD,
        ),
    )


def _costs() -> Response:
    content = {JSON: {"schema": ref("Costs")}, "text/csv": {"schema": TEXT}}
    return {"description": "The costs, as JSON or CSV", "content": content}


def _cost_parameters() -> tuple[dict[str, Any], ...]:
    name = f"({'|'.join(GROUPS)}|tag:[^,]+)"
    groups = {**TEXT, "pattern": f"^({name}(,{name})*)?$"}
    moment = {
        **TEXT,
        "description": "an age or a date (UTC)",
        "anyOf": [
            {"pattern": "^([0-9]{1,6}[mhdw])?$"},
            {"format": "date"},
            {"format": "date-time"},
        ],
    }
    return (
        in_query("group_by", groups, "Names separated by commas, each once; none: one line of all."),
        in_query("since", moment, "The first moment, such as `7d` or `2026-01-31`."),
        in_query("until", moment, "The first moment after."),
        in_query("format", one_of(("json", "csv")), "Without it `Accept: text/csv` is CSV."),
    )


# Keys.


def _keys() -> Iterator[Found]:
    stored = (KeysUnavailable, DatabaseUnavailable)
    yield "/keys", "get", _shown("keys", "Keys", "Every key, the revoked ones too", "Keys", errors=stored)
    made = "$response.body#/id"
    links = {
        "show": _link("key", name=made),
        "rotate": _link("rotate", name=made),
        "revoke": _link("revoke", name=made),
    }
    created = json_answer("The key, with its text, this once", ref("NewKey"), links=links)
    yield (
        "/keys",
        "post",
        Operation(
            id="create",
            tag="Keys",
            summary="Make one",
            body=json_body(_declaration()),
            answers={"201": created},
            errors=(Conflict, *stored),
            guard=GUARD,
        ),
    )
    named = {"parameters": (_KEY,), "errors": (NotFound, Conflict, *stored)}
    yield "/keys/{name}", "get", _shown("key", "Keys", "One of them", "Key", **named)
    yield "/keys/{name}", "delete", _shown("revoke", "Keys", "Revoke it, at once", "Key", **named)
    keep = json_body(record({}, optional={"keep_old": maybe(_lifetime())}), required=False)
    yield "/keys/{name}/rotate", "post", _shown("rotate", "Keys", "Give it a new secret", "NewKey", body=keep, **named)


def _lifetime() -> Schema:
    return {**TEXT, "pattern": "^[1-9][0-9]{0,3}(d|w|h|m|s)$", "examples": ["90d"]}


def _declaration() -> Schema:
    """What `read_declaration` reads."""
    limit = maybe({"type": "integer", "minimum": 1, "maximum": 2**53})
    texts = maybe(listed({**TEXT, "minLength": 1, "maxLength": LONGEST_GLOB}, minItems=1, maxItems=MOST_GLOBS))
    name = {**TEXT, "maxLength": LONGEST_NAME, "pattern": "^[A-Za-z0-9][A-Za-z0-9._@:/+-]*$"}
    budget = {**TEXT, "pattern": f"^[1-9]{_DECIMAL}/({'|'.join(PERIODS)})$", "examples": ["50/month"]}
    return record(
        {"name": name},
        optional={
            "models": texts,
            "groups": texts,
            "requests_per_minute": limit,
            "tokens_per_minute": limit,
            "max_concurrent": limit,
            "budget": maybe(budget),
            "expires": maybe(_lifetime()),
            "priority": maybe(one_of(PRIORITIES)),
            "names_callers": maybe(FLAG),
        },
    )


# The dashboard.


def _dashboard() -> Iterator[Found]:
    place = {"Location": said("the page", required=True)}
    moved = {"description": "To the page with its `/`", "headers": place, "content": {"text/html": {"schema": TEXT}}}
    answers = {"308": moved, "401": _sign_in()}
    yield "", "get", Operation(id="moved", tag="Dashboard", summary="To the dashboard", answers=answers, guard=PAGE)
    for name, content_type in TYPES.items():
        path = "/" if name == "index.html" else f"/dashboard/{name}"
        yield path, "get", _file(name, content_type.partition(";")[0])
    yield from _session()


def _sign_in() -> Response:
    """What a browser gets that has not signed in."""
    challenge = said("what is asked for", required=True)
    content = {"text/html": {"schema": TEXT}}
    return {"description": "The page to sign in", "headers": {"WWW-Authenticate": challenge}, "content": content}


def _file(name: str, content_type: str) -> Operation:
    headers = {
        "ETag": said("what the file holds", required=True),
        "Content-Security-Policy": said("nothing from elsewhere", {"const": POLICY}, required=True),
    }
    answers: dict[str, Response] = {
        "200": {"description": name, "headers": headers, "content": {content_type: {"schema": TEXT}}},
        "304": {"description": "The same as the caller has", "headers": headers},
        **({"401": _sign_in()} if name == "index.html" else {}),
    }
    unless = in_header("If-None-Match", "The `ETag` of what the caller has.")
    return Operation(
        id=f"dashboard_{name.replace('.', '_')}",
        tag="Dashboard",
        summary=name,
        parameters=(unless,),
        answers=answers,
        guard=PAGE,
    )


def _session() -> Iterator[Found]:
    cookie = {"Set-Cookie": said("opens the page's files, or no longer does", required=True)}
    done = {"204": {"description": "Done", "headers": cookie}}
    for method, summary in (("post", "Sign a browser in"), ("delete", "Sign it out")):
        operation = Operation(id=f"session_{method}", tag="Dashboard", summary=summary, answers=done, guard=GUARD)
        yield "/session", method, operation
