"""What a key looks like, what is kept of it, and when it is good."""

from __future__ import annotations

import inspect
import re

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.errors import Conflict, NotFound
from infermux.keys import Allowance, StoredKey, digest_of, new_key, pick, read_key, rotated
from tests._properties import examples

NOW = 1_800_000_000.0


def made(name: str = "team", **more: object) -> tuple[bytes, StoredKey]:
    allows = Allowance(**more)  # type: ignore[arg-type]
    text, stored = new_key(name=name, allows=allows, now=NOW)
    return text.reveal().encode(), stored


def is_good(text: bytes, stored: StoredKey, now: float = NOW) -> bool:
    read = read_key(text)
    assert read is not None
    assert read[0] == stored.id
    return stored.is_of(read[1], now)


def test_a_key_is_one_word_that_scanners_of_secrets_can_know() -> None:
    text, stored = made()
    assert re.fullmatch(rb"ifx_[a-z2-7]{12}_[a-z2-7]{52}", text)
    assert text.split(b"_")[1].decode() == stored.id
    assert is_good(text, stored)


def test_no_two_keys_are_alike() -> None:
    keys = [made()[0] for _ in range(200)]
    assert len({key.split(b"_")[1] for key in keys}) == len({key.split(b"_")[2] for key in keys}) == 200


def test_what_is_kept_does_not_have_the_secret_and_does_not_show_its_hash() -> None:
    text, stored = made()
    secret = text.rpartition(b"_")[2].decode()
    assert stored.digest == digest_of(secret.encode())
    assert len(stored.digest) == 32
    for shown in (repr(stored), str(stored.shown(NOW))):
        assert secret not in shown
        assert stored.digest.hex() not in shown
        assert repr(stored.digest) not in shown


@given(st.binary(max_size=90))
@settings(max_examples=examples(200), deadline=None)
def test_what_is_no_key_is_none_whatever_it_is(text: bytes) -> None:
    assert read_key(text) is None


@given(st.integers(min_value=17, max_value=68), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
@settings(max_examples=examples(100), deadline=None)
def test_a_secret_with_one_letter_changed_is_another(at: int, letter: str) -> None:
    text, stored = made()
    changed = text[:at] + letter.encode() + text[at + 1 :]
    assert is_good(changed, stored) is (changed == text)


def test_secrets_are_compared_in_constant_time() -> None:
    source = inspect.getsource(StoredKey.is_of)
    assert source.count("compare_digest") == 2
    assert "==" not in source


def test_a_key_is_good_until_it_expires_or_is_revoked() -> None:
    _, stored = made()
    expiring = attrs.evolve(stored, expires_at=NOW + 10)
    assert [expiring.state(NOW + seconds) for seconds in (0, 9.9, 10)] == ["active", "active", "expired"]
    assert attrs.evolve(expiring, revoked_at=NOW).state(NOW + 20) == "revoked"
    assert stored.state(NOW + 1e9) == "active"


def test_a_rotated_key_has_a_new_secret_and_the_old_one_for_the_overlap() -> None:
    old, stored = made(requests_per_minute=5)
    text, changed = rotated(stored, now=NOW, keep_old=60)
    new = text.reveal().encode()
    assert (changed.id, changed.name, changed.allows) == (stored.id, stored.name, stored.allows)
    assert is_good(new, changed, NOW + 1e9)
    assert is_good(old, changed, NOW + 59.9)
    assert not is_good(old, changed, NOW + 60)
    assert changed.shown(NOW)["old_secret_until"] == "2027-01-15T08:01:00Z"
    assert changed.shown(NOW + 60)["old_secret_until"] is None


def test_without_an_overlap_the_old_secret_ends_at_once_and_so_does_the_one_before() -> None:
    first, stored = made()
    second, once = rotated(stored, now=NOW, keep_old=60)
    _, twice = rotated(once, now=NOW)
    assert not is_good(first, twice)
    assert not is_good(second.reveal().encode(), twice)


@pytest.mark.parametrize(
    ("models", "groups", "model", "group", "allowed"),
    [
        ((), (), "anything", "", True),
        (("gpt-*",), (), "gpt-4o", "", True),
        (("gpt-*",), (), "xgpt-4o", "", False),
        (("gpt-4o",), (), "gpt-4o-mini", "", False),
        (("gpt-4o",), (), "GPT-4o", "", False),
        (("a", "b"), (), "b", "", True),
        ((), ("fast",), "m", "fast", True),
        ((), ("fast",), "m", "slow", False),
        ((), ("fast",), "m", "", False),
        (("m",), ("fast",), "n", "fast", False),
        (("m",), ("fast",), "m", "slow", False),
    ],
)
def test_models_and_groups_must_both_allow_it(
    models: tuple[str, ...], groups: tuple[str, ...], model: str, group: str, allowed: bool
) -> None:
    assert Allowance(models=models, groups=groups).allows(model, group) is allowed


def test_a_key_is_named_by_its_id_or_its_name() -> None:
    keys = [made(name)[1] for name in ("a", "b")]
    assert pick("a", keys) is keys[0]
    assert pick(keys[1].id, keys) is keys[1]
    with pytest.raises(NotFound, match="no key with the id or name 'c'"):
        pick("c", keys)
    revoked = attrs.evolve(keys[0], revoked_at=NOW)
    with pytest.raises(NotFound):
        pick("a", [revoked])
    assert pick(revoked.id, [revoked]) is revoked
    with pytest.raises(Conflict, match="the id of one key and the name of another"):
        pick(keys[0].id, [*keys, made(keys[0].id)[1]])
