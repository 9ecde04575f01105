"""Who a request is from: by its key, and by headers where those are believed."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from infermux.actors.identity import NOBODY
from infermux.actors.key_table import KeyTable, Known
from infermux.actors.keys import Keys
from infermux.actors.messages import Priority
from infermux.config.settings import AuthMode, AuthSettings, Config
from infermux.errors import InvalidRequest, KeysUnavailable, Unauthorized
from infermux.http.admission import admitted, caller_affinity, identity_of, priority_of
from infermux.http.exchange import Head
from infermux.keys import Allowance, new_key, rotated
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


def test_a_head_that_was_let_in_is_looked_up_again_once_its_key_has_changed() -> None:
    text, stored = new_key(name="team-a", allows=Allowance(), now=0.0, expires_at=100.0)
    wall = [10.0]
    keys = Keys(ref=Any, table=KeyTable(), store=Any, wall=lambda: wall[0])  # type: ignore[arg-type]
    keys.table.adopt([stored], 0.0)
    same, by_keys = head(x_api_key=text.reveal()), config(AuthMode.KEYS)

    def who() -> str:
        return admitted(same, by_keys, keys).who.caller

    assert admitted(same, by_keys, keys) is admitted(same, by_keys, keys)
    keys.table.put(attrs.evolve(stored, name="team-b"), 1.0)
    assert who() == "team-b"
    keys.table.adopt([attrs.evolve(stored, name="team-c")], 2.0)
    assert who() == "team-c"
    wall[0] = 100.0
    with pytest.raises(Unauthorized, match="has expired"):
        who()
    wall[0] = 20.0
    assert who() == "team-c"
    rotated_text, rotated_key = rotated(stored, now=20.0, keep_old=5.0)
    keys.table.put(rotated_key, 20.0)
    assert who() == "team-a"
    wall[0] = 26.0
    with pytest.raises(Unauthorized, match="not this router's"):
        who()
    same = head(x_api_key=rotated_text.reveal())
    assert who() == "team-a"
    keys.table.put(attrs.evolve(rotated_key, revoked_at=26.0), 26.0)
    with pytest.raises(Unauthorized, match="was revoked"):
        who()
    keys.table.adopt([], 27.0)
    with pytest.raises(Unauthorized, match="not this router's"):
        who()


def test_what_a_head_says_of_its_caller_is_read_once_too() -> None:
    text, stored = new_key(name="team-a", allows=Allowance(names_callers=True), now=0.0)
    keys = Keys(ref=Any, table=KeyTable(), store=Any, wall=lambda: 10.0)  # type: ignore[arg-type]
    keys.table.adopt([stored], 0.0)
    same = head(x_api_key=text.reveal(), x_infermux_caller="other", x_infermux_priority="batch")
    first = admitted(same, config(AuthMode.KEYS), keys)
    assert (first.who.caller, first.priority) == ("other", Priority.BATCH)
    keys.table.put(attrs.evolve(stored, allows=Allowance()), 1.0)
    assert admitted(same, config(AuthMode.KEYS), keys).who.caller == "team-a"


def test_callers_are_told_apart_without_their_keys_being_kept() -> None:
    key = known()
    assert caller_affinity(head(), key.who) == b"team-a"
    assert caller_affinity(head(), NOBODY) == b"10.0.0.1"
    one, other = (caller_affinity(head(x_api_key=text), NOBODY) for text in ("sk-secret-1", "sk-secret-2"))
    assert one != other
    assert b"sk-secret" not in one
