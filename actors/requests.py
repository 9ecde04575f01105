"""From a body to a run: what every way in does with a request before it is dispatched."""

from __future__ import annotations

from infermux.errors import InvalidRequest
from infermux.providers.interface import Call, Endpoint
from infermux.providers.peek import peek_chat

from .dispatch import Caller, Run
from .fleet import Fleet
from .messages import Want

AFFINITY_BYTES = 2048  # of the messages: enough to tell conversations apart, the same while they grow


def chat_run(
    fleet: Fleet,
    body: bytes,
    *,
    caller: Caller | None = None,
    timeout: float | None = None,
    affinity: bytes = b"",
) -> Run:
    """A chat completion, ready to begin. Raises InvalidRequest naming the field."""
    peek = peek_chat(body)
    if timeout is not None and not timeout > 0:
        raise InvalidRequest("X-Infermux-Timeout must be longer than 0")
    want = Want(
        model=peek.model or "",
        endpoint=Endpoint.CHAT,
        prompt_tokens=peek.prompt_tokens,
        max_tokens=peek.completion_bound,
        affinity=affinity,
        preferences=peek.provider,
    )
    call = Call(
        endpoint=Endpoint.CHAT,
        body=body,
        model=want.model,
        requested_model=peek.model,
        stream=bool(peek.stream),
        asked_usage=peek.asked_usage,
        remove=("provider",) if peek.provider is not None else (),
    )
    return fleet.run(want, call, caller=caller, timeout=timeout)
