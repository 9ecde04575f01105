"""What is routed by its model and otherwise passed through: images, audio, moderations, rerank."""

from __future__ import annotations

import re
from typing import Final

from infermux.actors.dispatch import Run
from infermux.actors.fleet import Fleet
from infermux.actors.identity import NOBODY, Identity
from infermux.actors.messages import Priority, Want
from infermux.errors import InvalidRequest, NotFound, UnsupportedMediaType
from infermux.providers.interface import Call, Endpoint
from infermux.providers.peek import check_preferences, prompt_tokens
from infermux.providers.peek_endpoints import PassedPeek, peek_passed
from infermux.secret import Secret

from .exchange import Exchange, Head
from .upload import read_form

PREFIXES: Final = (b"/v1/images/", b"/v1/audio/", b"/v1/moderations", b"/v1/rerank")
RULES: Final = ("/v1/images/<path:rest>", "/v1/audio/<path:rest>", "/v1/moderations", "/v1/rerank")
"""The same paths, for a router of URLs."""

_PATH: Final = re.compile(rb"/v1(/(images|audio)(?:/[0-9A-Za-z_-]+)+|/(moderations|rerank))")
_ENDPOINTS: Final = {
    b"images": Endpoint.IMAGES,
    b"audio": Endpoint.AUDIO,
    b"moderations": Endpoint.MODERATIONS,
    b"rerank": Endpoint.RERANK,
}
_QUERY: Final = re.compile(rb"[0-9A-Za-z_\-.~%&=+,:]*")
# What the API takes where the caller names no model (https://platform.openai.com/docs/api-reference/moderations).
_DEFAULTS: Final = {Endpoint.MODERATIONS: "omni-moderation-latest"}
_ABOUT_BODIES: Final = (b"content-type", b"accept")
_FORM: Final = b"multipart/form-data"


async def passed_run(
    fleet: Fleet,
    exchange: Exchange,
    *,
    timeout: float | None,
    affinity: bytes,
    betas: tuple[tuple[bytes, bytes], ...],
    priority: Priority = Priority.DEFAULT,
    who: Identity = NOBODY,
    lent: Secret | None = None,
) -> Run:
    """A request that is passed through, ready to begin; read as far as its model. Whoever runs it closes its upload.

    Raises NotFound, UnsupportedMediaType, InvalidRequest, and what reading a body raises.
    """
    head = exchange.head
    endpoint, path = _place(head)
    headers = (*(pair for pair in head.headers if pair[0] in _ABOUT_BODIES), *betas)
    content_type = head.get(b"content-type") or b"application/json"
    if content_type[: len(_FORM)].lower() == _FORM:
        upload = await read_form(exchange, content_type)
        peek = PassedPeek(model=upload.scanner.model)
        body = b""
    elif b"json" in content_type.lower():
        upload, body = None, await exchange.body()
        peek = peek_passed(body)
        check_preferences(peek.provider)
    else:
        raise UnsupportedMediaType("the body must be JSON or a form, sent with `Content-Type: multipart/form-data`")
    model = peek.model or _DEFAULTS.get(endpoint)
    if model is None:
        raise InvalidRequest("model is required: the request is routed by it", param="model")
    want = Want(
        model=model,
        endpoint=endpoint,
        prompt_tokens=prompt_tokens(body),
        max_tokens=0,
        affinity=affinity,
        preferences=peek.provider,
        priority=priority,
        who=who,
    )
    call = Call(
        endpoint=endpoint,
        body=body,
        model=model,
        requested_model=peek.model,
        stream=bool(peek.stream),
        asked_usage=True,
        remove=("provider",) if peek.provider is not None else (),
        headers=headers,
        path=path,
        upload=upload,
        lent=lent,
    )
    return fleet.run(want, call, caller=exchange, timeout=timeout)


def passed_name(path: bytes) -> str:
    """What the endpoint below `path` is called in logs, metrics and the ledger."""
    for word, endpoint in _ENDPOINTS.items():
        if path.startswith(word, len(b"/v1/")):
            return endpoint.name.lower()
    return ""


def _place(head: Head) -> tuple[Endpoint, str]:
    """The endpoint of a path, and what is asked of it there. Raises NotFound for a path that is not plain."""
    found = _PATH.fullmatch(head.path)
    if found is None or _QUERY.fullmatch(head.query) is None:
        raise NotFound(f"there is no POST {head.path.decode('latin-1')[:200]} here")
    below = found[1] + (b"?" + head.query if head.query else b"")
    return _ENDPOINTS[found[2] or found[3]], below.decode("ascii")
