"""A request's place in a trace: whose span is passed on, and what is no `traceparent`."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.record import Place
from infermux.http.exchange import Head
from infermux.http.trace_context import place_of
from tests._properties import examples

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"00-{TRACE}-{SPAN}-01".encode()


def head(parent: bytes | None, *states: bytes) -> Head:
    lines = [] if parent is None else [(b"traceparent", parent)]
    return Head(b"POST", b"/", b"", [*lines, *((b"tracestate", state) for state in states)])


@pytest.mark.parametrize("second", [GIVEN, GIVEN[:-1] + b"0"])
def test_two_are_as_if_there_was_none(second: bytes) -> None:
    twice = Head(b"POST", b"/", b"", [(b"traceparent", GIVEN), (b"traceparent", second), (b"tracestate", b"a=1")])
    assert place_of(twice) == (None, ())
    place, carried = place_of(twice, lambda trace: True)
    assert place is not None
    assert (place.parent, len(carried)) == ("", 1)
    assert place.trace != TRACE


def test_without_one_there_is_nothing_to_pass_on() -> None:
    assert place_of(head(None)) == (None, ())
    assert place_of(head(None, b"a=1")) == (None, ())


def test_the_callers_is_passed_on_as_it_is() -> None:
    place, carried = place_of(head(GIVEN, b"a=1", b"b=2"))
    assert place == Place(TRACE, SPAN, SPAN)
    assert carried == ((b"traceparent", GIVEN), (b"tracestate", b"a=1,b=2"))


def test_with_spans_of_our_own_the_provider_is_told_of_ours() -> None:
    place, carried = place_of(head(GIVEN), lambda trace: pytest.fail("the caller has decided"))
    assert place is not None
    assert (place.trace, place.parent, place.sampled) == (TRACE, SPAN, True)
    assert place.span != SPAN
    assert carried == ((b"traceparent", f"00-{TRACE}-{place.span}-01".encode()),)


@pytest.mark.parametrize(("kept", "flags"), [(True, b"01"), (False, b"00")])
def test_a_trace_begins_here_where_there_is_none(kept: bool, flags: bytes) -> None:
    place, carried = place_of(head(None), lambda trace: kept)
    assert place is not None
    assert (place.parent, place.sampled) == ("", kept)
    [(name, value)] = carried
    assert name == b"traceparent"
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-" + flags, value)


def test_a_caller_that_does_not_want_it_kept_is_heeded() -> None:
    place, carried = place_of(head(GIVEN[:-1] + b"0"), lambda trace: True)
    assert place is not None
    assert not place.sampled
    assert carried[0][1].endswith(b"-00")


@pytest.mark.parametrize(
    "parent",
    [
        b"",
        b"00",
        GIVEN[:-1],
        GIVEN + b"-more",
        GIVEN.upper(),
        b"ff" + GIVEN[2:],
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        b"\xff" * 55,
    ],
)
def test_what_is_none_is_as_if_it_was_not_there(parent: bytes) -> None:
    assert place_of(head(parent, b"a=1")) == (None, ())


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    place, carried = place_of(head(b"01" + GIVEN[2:] + b"-more"))
    assert place == Place(TRACE, SPAN, SPAN)
    assert carried == ((b"traceparent", GIVEN),)


@pytest.mark.parametrize("state", [b"a=" + b"x" * 600, b"a=\x01", "a=\u00e4".encode()])
def test_a_state_that_cannot_be_passed_on_is_left_out(state: bytes) -> None:
    assert len(place_of(head(GIVEN, state))[1]) == 1


@given(parent=st.binary(max_size=80), state=st.binary(max_size=20))
@settings(max_examples=examples(200), deadline=None)
def test_what_is_passed_on_is_always_well_formed(parent: bytes, state: bytes) -> None:
    for name, value in place_of(head(parent, state), lambda trace: True)[1]:
        assert name in (b"traceparent", b"tracestate")
        assert value.isascii()
        assert value.decode().isprintable()
