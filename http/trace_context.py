"""W3C Trace Context (https://www.w3.org/TR/trace-context/): where a request is in somebody's trace.

A caller's `traceparent` and `tracestate` are always passed on to the provider. Where spans are made here a trace
begins here where the caller brought none, and what a provider is told as its parent is its attempt's own span: the
attempt puts that in the place of the request's (`Call.spans`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import getrandbits
from typing import Final

from infermux.actors.record import Place
from infermux.providers.interface import TRACE_HEADERS

from .exchange import Head

PARENT, STATE = TRACE_HEADERS
LONGEST_STATE: Final = 512  # characters that everybody has to pass on (section 3.3.1.5)

# Version 00 is all of it; a later one may have more after it, and is read as 00 as far as that goes (section 3.2.4).
_FORM: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_PLAIN: Final = re.compile(rb"[\x20-\x7e]*")

Carried = tuple[tuple[bytes, bytes], ...]
"""Headers for the provider."""
Sampler = Callable[[int], bool]
"""Whether a trace that begins here is kept, by its id."""


def place_of(head: Head, sampler: Sampler | None = None) -> tuple[Place | None, Carried]:
    """The place of a request, and the headers that tell it to the provider.

    With `sampler` it has a span of its own. A `traceparent` that is none is as if it was not there, and its
    `tracestate` with it; so are two of them, as W3C's own test suite has it (test_traceparent_included_two_headers).
    """
    given = None if head.is_plain else head.get(PARENT)
    if given is None and sampler is None:
        return None, ()  # nearly always
    alone = sum([name == PARENT for name, _ in head.headers]) == 1
    found = _read(given) if given is not None and alone else None
    if found is None:
        return (None, ()) if sampler is None else _begun(sampler)
    trace, parent, flags = found
    sampled = bool(int(flags, 16) & 1)
    span = parent if sampler is None else f"{_random(64):016x}"
    more = ((STATE, state),) if (state := _state(head)) else ()
    return Place(trace, span, parent, sampled), (_header(trace, span, sampled), *more)


def _read(given: bytes) -> tuple[str, str, str] | None:
    given = given.strip()
    match = _FORM.fullmatch(given)
    if match is None or (match[4] and given.startswith(b"00")):
        return None
    return match[1].decode(), match[2].decode(), match[3].decode()


def _state(head: Head) -> bytes:
    """All lines of it as one, as HTTP allows; "" where it is longer than has to be passed on."""
    state = b",".join([value for name, value in head.headers if name == STATE])
    return state if len(state) <= LONGEST_STATE and _PLAIN.fullmatch(state) else b""


def _begun(sampler: Sampler) -> tuple[Place, Carried]:
    trace, span = _random(128), _random(64)
    sampled = sampler(trace)
    place = Place(f"{trace:032x}", f"{span:016x}", "", sampled)
    return place, (_header(place.trace, place.span, sampled),)


def _header(trace: str, span: str, sampled: bool) -> tuple[bytes, bytes]:
    return PARENT, b"00-%b-%b-%b" % (trace.encode(), span.encode(), b"01" if sampled else b"00")


def _random(bits: int) -> int:
    """Never zero, which means that there is no id."""
    return getrandbits(bits) or 1
