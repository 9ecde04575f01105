"""Finding the model in a form, however its bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import InvalidRequest
from infermux.http.form import FormScanner, boundary_of
from tests._properties import examples

B = b"----abc"


def part(name: bytes, value: bytes, *, more: bytes = b"") -> bytes:
    return b'------abc\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (name, more, value)


END = b"------abc--\r\n"
FILE = part(
    b"file", b"\x00\r\n--not\r\n\r\n------ab\r\n------abcd\r\n", more=b'; filename="model"\r\nContent-Type: a/b'
)


def scan(body: bytes, *cuts: int) -> FormScanner:
    scanner = FormScanner(B)
    for start, end in pairwise((0, *sorted(cuts), len(body))):
        if not scanner.done:
            scanner.feed(body[start:end])
    return scanner


BODIES = {
    "first": part(b"model", b"whisper-1") + FILE + END,
    "last": FILE + part(b"language", b"en") + part(b"model", b"whisper-1") + END,
    "preamble": b"ignored\r\n" + FILE + part(b"model", b"whisper-1") + END + b"epilogue",
    "padded": FILE.replace(b"------abc\r\n", b"------abc \t\r\n", 1) + part(b"model", b"whisper-1") + END,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_the_model_is_found_with_its_place(body: bytes) -> None:
    scanner = scan(body)
    assert (scanner.model, scanner.done) == ("whisper-1", True)
    assert body[scanner.start : scanner.end] == b"whisper-1"


@settings(max_examples=examples(80), deadline=None)
@given(st.sampled_from(sorted(BODIES)), st.lists(st.integers(0, 400), max_size=8))
def test_the_cuts_make_no_difference(which: str, cuts: list[int]) -> None:
    body = BODIES[which]
    scanner = scan(body, *(min(cut, len(body)) for cut in cuts))
    assert (scanner.model, body[scanner.start : scanner.end]) == ("whisper-1", b"whisper-1")


def test_byte_by_byte_is_enough() -> None:
    for body in BODIES.values():
        assert scan(body, *range(len(body))).model == "whisper-1"


@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=300), st.text(max_size=40), st.booleans())
def test_no_file_is_taken_for_a_model(content: bytes, model: str, first: bool) -> None:
    value = model.encode("utf-8", "replace")
    if b"------abc" in content or b"------abc" in value:
        return
    parts = [part(b"model", value), part(b"file", content)]
    body = b"".join(parts if first else reversed(parts)) + END
    scanner = scan(body, *range(0, len(body), 7))
    assert body[scanner.start : scanner.end] == value
    assert scanner.model == value.decode()


def test_a_form_without_a_model_ends_without_one() -> None:
    scanner = scan(FILE + END)
    assert (scanner.model, scanner.done) == (None, True)
    assert not scan(FILE).done


def test_a_model_that_looks_like_a_boundary_is_kept_whole() -> None:
    value = b"a\r\n------abcd\r\nb"
    assert scan(part(b"model", value) + END).model == value.decode()


def test_an_empty_model_is_empty() -> None:
    scanner = scan(part(b"model", b"") + END)
    assert (scanner.model, scanner.done) == ("", True)


@pytest.mark.parametrize(
    "body",
    [
        part(b"model", b"m" * 1025) + END,
        part(b"model", b"m" * 9000),
        part(b"model", b"\xff") + END,
        b"------abc\r\n" + b"X: y\r\n" * 5000,
    ],
)
def test_what_is_out_of_bounds_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        scan(body, *range(0, len(body), 1000))


def test_a_part_without_headers_is_no_model() -> None:
    assert scan(b"------abc\r\n\r\nx\r\n" + part(b"model", b"m") + END).model == "m"


def test_what_is_kept_does_not_grow_with_the_file() -> None:
    scanner = FormScanner(B)
    scanner.feed(part(b"file", b"")[:-2])
    for _ in range(100):
        scanner.feed(b"x" * 10_000)
    assert len(vars(scanner)["_buffer"]) < 20_000


@pytest.mark.parametrize(
    ("declared", "boundary"),
    [(b"multipart/form-data; boundary=abc", b"abc"), (b'multipart/form-data; charset=x; boundary="a b:c"', b"a b:c")],
)
def test_the_boundary_is_read(declared: bytes, boundary: bytes) -> None:
    assert boundary_of(declared) == boundary


@pytest.mark.parametrize(
    "declared", [b"multipart/form-data", b"multipart/form-data; boundary=", b'm/f; boundary="\xe9"']
)
def test_a_form_needs_a_boundary(declared: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        boundary_of(declared)
    assert caught.value.param == "Content-Type"
