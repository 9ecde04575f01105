"""Lines cut out of bytes, and the pure parts of the protocol as properties."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.classify import classify
from infermux.providers.process.failures import STATUS_OF_CODE, error_of, failure_of
from infermux.providers.process.lines import LineBuffer, LineTooLong
from infermux.providers.process.messages import Chunk, Error, encode, one_line, read_asked, read_said

PAGE = (Path(__file__).parents[3] / "docs" / "provider-protocol.md").read_text(encoding="utf-8")
OF_ROUTER = {"hello", "list_models", "invoke", "cancel", "ping"}


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b""))), st.binary(max_size=5), st.data())
def test_lines_are_the_same_whatever_the_chunks(lines: list[bytes], rest: bytes, data: st.DataObject) -> None:
    rest = rest.replace(b"\n", b"")
    whole = b"".join(line + b"\n" for line in lines) + rest
    buffer, found, at = LineBuffer(), list[bytes](), 0
    while at < len(whole):
        size = data.draw(st.integers(1, 9))
        found += buffer.feed(whole[at : at + size])
        at += size
    assert found == lines
    assert buffer.pending == len(rest)


@pytest.mark.parametrize(
    "pieces", [[b"x" * 11], [b"x" * 11 + b"\n"], [b"x" * 6, b"x" * 6], [b"x" * 6, b"x" * 6 + b"\n"]]
)
def test_a_line_over_the_limit_is_refused(pieces: list[bytes]) -> None:
    buffer = LineBuffer(limit=10)
    with pytest.raises(LineTooLong):  # noqa: PT012 - whichever piece it is
        for piece in pieces:
            buffer.feed(piece)
    assert buffer.pending == 0
    assert buffer.feed(b"x" * 10 + b"\nab\n") == [b"x" * 10, b"ab"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50)
@given(json_values, st.sampled_from([None, 1, "\t"]))
def test_json_on_one_line_is_the_same_json(value: object, indent: int | str | None) -> None:
    written = json.dumps(value, indent=indent).replace("\n", "\r\n").encode()
    assert json.loads(one_line(written)) == value
    assert b"\n" not in one_line(written)


@settings(max_examples=40)
@given(
    st.sampled_from([400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 529]),
    st.text(max_size=40),
    st.sampled_from(["", "context_length_exceeded", "model_not_found", "odd"]),
    st.none() | st.floats(0, 100).map(lambda seconds: round(seconds, 3)),
)
def test_a_failure_over_http_is_the_same_failure_out_of_a_process(
    status: int, message: str, code: str, wait: float | None
) -> None:
    body = json.dumps({"error": {"message": message, "type": "t", "param": None, "code": code or None}}).encode()
    headers = {b"content-type": b"application/json"}
    if wait is not None:
        headers[b"retry-after"] = str(wait).encode()
    told = classify(status, headers.get, body, now=0.0)
    again = failure_of(_over_the_wire(error_of(told)))
    assert (again.kind, again.status, again.retry_after, again.message) == (
        told.kind,
        told.status,
        told.retry_after,
        told.message,
    )
    assert told.code in (again.code, None)
    assert json.loads(again.body or b"") == json.loads(body)


@pytest.mark.parametrize("kind", list(FailureKind))
def test_a_failure_of_any_kind_keeps_it(kind: FailureKind) -> None:
    told = UpstreamFailure(kind, "how it was", status=None)
    assert failure_of(_over_the_wire(error_of(told))).kind is kind


def _over_the_wire(error: Error) -> Error:
    said = read_said(encode(error))
    assert isinstance(said, Error)
    return said


def test_every_message_on_the_page_is_one() -> None:
    examples = [line for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    kinds = [json.loads(line)["type"] for line in examples]
    assert set(kinds) == {*OF_ROUTER, "models", "started", "chunk", "end", "error", "pong"}
    for number, (kind, line) in enumerate(zip(kinds, examples, strict=True)):
        asked = kind in OF_ROUTER and not (kind == "hello" and '"version":' in line)
        read = read_asked if asked else read_said
        assert json.loads(encode(read(line.encode()))).items() >= {"type": kind}.items(), number


def test_every_code_is_on_the_page_with_its_status() -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| ([\d, none]+) \|", PAGE, re.MULTILINE)
    told = dict[str, str]()
    for codes, statuses in rows:
        names = re.findall(r"`([a-z_]+)`", codes)
        of_each = statuses.split(", ")
        told |= dict(zip(names, of_each if len(of_each) == len(names) else of_each * len(names), strict=False))
    assert {code: told.get(code) for code in STATUS_OF_CODE} == {c: str(s) for c, s in STATUS_OF_CODE.items()}


def test_the_program_on_the_page_is_the_example() -> None:
    example = (Path(__file__).parents[3] / "examples" / "echo" / "provider.py").read_text(encoding="utf-8")
    assert example.strip() in PAGE


def test_what_is_raw_stays_as_it_was_written() -> None:
    said = read_said(b'{"type":"chunk","data":{ "a" : 1e2 },"later":[]}')
    assert isinstance(said, Chunk)
    assert bytes(said.data) == b'{ "a" : 1e2 }'
