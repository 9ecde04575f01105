"""The whole HTTP API as one OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.0), put together when asked for.

It is made of the tables that the routes, the errors and the readers of requests are made of. What stands here beside
them is compared with the running router by tests: every route has a description, every description a route.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import attrs

from infermux import __version__
from infermux.config.settings import AuthMode

from ..polled import METRICS
from ..sign_in import COOKIE
from .bodies import bodies
from .documents import documents
from .inference import GUARD as CALLER
from .inference import inference
from .management import GUARD as MANAGEMENT
from .management import PAGE, management, metrics
from .operation import Operation
from .shared import Shared

_SCHEMES: Final = {
    "managementToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "INFERMUX_MANAGEMENT_TOKEN of the router's environment",
    },
    "managementKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same token"},
    "pageCookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "From POST /_infermux/session: opens the dashboard's own files, and nothing else",
    },
    "callerKey": {"type": "http", "scheme": "bearer", "description": "`auth.key`, or a key that was handed out"},
    "callerApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same key"},
}
_TAGS: Final = {
    "Inference": "What the router itself reads of a body; everything else goes to the provider as it was written",
    "Passed through": "Routed by model, otherwise untouched",
    "Models": "",
    "Router": "",
    "Providers": "",
    "Requests": "",
    "Cache": "",
    "Money": "",
    "Keys": "",
    "Metrics": "",
    "Dashboard": "A page of its own files, and signing in to it",
}


def description(*, mode: AuthMode, token: bool, prefix: str, separate: bool) -> dict[str, Any]:
    """Of a router with that `auth.mode`; `token`: management asks for one; `separate`: it has its own address."""
    managers = _management_security(token)
    cookie: dict[str, list[str]] = {"pageCookie": []}
    security = {
        MANAGEMENT: managers,
        PAGE: [*managers, cookie] if managers else [],
        CALLER: _caller_security(mode),
    }
    shared = Shared()
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for path, method, operation in _operations(prefix, separate=separate):
        paths[path][method] = shared.told(operation.described(security))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "infermux",
            "version": __version__,
            "summary": "An LLM inference router: inference below /v1, management below /_infermux/",
            "description": _about(separate=separate),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, **({"description": what} if what else {})} for name, what in _TAGS.items()],
        "paths": dict(paths),
        "components": {
            "schemas": {**documents(), **bodies()},
            "responses": shared.responses,
            "parameters": shared.parameters,
            "securitySchemes": _SCHEMES,
        },
    }


def _operations(prefix: str, *, separate: bool) -> Iterator[tuple[str, str, Operation]]:
    yield from inference()
    for path, method, operation in management():
        yield f"{prefix}{path}", method, operation
    if separate:
        yield METRICS, "get", attrs.evolve(metrics(), id="metrics_at_the_root")


def _about(*, separate: bool) -> str:
    host = (
        "Requests whose Host is not this router's, or with a foreign Origin, are refused with 403. GET answers HEAD "
        "too; any other method is 405 with `Allow`."
    )
    where = " Everything below /v1 is at `listen` of the configuration, the rest at `management_listen`."
    return host + (where if separate else "")


def _management_security(token: bool) -> list[dict[str, list[str]]]:
    return [{"managementToken": []}, {"managementKey": []}] if token else []


def _caller_security(mode: AuthMode) -> list[dict[str, list[str]]]:
    """`passthrough` takes a credential for the provider, and does not ask for one."""
    schemes: list[dict[str, list[str]]] = [{"callerKey": []}, {"callerApiKey": []}]
    match mode:
        case AuthMode.OPEN:
            return []
        case AuthMode.PASSTHROUGH:
            return [{}, *schemes]
        case AuthMode.STATIC_KEY | AuthMode.KEYS:
            return schemes
