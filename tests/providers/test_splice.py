from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.providers.splice import Splicer, member, merge_defaults, splice, splice_nested
from tests._properties import examples

KEYS = st.sampled_from(["model", "messages", "provider", "stream_options", "a", "\u00e9", 'q"\\', ""])
SCALARS = st.none() | st.booleans() | st.integers(-99, 99) | st.floats(allow_nan=False) | st.text(max_size=8)
TRICKY = st.sampled_from(['"model"', '{"model":1}', '\\"', "}],{[", ',"model":', "\\", "\ud7ff"])
VALUES = st.recursive(
    SCALARS | TRICKY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | TRICKY, inner, max_size=3),
    max_leaves=12,
)
BLANKS = st.text(" \t\n\r", max_size=2)


def spelled(draw: st.DrawFn, key: str) -> str:
    """A key as JSON may write it: any character may be an escape."""
    if draw(st.booleans()):
        return json.dumps(key)
    return '"' + "".join(f"\\u{ord(char):04x}" if draw(st.booleans()) else json.dumps(char)[1:-1] for char in key) + '"'


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """An object's text: keys possibly twice, possibly escaped, white space anywhere."""
    members = draw(st.lists(st.tuples(KEYS, VALUES), max_size=5))
    pieces = [
        "".join((draw(BLANKS), spelled(draw, key), draw(BLANKS), ":", draw(BLANKS),
                 json.dumps(value, ensure_ascii=draw(st.booleans())), draw(BLANKS)))
        for key, value in members
    ]  # fmt: skip
    inside = ",".join(pieces) or draw(BLANKS)
    return "".join((draw(BLANKS), "{", inside, "}", draw(BLANKS))).encode()


@settings(max_examples=examples(50), deadline=None)
@given(objects(), st.dictionaries(KEYS, VALUES, max_size=3), st.sets(KEYS, max_size=2))
def test_splicing_is_setting_and_deleting_in_a_dictionary(
    body: bytes, changes: dict[str, Any], remove: set[str]
) -> None:
    result = splice(body, {key: json.dumps(value).encode() for key, value in changes.items()}, remove)
    expected = {key: value for key, value in json.loads(body).items() if key not in remove} | changes
    assert json.loads(result) == expected
    for key in changes:  # also for a parser that takes the first of two
        pairs: list[tuple[str, Any]] = json.loads(result, object_pairs_hook=list)
        assert all(dict_of(value) == dict_of(expected[name]) for name, value in pairs if name == key)


def dict_of(value: Any) -> str:
    """Objects and their lists of pairs, told from nothing else by their text alone."""
    return json.dumps(value) if not isinstance(value, list | dict) else "container"


@settings(max_examples=examples(40), deadline=None)
@given(objects(), KEYS, VALUES)
def test_all_bytes_but_the_value_stay(body: bytes, key: str, value: Any) -> None:
    text = json.dumps(value).encode()
    before = member(body, key)
    after = splice(body, {key: text})
    if before is None:
        head, _, tail = body.rpartition(b"}")
        kept = head.rstrip(b" \t\n\r")
        assert after.startswith(kept)
        assert after.endswith(head[len(kept) :] + b"}" + tail)
        assert member(after, key) == text
        assert len(after) - len(body) - len(text) in (len(json.dumps(key)) + 1, len(json.dumps(key)) + 2)
    elif text != before:
        back = splice(after, {key: before})
        assert back == body or len(json.loads(body, object_pairs_hook=list)) > len(json.loads(body))


@settings(max_examples=examples(40), deadline=None)
@given(objects(), st.dictionaries(KEYS, VALUES, max_size=4))
def test_defaults_never_win(body: bytes, extra: dict[str, Any]) -> None:
    result = merge_defaults(body, {key: json.dumps(value).encode() for key, value in extra.items()})
    assert json.loads(result) == extra | json.loads(body)


