"""From a body to a run: what every way in does with a request before it is dispatched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from infermux.providers.interface import Call, Endpoint
from infermux.providers.peek import check_preferences, peek_chat, prompt_tokens
from infermux.providers.peek_endpoints import PEEKS, Peek, ResponsePeek, beginning, estimated_prompt
from infermux.providers.peek_needs import has_images, has_tools
from infermux.secret import Secret

from .caller import Caller
from .dispatch import Run
from .fleet import Fleet
from .identity import NOBODY, Identity
from .messages import Priority, Want

_CHAT: Final = Endpoint.CHAT  # a member of an enum is looked up in Python code


def request_run(
    fleet: Fleet,
    endpoint: Endpoint,
    body: bytes,
    *,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    strict: bool = False,
    caller: Caller | None = None,
    timeout: float | None = None,
    affinity: Callable[[bytes], bytes] | None = None,
    priority: Priority = Priority.DEFAULT,
    who: Identity = NOBODY,
    lent: Secret | None = None,
    now: float | None = None,
) -> Run:
    """A request, ready to begin. Raises InvalidRequest naming the field.

    `headers` are the caller's that go along with its dialect; `strict`: what a translation cannot carry is refused;
    `timeout` in seconds is the caller's own; `affinity` reads the sticky key. Without it a request has one where some
    provider has several keys: what its conversation begins with. `priority` is its class where requests wait, `who`
    asks. `lent` is the caller's own credential for providers that go without one. `now` is the time, for who has just
    looked.
    """
    peek, prompt = _read(endpoint, body)
    response = peek if endpoint is not _CHAT and isinstance(peek, ResponsePeek) else None
    previous = None if response is None else response.previous_response_id
    judged = fleet.catalogue.is_judged
    # By position: to find so many fields by their names takes ten times as long.
    want = Want(
        peek.model or "",
        endpoint,
        prompt,
        peek.completion_bound,
        _affinity(fleet, endpoint, body, affinity),
        peek.provider,
        priority,
        who,
        previous,
        None if previous is None else fleet.homes.find(previous, trio.current_time()),
        judged and has_images(endpoint, body),
        judged and has_tools(body),
    )
    call = Call(
        endpoint,
        body,
        want.model,
        peek.model,
        bool(peek.stream),
        peek.asked_usage,
        ("provider",) if peek.provider is not None else (),
        headers,
        strict,
        lent,
        response is not None and response.is_stateful,
    )
    stored = response is not None and response.is_stored
    return fleet.run(want, call, caller=caller, timeout=timeout, stored=stored, now=now)


def _read(endpoint: Endpoint, body: bytes) -> tuple[Peek, int]:
    """What routing needs of a body, and how many tokens its prompt may have."""
    if endpoint is _CHAT:
        return peek_chat(body), prompt_tokens(body)
    peek = PEEKS[endpoint](body)
    prompt = estimated_prompt(peek, body)
    check_preferences(peek.provider)
    return peek, prompt


def _affinity(fleet: Fleet, endpoint: Endpoint, body: bytes, given: Callable[[bytes], bytes] | None) -> bytes:
    if given is not None:
        return given(body)
    return beginning(endpoint, body) if fleet.shares_keys else b""


def chat_run(fleet: Fleet, body: bytes, *, timeout: float | None = None) -> Run:
    """A chat completion, ready to begin; see `request_run`."""
    return request_run(fleet, Endpoint.CHAT, body, timeout=timeout)
