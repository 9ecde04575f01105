"""From a body to a run: what every way in does with a request before it is dispatched."""

from __future__ import annotations

from collections.abc import Callable

from infermux.providers.interface import Call, Endpoint
from infermux.providers.peek import peek_chat, prompt_tokens

from .dispatch import Caller, Run
from .fleet import Fleet
from .messages import Want


def chat_run(
    fleet: Fleet,
    body: bytes,
    *,
    caller: Caller | None = None,
    timeout: float | None = None,
    affinity: Callable[[bytes], bytes] | None = None,
) -> Run:
    """A chat completion, ready to begin. Raises InvalidRequest naming the field.

    `timeout` in seconds is the caller's own; `affinity` reads the sticky key from the body.
    """
    peek = peek_chat(body)
    want = Want(
        model=peek.model or "",
        endpoint=Endpoint.CHAT,
        prompt_tokens=prompt_tokens(body),
        max_tokens=peek.completion_bound,
        affinity=affinity(body) if affinity is not None else b"",
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