@settings(max_examples=examples(50), deadline=None)
@given(st.text('{}[]",:\\ abu01', max_size=30).map(str.encode), KEYS)
def test_text_that_is_no_object_never_hangs_or_crashes(body: bytes, key: str) -> None:
    with contextlib.suppress(ValueError):
        splice(body, {key: b"1"}, ("a",))
    with contextlib.suppress(ValueError):
        member(body, key)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", b'{"m":1}'),
        (b" { } ", b' {"m":1 } '),
        (b'{"a": 1.50e+3, "b":[1 , 2]}', b'{"a": 1.50e+3, "b":[1 , 2],"m":1}'),
        (b'{\n  "m": "x",\n  "a": 2\n}\n', b'{\n  "m": 1,\n  "a": 2\n}\n'),
        (b'{\n  "a": 2\n}\n', b'{\n  "a": 2,"m":1\n}\n'),
        (b'{"a":{"m":2},"m":{"m":3}}', b'{"a":{"m":2},"m":1}'),
        (b'{"m":2,"a":"}","m":3}', b'{"m":1,"a":"}","m":1}'),
        (rb'{"\u006d":2}', rb'{"\u006d":1}'),
        (rb'{"a":"\"m\":5,","m":2}', rb'{"a":"\"m\":5,","m":1}'),
    ],
)
def test_a_member_is_set_in_place_or_at_the_end(body: bytes, expected: bytes) -> None:
    assert splice(body, {"m": b"1"}) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"m":1}', b"{}"),
        (b'{"m":1,"a":2}', b'{"a":2}'),
        (b'{"a":2, "m":{"m":[]} }', b'{"a":2}'),
        (b'{"a":2, "m":1, "b":3}', b'{"a":2, "b":3}'),
        (b'{"m":1,"m":2}', b"{}"),
        (b'{"m":1,"a":",}","m":2}', b'{"a":",}"}'),
        (b'{"a":2}', b'{"a":2}'),
    ],
)
def test_a_member_goes_with_its_comma(body: bytes, expected: bytes) -> None:
    assert splice(body, {}, ("m",)) == expected


def test_what_is_removed_may_be_all_that_was_there() -> None:
    assert splice(b'{"m":1}', {"a": b"2"}, ("m",)) == b'{"a":2}'
    assert splice(b'{"m":1, "b":2}', {"a": b"2", "b": b"3"}, ("m",)) == b'{ "b":3,"a":2}'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a":1}', b'{"a":1,"s":{"u":true}}'),
        (b'{"s":null}', b'{"s":{"u":true}}'),
        (b'{"s": {} }', b'{"s": {"u":true} }'),
        (b'{"s":{"x": 1,"u": false}}', b'{"s":{"x": 1,"u": true}}'),
        (b'{"s":7}', b'{"s":7}'),
        (b'{"s":["u"]}', b'{"s":["u"]}'),
    ],
)
def test_a_nested_member_is_set_where_its_parent_allows(body: bytes, expected: bytes) -> None:
    assert splice_nested(body, ("s", "u"), b"true") == expected


def test_a_path_may_be_of_any_length() -> None:
    assert splice_nested(b"{}", ("a",), b"1") == b'{"a":1}'
    assert splice_nested(b'{"a":{"b":null}}', ("a", "b", "c"), b"1") == b'{"a":{"b":{"c":1}}}'


def test_changes_see_each_other() -> None:
    splicer = Splicer(b'{"m":1,"s":{}}')
    splicer.set("m", b"2")
    splicer.set_default("m", b"3")
    splicer.set_default("n", b"4")
    splicer.set_nested(("s", "a"), b"5")
    splicer.set_nested(("s", "b"), b"6")
    assert (splicer.get("m"), splicer.get("n"), splicer.get("x")) == (b"2", b"4", None)
    splicer.remove("n")
    assert splicer.get("n") is None
    splicer.set_default("n", b"7")
    assert splicer.render() == b'{"m":2,"s":{"a":5,"b":6},"n":7}'


def test_nothing_to_change_gives_the_same_object() -> None:
    body = b'{"a":1}'
    assert splice(body, {}, ("m",)) is body


def test_nesting_costs_no_stack() -> None:
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b',"m":1}'
    assert splice(deep, {"m": b"2"}) == deep[:-2] + b"2}"
    assert splice(b'{"a":' + b'{"m":' * 5000 + b"1" + b"}" * 5001, {"m": b"2"}).endswith(b'}},"m":2}')


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'"{}"', b"{", b"}", b'{"a"}', b'{"a":}', b'{"a":1,}', b'{"a":1', b'{"a":[}', b"{}{}"]
)
def test_what_is_not_an_object_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        splice(body, {"m": b"1"})


def test_lone_surrogates_in_keys_are_no_obstacle() -> None:
    assert splice(rb'{"\ud800":1,"m":2}', {"m": b"3"}) == rb'{"\ud800":1,"m":3}'
