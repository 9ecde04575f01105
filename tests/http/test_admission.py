"""Who a request is from: by its key, and by headers where those are believed."""

from __future__ import annotations

import pytest

from infermux.actors.identity import NOBODY
from infermux.actors.key_table import Known
from infermux.actors.messages import Priority
from infermux.config.settings import AuthMode, AuthSettings, Config
from infermux.errors import InvalidRequest, KeysUnavailable, Unauthorized
from infermux.http.admission import admitted, caller_affinity, identity_of, priority_of
from infermux.http.exchange import Head
from infermux.keys import Allowance, new_key
from infermux.secret import Secret

SEVENTEEN = ",".join(f"t{i}=v" for i in range(17))


def head(**headers: str) -> Head:
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Head(b"POST", b"/v1/chat/completions", b"", pairs, ("10.0.0.1", 5))


def config(mode: AuthMode, key: str | None = None) -> Config:
    return Config(auth=AuthSettings(mode=mode, key=None if key is None else Secret(key)))


def known(**allows: object) -> Known:
    return Known(new_key(name="team-a", allows=Allowance(**allows), now=0.0)[1])  # type: ignore[arg-type]


def test_who_says_nothing_is_nobody() -> None:
    assert admitted(head(), config(AuthMode.OPEN), None).who is NOBODY


def test_headers_say_who_asks() -> None:
    found = identity_of(head(x_infermux_caller=" team b ", x_infermux_tags="env=prod, team=a b ,q=x=y"))
    assert (found.caller, found.key) == ("team b", "")
    assert found.tags == {"env": "prod", "team": "a b", "q": "x=y"}


@pytest.mark.parametrize("caller", ["", " ", "x" * 129, "a\tb", "é", "infermux", " infermux "])
def test_a_caller_that_is_no_name_is_refused(caller: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        identity_of(head(x_infermux_caller=caller))
    assert refused.value.param == "X-Infermux-Caller"


@pytest.mark.parametrize(
    "tags",
    ["", "a", "a=", "=b", "a=b,", "a=b,a=c", "a b=c", "a=é", "a=" + "b" * 129, "x=" + "y" * 1100, SEVENTEEN],
)
def test_tags_that_are_none_are_refused(tags: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        identity_of(head(x_infermux_tags=tags))
    assert refused.value.param == "X-Infermux-Tags"


def test_a_key_names_the_caller_and_the_header_does_not_unless_the_key_may() -> None:
    key, gateway = known(), known(names_callers=True)
    assert identity_of(head(), key) is key.who
    assert identity_of(head(x_infermux_caller="other"), key) is key.who
    assert identity_of(head(x_infermux_caller="other", x_infermux_tags="a=b"), key).caller == "team-a"
    for said, caller in (({}, "team-a"), ({"x_infermux_caller": "other"}, "other")):
        found = identity_of(head(**said), gateway)
        assert (found.caller, found.key) == (caller, gateway.stored.id)


@pytest.mark.parametrize(
    ("of_key", "asked", "given"),
    [
        (None, None, Priority.DEFAULT),
        (None, "interactive", Priority.INTERACTIVE),
        (None, " BATCH ", Priority.BATCH),
        ("default", None, Priority.DEFAULT),
        ("default", "interactive", Priority.DEFAULT),
        ("default", "batch", Priority.BATCH),
        ("interactive", None, Priority.INTERACTIVE),
        ("interactive", "default", Priority.DEFAULT),
        ("batch", "interactive", Priority.BATCH),
    ],
)
def test_a_header_may_lower_the_class_of_a_key_and_not_raise_it(
    of_key: str | None, asked: str | None, given: Priority
) -> None:
    key = None if of_key is None else known(priority=of_key)
    assert priority_of(head() if asked is None else head(x_infermux_priority=asked), key) is given


def test_a_class_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="interactive, default or batch"):
        priority_of(head(x_infermux_priority="urgent"), known())


def test_passthrough_takes_the_credential_along_and_asks_for_none() -> None:
    passthrough = config(AuthMode.PASSTHROUGH)
    for sent in ({"authorization": "Bearer sk-mine"}, {"x_api_key": "sk-mine"}):
        assert admitted(head(**sent), passthrough, None).lent == Secret("sk-mine")
    without = admitted(head(), passthrough, None).lent
    assert without is not None
    assert not without
    assert "sk-mine" not in repr(admitted(head(x_api_key="sk-mine"), passthrough, None))


@pytest.mark.parametrize("credential", ["a b", "é", "a\x01", "x" * 8193])
def test_a_credential_that_is_no_header_is_refused(credential: str) -> None:
    with pytest.raises(Unauthorized):
        admitted(head(x_api_key=credential), config(AuthMode.PASSTHROUGH), None)


def test_in_no_other_mode_a_credential_is_lent() -> None:
    sent = head(authorization="Bearer sk-mine", x_infermux_caller="c")
    assert admitted(sent, config(AuthMode.OPEN), None).lent is None
    assert admitted(sent, config(AuthMode.STATIC_KEY, "sk-mine"), None).lent is None
    with pytest.raises(Unauthorized):
        admitted(sent, config(AuthMode.STATIC_KEY, "another"), None)


def test_keys_need_a_database() -> None:
    with pytest.raises(KeysUnavailable, match=r"ledger\.url"):
        admitted(head(x_api_key="x"), config(AuthMode.KEYS), None)


def test_callers_are_told_apart_without_their_keys_being_kept() -> None:
    key = known()
    assert caller_affinity(head(), key.who) == b"team-a"
    assert caller_affinity(head(), NOBODY) == b"10.0.0.1"
    one, other = (caller_affinity(head(x_api_key=text), NOBODY) for text in ("sk-secret-1", "sk-secret-2"))
    assert one != other
    assert b"sk-secret" not in one
