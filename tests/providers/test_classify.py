"""From statuses, headers and wordings to failures."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers import bedrock_errors
from infermux.providers.classify import (
    MAX_ERROR_BODY,
    classify,
    classify_in_band,
    mask,
    parse_duration,
    read_error,
    retry_after,
    secrets_of,
)
from infermux.secret import Secret
from tests._properties import examples

NOW = 1_700_000_000.0
WAITS = (b"retry-after", b"retry-after-ms", b"x-ratelimit-reset-tokens")
JSON = {b"content-type": b"application/json"}


def failure(status: int, body: bytes | dict[str, Any] = b"", **headers: str) -> UpstreamFailure:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return classify(status, {**JSON, **given}.get, raw, now=NOW)


def error(message: str, code: Any = None, type_: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "param": None, "code": code}}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, FailureKind.MALFORMED),
        (308, FailureKind.MALFORMED),
        (400, FailureKind.CALLER),
        (401, FailureKind.CREDENTIALS),
        (402, FailureKind.CREDENTIALS),
        (403, FailureKind.CREDENTIALS),
        (404, FailureKind.CALLER),
        (405, FailureKind.CALLER),
        (408, FailureKind.TOTAL_TIMEOUT),
        (409, FailureKind.CALLER),
        (413, FailureKind.CALLER),
        (422, FailureKind.CALLER),
        (429, FailureKind.RATE_LIMITED),
        (500, FailureKind.SERVER_ERROR),
        (502, FailureKind.SERVER_ERROR),
        (503, FailureKind.SERVER_ERROR),
        (504, FailureKind.SERVER_ERROR),
        (529, FailureKind.SERVER_ERROR),
        (599, FailureKind.SERVER_ERROR),
    ],
)
def test_each_status_has_its_kind(status: int, kind: FailureKind) -> None:
    assert failure(status, error("x")).kind is kind


def test_an_empty_account_is_still_rate_limited() -> None:
    limited = failure(429, error("You exceeded your current quota", "insufficient_quota", "insufficient_quota"))
    assert (limited.kind, limited.code) == (FailureKind.RATE_LIMITED, "insufficient_quota")


@pytest.mark.parametrize(
    "body",
    [
        error("The model `gpt-9` does not exist or you do not have access to it.", "model_not_found"),
        error('model "phi" not found, try pulling it first', None, "api_error"),
        {"error": "model 'phi' not found, try pulling it first"},
        error("The API deployment for this resource does not exist.", "DeploymentNotFound"),
        {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404},
        error("No endpoints found for nobody/nothing.", 404),
    ],
)
def test_a_missing_model_is_known_by_code_or_wording(body: dict[str, Any]) -> None:
    assert failure(404, body).kind is FailureKind.MODEL_NOT_FOUND


@pytest.mark.parametrize(
    "body", [b"", b"404 page not found", b'{"detail":"Not Found"}', error("Invalid URL (POST /v7)")]
)
def test_any_other_404_is_the_callers(body: Any) -> None:
    assert failure(404, body).kind is FailureKind.CALLER


def test_a_model_a_project_may_not_use_does_not_condemn_the_provider() -> None:
    body = error("Project `p` does not have access to model `gpt-4o`", "model_not_found")
    assert failure(403, body).kind is FailureKind.MODEL_NOT_FOUND
    assert failure(403, error("Country not supported", "unsupported_country_region_territory")).kind is (
        FailureKind.CREDENTIALS
    )


@pytest.mark.parametrize(
    "body",
    [
        error(
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.", "x"
        ),
        error("too long", "context_length_exceeded"),
        {"object": "error", "message": "This model's maximum context length is 4096 tokens.", "code": 400},
        error("request (9 tokens) exceeds the available context size (8 tokens)", 400, "exceed_context_size_error"),
        error("the input length exceeds the context length"),
        error("The input token count (9) exceeds the maximum number of tokens allowed (8)."),
        error("Trying to keep the first 9 tokens when context the overflows."),
    ],
)
def test_a_context_that_is_too_long_is_known_in_every_wording(body: dict[str, Any]) -> None:
    refused = failure(400, body)
    assert (refused.kind, refused.code) == (FailureKind.CALLER, "context_length_exceeded")


def test_the_callers_errors_keep_body_and_type() -> None:
    refused = classify(422, {b"content-type": b"text/plain"}.get, b"no such tool", now=NOW)
    assert (refused.body, refused.content_type, refused.status) == (b"no such tool", b"text/plain", 422)
    assert refused.message == "answered 422: no such tool"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": " 1.5 "}, 1.5),
        ({"retry_after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({"retry_after": "Tue, 14 Nov 2023 22:13:10 GMT"}, 0.0),
        ({"retry_after_ms": "1500", "retry_after": "9"}, 1.5),
        ({"retry_after": "soon", "x_ratelimit_reset_requests": "6m0s"}, 360.0),
        ({"x_ratelimit_reset_requests": "1s", "x_ratelimit_reset_tokens": "6ms"}, 0.006),
        (
            {
                "x_ratelimit_reset_requests": "1s",
                "x_ratelimit_remaining_requests": "0",
                "x_ratelimit_reset_tokens": "6ms",
                "x_ratelimit_remaining_tokens": "17",
            },
            1.0,
        ),
        ({"x_ratelimit_reset_tokens": "12"}, 12.0),
        ({"retry_after": "99999999"}, 86400.0),
        ({"retry_after": "-5"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "inf"}, None),
        ({"x_ratelimit_reset_tokens": "later"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait_is_read_from_every_header(headers: dict[str, str], seconds: float | None) -> None:
    assert failure(429, b"", **headers).retry_after == (None if seconds is None else pytest.approx(seconds))


def test_only_failures_that_time_cures_have_a_wait() -> None:
    assert failure(503, retry_after="3").retry_after == 3.0
    assert failure(400, retry_after="3").retry_after is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6m0s", 360.0), ("1.5s", 1.5), ("250ms", 0.25), ("1h2m3s", 3723.0), ("12", 12.0), ("0s", 0.0), ("1d", 86400.0)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "1x", "1s2", "-1s", "1 s", "٣s", "ß"])
def test_other_words_are_no_durations(text: str) -> None:
    assert parse_duration(text) is None


@pytest.mark.parametrize(
    ("body", "message", "code", "status"),
    [
        (b'{"error":{"message":"m","code":"c"}}', "m", "c", None),
        (b'{"error":"m"}', "m", "", None),
        (b'{"message":"m","code":429}', "m", "", 429),
        (b'{"detail":"m"}', "m", "", None),
        (b'{"detail":[{"loc":["body"]}]}', '[{"loc":["body"]}]', "", None),
        (b'[{"error":{"message":"m","code":404}}]', "m", "", 404),
        (b'{"error":{"message":"m","code":"502"}}', "m", "", 502),
        (b'{"error":{"message":"m","status":"INVALID"}}', "m", "", None),
        (b'{"error":7}', "", "", None),
        (b'"m"', "m", "", None),
        (b"[]", "", "", None),
        (b"plain text", "plain text", "", None),
        (b"\xff\xfe", "\ufffd\ufffd", "", None),
    ],
)
def test_every_shape_of_error_body_is_read(body: bytes, message: str, code: str, status: int | None) -> None:
    info = read_error(body)
    assert (info.message, info.code, info.status) == (message, code, status)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (error("x", "rate_limit_exceeded"), FailureKind.RATE_LIMITED),
        (error("x", None, "insufficient_quota"), FailureKind.RATE_LIMITED),
        (error("x", 529), FailureKind.SERVER_ERROR),
        (error("x", "invalid_api_key"), FailureKind.CREDENTIALS),
        (error("x", None, "overloaded_error"), FailureKind.SERVER_ERROR),
        (error("x", None, "invalid_request_error"), FailureKind.CALLER),
        (error("x", "model_not_found"), FailureKind.MODEL_NOT_FOUND),
        (error("x", "content_filter"), FailureKind.CALLER),
        (error("prompt is too long: 9 tokens"), FailureKind.CALLER),
        (error("x"), FailureKind.SERVER_ERROR),
    ],
)
def test_an_error_inside_a_200_is_what_it_says_it_is(body: dict[str, Any], kind: FailureKind) -> None:
    raw = json.dumps(body).encode()
    found = classify_in_band(body, raw)
    assert found.kind is kind
    assert found.body == raw


def test_secrets_are_masked_in_body_and_message() -> None:
    raw = json.dumps(error('Incorrect API key provided: sk-"canary"/1 (sk-canary-2)')).encode()
    secrets = ('sk-"canary"/1', "sk-canary-2")
    refused = classify(401, JSON.get, raw, now=NOW, secrets=secrets)
    in_band = classify_in_band(json.loads(raw), raw, secrets=secrets)
    for text in (refused.message, str(refused.body), repr(refused), in_band.message, str(in_band.body)):
        assert "canary" not in text
    assert "***" in refused.message


@pytest.mark.parametrize("spelled", [rb"sk-a\/b+\"c", rb"\u0073k-a\u002Fb\u002b\u0022c", b'sk-a/b+"c', rb"sk-a/b+\"c"])
def test_a_secret_is_masked_however_json_spells_it(spelled: bytes) -> None:
    assert mask(b"<" + spelled + b">", ('sk-a/b+"c',)) == b"<***>"


def test_a_secret_beyond_ascii_is_masked_too() -> None:
    secret = "key\u00e9\U0001f511"
    for ensure_ascii in (False, True):
        assert mask(json.dumps(secret, ensure_ascii=ensure_ascii).encode(), (secret,)) == b'"***"'


def test_a_secret_is_masked_in_json_inside_json_and_in_urls() -> None:
    secret = "sk-a/b+c=="
    twice = json.dumps(json.dumps(secret).replace("/", "\\/")).encode()
    assert mask(twice, (secret,)) == b'"\\"***\\""'
    assert mask(json.dumps(twice.decode()).encode(), (secret,)).count(b"***") == 1
    assert mask(b"?key=sk-a%2Fb%2bc%3D%3D&x=1", (secret,)) == b"?key=***&x=1"
    assert mask(b"".join(b"%%%02x" % byte for byte in secret.encode()), (secret,)) == b"***"


def test_of_a_long_secret_its_beginning_is_masked_too() -> None:
    secret = "sk-proj-0123456789abcdef"
    assert mask(b"wrong key: sk-proj-0123********cdef.", (secret,)) == b"wrong key: ***"
    assert mask(b'{"message": "wrong key: sk-proj-01234..."}', (secret,)) == b'{"message": "wrong key: ***"}'
    assert mask(b"keys begin with sk-proj- and more", (secret,)) == b"keys begin with sk-proj- and more"
    assert mask(b"sk-0123456789a", ("sk-0123456789b",)) == b"sk-0123456789a"  # too short to have a beginning


def test_backslashes_in_a_secret_are_found_and_cost_no_time() -> None:
    secret = "a\\\\b\\c" + "\\" * 50 + "k"
    for written in (secret, json.dumps(secret)[1:-1], json.dumps(json.dumps(secret))[3:-3]):
        assert mask(b"<%b>" % written.encode(), (secret,)) == b"<***>"
    assert mask(b"\\" * 5_000, ("\\" * 50 + "k",)) == b"\\" * 5_000


def test_short_secrets_do_not_tear_texts_apart() -> None:
    assert mask(b"a plain text", ("a",)) == b"a plain text"


def test_the_secrets_of_a_provider_are_its_key_and_its_telling_headers() -> None:
    headers = {"X-Api-Key": "k-123456", "Authorization": "Bearer abcdef", "X-Title": "my title"}
    assert set(secrets_of([Secret("sk-1234")], headers)) == {"sk-1234", "k-123456", "Bearer abcdef", "abcdef"}
    assert secrets_of((), {}) == ()


def test_messages_are_short_and_printable() -> None:
    refused = failure(400, error("line\r\none\x1b[31m" + "x" * 2000))
    assert len(refused.message) < 600
    assert refused.message.isprintable()
    assert failure(502, b"<html>bad gateway</html>", content_type="text/html").message == (
        "answered 502 with a page of HTML"
    )
    assert failure(500).message == "answered 500"
    assert "redirect" in failure(302).message


def test_a_body_is_kept_up_to_its_limit() -> None:
    assert len(failure(400, b"x" * (MAX_ERROR_BODY + 1)).body or b"") == MAX_ERROR_BODY


SECRET = 'sk-"canary"/\u00e9\U0001f511-0123'


@pytest.mark.parametrize("spelled", ["as it is", "as JSON", "in ASCII"])
def test_a_secret_at_the_bound_does_not_leak_its_beginning(spelled: str) -> None:
    written = {
        "as it is": SECRET.encode(),
        "as JSON": json.dumps(SECRET, ensure_ascii=False)[1:-1].replace("/", "\\/").encode(),
        "in ASCII": json.dumps(SECRET)[1:-1].encode(),
    }[spelled]
    for shown in range(len(written) + 1):
        body = b"x" * (MAX_ERROR_BODY - shown) + written + b"y" * 100
        for read in (
            classify(401, JSON.get, body, now=NOW, secrets=(SECRET,)),
            classify_in_band({"error": {}}, body, secrets=(SECRET,)),
        ):
            left = (read.body or b"").strip(b"x")
            assert b"-" not in left[3:], (shown, left)


def test_a_refusal_that_broke_off_in_the_middle_of_a_secret_does_not_show_its_beginning() -> None:
    said = b"the token was AKIAcana"
    for read in (classify, bedrock_errors.classify):
        refused = read(403, JSON.get, said, now=NOW, secrets=("AKIAcanary",))
        assert "AKIA" not in f"{refused.message} {refused.body!r}"


def test_a_text_that_ends_like_a_secret_begins_loses_three_letters_to_nobody() -> None:
    assert mask(b"your key is sk-", (SECRET,)) == b"your key is sk-"
    assert mask(b'your key is sk-\\"', (SECRET,)) == b"your key is "


def test_a_code_that_is_a_secret_is_masked_too() -> None:
    body = error("no", code="k-canary-1")
    assert "canary" not in str(classify_in_band(body, json.dumps(body).encode(), secrets=("k-canary-1",)).code)


@settings(max_examples=examples(100), deadline=None)
@given(
    st.integers(100, 599), st.binary(max_size=200) | st.text(max_size=50).map(lambda t: json.dumps(error(t)).encode())
)
def test_no_body_is_too_odd(status: int, body: bytes) -> None:
    assert failure(status, body).status == status


@settings(max_examples=examples(100), deadline=None)
@given(st.dictionaries(st.sampled_from(WAITS), st.binary(max_size=30)))
def test_no_header_is_too_odd(headers: dict[bytes, bytes]) -> None:
    wait = retry_after(headers.get, NOW)
    assert wait is None or 0 <= wait <= 86400
