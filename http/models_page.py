"""What callers see of the models: `/v1/models`, in the words of OpenAI's API or of Anthropic's."""

from __future__ import annotations

from typing import Any

from quart import Response, request
from quart_trio import QuartTrio

from infermux.actors.fleet import Fleet
from infermux.actors.key_access import may_use
from infermux.actors.member import Member
from infermux.errors import MethodNotAllowed, ModelNotFound
from infermux.providers.interface import Endpoint

from .admission import admitted
from .exchange import Head
from .inference import ROUTES, Inference
from .passthrough import RULES


def asked_head() -> Head:
    """That of the request that is being answered."""
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
    return Head(request.method.encode(), request.path.encode(), b"", headers)


def add_models(app: QuartTrio, inference: Inference) -> None:
    """`GET /v1/models` and `GET /v1/models/NAME`."""

    for path in (*(route.decode() for route in ROUTES), *RULES):
        # Only for its 405: the inference handler takes every POST before it comes here.
        app.add_url_rule(path, f"inference {path}", _never, methods=["POST"])

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        if "anthropic-version" in request.headers:
            return _anthropic_page(list(_models(inference)))
        return {"object": "list", "data": [_model(name, members) for name, members in _models(inference).items()]}

    @app.get("/v1/models/<path:name>")
    async def model(name: str) -> dict[str, Any]:
        members = _models(inference).get(name)
        if members is None:
            message = f"there is no model {name!r} that you can ask for: GET /v1/models lists those there are"
            raise ModelNotFound(message, param="model")
        return _anthropic_model(name) if "anthropic-version" in request.headers else _model(name, members)


async def _never(rest: str = "") -> Response:
    raise MethodNotAllowed("send it as POST")


def _models(inference: Inference) -> dict[str, list[Member]]:
    """Those that the caller may ask for, with who serves them."""
    found = _all_models(inference.fleet)
    key = admitted(asked_head(), inference.rules.config, inference.keys).key
    if key is None:
        return found
    allows, catalogue = key.stored.allows, inference.fleet.catalogue
    return {name: listed for name, listed in found.items() if may_use(allows, name, Endpoint.CHAT, catalogue)}


def _all_models(fleet: Fleet) -> dict[str, list[Member]]:
    names = fleet.catalogue.names()
    found = {
        name: [fleet.members[e.name] for e in entries if e.name in fleet.members] for name, entries in names.items()
    }
    for name, listed in fleet.listed_models().items():
        found.setdefault(name, listed)
    return found


def _model(name: str, members: list[Member]) -> dict[str, Any]:
    """OpenAI's model object (`openai.types.model.Model`), with the providers as an extra, and what they say of it."""
    owner = members[0].settings.name if members else "infermux"
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": owner,
        "providers": [m.settings.name for m in members],
        **_said(name, members),
    }


def _said(name: str, members: list[Member]) -> dict[str, Any]:
    """What the first provider that says anything of a model says; unknown is left out."""
    known = (member.entry.info(member.settings.model_aliases.get(name, name)) for member in members)
    info = next((found for found in known if found is not None), None)
    if info is None:
        return {}
    shown = {
        "name": info.name or None,
        "context_window": info.context_window,
        "max_output_tokens": info.max_output_tokens,
        "images": info.images,
        "tools": info.tools,
    }
    return {key: value for key, value in shown.items() if value is not None}


def _anthropic_model(name: str) -> dict[str, Any]:
    """Anthropic's model object (`anthropic.types.model_info.ModelInfo`)."""
    return {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}


def _anthropic_page(names: list[str]) -> dict[str, Any]:
    """Anthropic's page of models (`anthropic.pagination.SyncPage`)."""
    first, last = (names[0], names[-1]) if names else (None, None)
    return {"data": [_anthropic_model(name) for name in names], "has_more": False, "first_id": first, "last_id": last}
