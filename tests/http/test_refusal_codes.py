"""A provider's own code is told in the header, where it can stand in one."""

from __future__ import annotations

import pytest

from infermux.actors.verdict import Failed, refusal
from infermux.errors import FailureKind, UpstreamFailure
from infermux.http.errors import error_answer


def headers_of(code: str | None) -> dict[bytes, bytes]:
    failure = UpstreamFailure(FailureKind.CALLER, "no", status=400, code=code, body=b"{}")
    return dict(error_answer(refusal(Failed("one", "m", failure)))[0])


def test_a_providers_own_code_stays() -> None:
    assert headers_of("context_length_exceeded")[b"x-infermux-error"] == b"context_length_exceeded"


@pytest.mark.parametrize("code", [None, "", "two words", "x\r\nset-cookie: a=b", "é", "x" * 65])
def test_a_code_that_is_no_plain_word_is_not_repeated(code: str | None) -> None:
    assert headers_of(code)[b"x-infermux-error"] == b"provider_refusal"
