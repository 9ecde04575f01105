"""Our own sealed reasoning is cut out of what goes to a provider that could not read it, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.providers.sealed_items import without_sealed_items
from tests._properties import examples

SIGNED: dict[str, Any] = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "infermux:signed:abc"}
REDACTED: dict[str, Any] = {
    "type": "reasoning",
    "id": "rs_2",
    "summary": [],
    "encrypted_content": "infermux:redacted:abc",
}
THEIRS: dict[str, Any] = {"type": "reasoning", "id": "rs_3", "summary": [], "encrypted_content": "gAAAA"}
SAID = {"role": "user", "content": 'he wrote "infermux:signed:abc", you know'}
ODD = {"type": "message", "role": "user", "content": "x", "encrypted_content": "infermux:signed:abc"}


def request(*items: Any, **layout: Any) -> bytes:
    return json.dumps({"model": "m", "input": list(items), "x": 1.50}, **layout).encode()


@pytest.mark.parametrize("layout", [{}, {"indent": 2}, {"separators": (",", ":")}])
@pytest.mark.parametrize(
    ("items", "left"),
    [
        ([SIGNED], []),
        ([SIGNED, REDACTED], []),
        ([SAID, SIGNED, THEIRS], [SAID, THEIRS]),
        ([SIGNED, SAID], [SAID]),
        ([SAID, REDACTED], [SAID]),
    ],
)
def test_sealed_items_are_cut_out(items: list[Any], left: list[Any], layout: dict[str, Any]) -> None:
    assert json.loads(without_sealed_items(request(*items, **layout)))["input"] == left


def test_every_other_byte_stays() -> None:
    body = b'{ "input" : [ {"a":1.50 } ,\n %b , "\\u00e9" ], "temperature":1.0 }'
    assert without_sealed_items(body % json.dumps(SIGNED).encode()) == (
        b'{ "input" : [ {"a":1.50 } , "\\u00e9" ], "temperature":1.0 }'
    )


@pytest.mark.parametrize(
    "body",
    [
        request(SAID, THEIRS),
        request(ODD),
        b'{"input":"\\"infermux:signed:x\\""}',
        b'{"instructions":"infermux:signed:x"}',
        b'{"instructions":"infermux:signed:x","input":"hi"}',
        b'{"instructions":"infermux:signed:x","input":[]}',
        b'["infermux:signed:x"]',
        b'{"x":"infermux:signed:',
    ],
)
def test_a_body_without_sealed_items_is_the_same_object(body: bytes) -> None:
    assert without_sealed_items(body) is body


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.sampled_from([SIGNED, REDACTED, THEIRS, SAID, ODD, "x", 1, [1]])), st.sampled_from([None, 1]))
def test_what_is_left_is_what_was_not_sealed(items: list[Any], indent: int | None) -> None:
    left = json.loads(without_sealed_items(request(*items, indent=indent)))
    assert left == {"model": "m", "input": [item for item in items if item not in (SIGNED, REDACTED)], "x": 1.5}
