"""AWS credentials: looked up once, in a thread, refreshed before they expire, and never in the way of a request."""

from __future__ import annotations

import datetime
import logging
import threading
from typing import Any

import pytest
import trio
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError

from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.bedrock_credentials import RETRY_SECONDS, Chain, SigV4, ambient
from infermux.providers.bedrock_signing import Bearer

ACCESS, SECRET, TOKEN = "AKIACANARY", "canary/secret+key", "canary//session=token"
URL = "https://bedrock-runtime.eu-west-1.amazonaws.com/model/a%3A0/converse"


class Source:
    """A credential provider: counts look-ups and refreshes, and says what it is told to."""

    def __init__(self, *, minutes: float | None = None) -> None:
        self.now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        self.minutes = minutes
        self.looked_up = 0
        self.refreshed = 0
        self.broken = False
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self) -> Any:
        self.looked_up += 1
        self.threads.add(threading.get_ident())
        self.gate.wait(5)
        if self.broken:
            raise CredentialRetrievalError(provider="sso", error_msg=f"no luck with {SECRET}")
        if self.minutes is None:
            return Credentials(ACCESS, SECRET, TOKEN)
        return RefreshableCredentials(
            ACCESS, SECRET, TOKEN, self._expiry(), self._refresh, "test", time_fetcher=lambda: self.now
        )

    def _expiry(self) -> datetime.datetime:
        return self.now + datetime.timedelta(minutes=self.minutes or 0)

    def _refresh(self) -> dict[str, str]:
        self.refreshed += 1
        self.threads.add(threading.get_ident())
        if self.broken:
            raise CredentialRetrievalError(provider="sso", error_msg=f"no luck with {SECRET}")
        number = self.refreshed
        expiry = self._expiry().isoformat()
        return {"access_key": f"AKIA{number}", "secret_key": SECRET, "token": TOKEN, "expiry_time": expiry}

    def pass_time(self, minutes: float) -> None:
        self.now += datetime.timedelta(minutes=minutes)


async def test_they_are_looked_up_once_and_not_in_the_loops_thread() -> None:
    source = Source()
    chain = Chain(source)
    assert chain.secrets == ()
    for _ in range(3):
        assert (await chain.get()).access_key == ACCESS
    assert source.looked_up == 1
    assert threading.get_ident() not in source.threads
    assert set(chain.secrets) == {ACCESS, SECRET, TOKEN}


async def test_many_who_wait_share_one_look_up() -> None:
    source = Source()
    chain = Chain(source)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(chain.get)
    assert source.looked_up == 1


async def test_leaving_a_look_up_that_hangs_is_immediate() -> None:
    source = Source()
    source.gate.clear()
    chain = Chain(source)
    with trio.move_on_after(0.02) as scope:
        await chain.get()
    assert scope.cancelled_caught
    source.gate.set()
    assert (await chain.get()).access_key == ACCESS


async def test_they_are_refreshed_before_they_expire() -> None:
    source = Source(minutes=60)
    chain = Chain(source)
    assert (await chain.get()).access_key == ACCESS
    source.pass_time(50)  # botocore refreshes from a quarter of an hour before the end
    assert (await chain.get()).access_key == "AKIA1"
    assert (source.looked_up, source.refreshed) == (1, 1)
    assert threading.get_ident() not in source.threads


async def test_a_refresh_that_fails_leaves_those_that_are_still_valid(autojump_clock: trio.testing.MockClock) -> None:
    source = Source(minutes=60)
    chain = Chain(source)
    await chain.get()
    source.broken = True
    source.pass_time(48)
    for _ in range(3):
        assert (await chain.get()).access_key == ACCESS
    assert source.refreshed == 1
    await trio.sleep(RETRY_SECONDS)
    source.broken = False
    assert (await chain.get()).access_key == "AKIA2"


async def test_a_refresh_that_fails_when_they_have_expired_says_why_without_the_secret() -> None:
    source = Source(minutes=60)
    chain = Chain(source)
    await chain.get()
    source.broken = True
    source.pass_time(61)
    with pytest.raises(UpstreamFailure, match=r"cannot be had: .*no luck with \*\*\*") as caught:
        await chain.get()
    assert caught.value.kind is FailureKind.CREDENTIALS
    source.broken = False
    assert (await chain.get()).access_key == ACCESS


async def test_none_at_all_is_a_failure_that_says_where_they_may_be() -> None:
    with pytest.raises(UpstreamFailure, match="AWS_ACCESS_KEY_ID"):
        await Chain(lambda: None).get()


async def test_what_was_refused_is_looked_up_again() -> None:
    source = Source()
    chain = Chain(source)
    await chain.get()
    chain.forget()
    await chain.get()
    assert source.looked_up == 2


async def test_the_chain_is_botocores(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "credentials"
    path.write_text("[work]\naws_access_key_id = AKIAWORK\naws_secret_access_key = hidden\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert (await Chain().get()).access_key == "AKIAWORK"
    assert ambient() is not None


@pytest.mark.parametrize("size", [10, 300_000])
async def test_a_signature_covers_the_host_the_date_and_the_token(size: int) -> None:
    signer = SigV4(Chain(Source()), "eu-west-1", host="gateway.example")
    headers = {name.lower(): value for name, value in await signer.sign("POST", URL, b"x" * size)}
    assert set(headers) == {b"authorization", b"x-amz-date", b"x-amz-security-token"}
    assert b"SignedHeaders=content-type;host;x-amz-date;x-amz-security-token" in headers[b"authorization"]


async def test_nothing_shows_a_credential(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    chain = Chain(Source())
    signer = SigV4(chain, "eu-west-1")
    await signer.sign("POST", URL, b"{}")
    shown = f"{chain!r} {chain} {signer!r} {Bearer(SECRET)!r} {caplog.text}"
    for secret in (ACCESS, SECRET, TOKEN):
        assert secret not in shown
