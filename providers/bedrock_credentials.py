"""AWS credentials and SigV4 signatures, by botocore: the chain every AWS tool has (environment, profile, SSO, role).

Looking credentials up may read files, run programs and ask other services, so it happens in a thread, once at a time;
while they are valid signing waits for nothing. botocore is imported here, and this module only where it is needed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Final, Protocol

import trio
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import BotoCoreError
from botocore.session import Session

from infermux.errors import FailureKind, UpstreamFailure

from .classify import mask
from .transport import Headers

SERVICE: Final = "bedrock"
RETRY_SECONDS: Final = 60.0
"""How long after a refresh that failed, while the credentials are still valid, it is tried again."""

_LARGE: Final = 256 * 1024
"""A body of at least this many bytes is hashed in a thread."""

_NONE_FOUND: Final = (
    "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, set AWS_PROFILE (and run "
    "`aws sso login` for an SSO profile), run where a role gives them, or set api_key to a Bedrock API key"
)

# At DEBUG botocore logs what it signs, session tokens included, and what credential services answer.
_logger = logging.getLogger("botocore")
if _logger.level == logging.NOTSET:
    _logger.setLevel(logging.INFO)


class Credentials(Protocol):
    """botocore's `Credentials`, as far as they are used."""

    def get_frozen_credentials(self) -> ReadOnlyCredentials: ...


Lookup = Callable[[], Credentials | None]


def ambient() -> Credentials | None:
    """Credentials by botocore's chain; None when nothing has any. Blocks. Raises BotoCoreError."""
    return Session().get_credentials()


def profile_region() -> str | None:
    """The region of the ambient profile. Reads a file. Raises BotoCoreError."""
    region: object = Session().get_config_variable("region")
    return region if isinstance(region, str) and region else None


class Chain:
    """The credentials of one provider: looked up when first needed, refreshed before they expire."""

    __slots__ = ("_credentials", "_frozen", "_limiter", "_lock", "_lookup", "_retry_at")

    def __init__(self, lookup: Lookup = ambient) -> None:
        self._lookup = lookup
        self._credentials: Credentials | None = None
        self._frozen: ReadOnlyCredentials | None = None
        self._retry_at = -math.inf
        self._lock = trio.Lock()
        self._limiter = trio.CapacityLimiter(1)

    def __repr__(self) -> str:
        return f"Chain({'empty' if self._frozen is None else 'loaded'})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown of the credentials, the longest first."""
        frozen = self._frozen
        if frozen is None:
            return ()
        found = (frozen.token, frozen.secret_key, frozen.access_key)
        return tuple(sorted((text for text in found if text), key=len, reverse=True))

    def forget(self) -> None:
        """Look the credentials up again when they are needed next: the service has refused them."""
        self._credentials = None

    async def get(self) -> ReadOnlyCredentials:
        """Valid credentials. Raises UpstreamFailure(CREDENTIALS). Cancelling leaves a look-up to its own end."""
        frozen = self._current(refreshing=self._lock.locked())
        if frozen is not None:
            return frozen
        async with self._lock:
            frozen = self._current(refreshing=False)  # another request may have looked them up meanwhile
            if frozen is None:
                frozen = await self._look_up()
        return frozen

    def _current(self, *, refreshing: bool) -> ReadOnlyCredentials | None:
        """What is cached and may be used without waiting; None when a look-up or a refresh is due.

        Those that are still valid need not wait for a refresh that is under way, or has just failed.
        """
        credentials, frozen = self._credentials, self._frozen
        if credentials is None or frozen is None:
            return None
        if not _due(credentials):
            return frozen
        valid = isinstance(credentials, RefreshableCredentials) and not credentials.refresh_needed(0)
        waiting = refreshing or trio.current_time() < self._retry_at
        return frozen if valid and waiting else None

    async def _look_up(self) -> ReadOnlyCredentials:
        known, lookup = self._credentials, self._lookup

        def work() -> tuple[Credentials, ReadOnlyCredentials] | None:
            credentials = known or lookup()
            return None if credentials is None else (credentials, credentials.get_frozen_credentials())

        try:
            found = await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)
        except BotoCoreError as error:
            self._credentials = None
            said = mask(str(error).encode(), self.secrets).decode("utf-8", "replace")
            raise UpstreamFailure(FailureKind.CREDENTIALS, f"the AWS credentials cannot be had: {said}") from None
        if found is None:
            raise UpstreamFailure(FailureKind.CREDENTIALS, _NONE_FOUND)
        credentials, frozen = self._credentials, self._frozen = found
        # botocore keeps those that are still valid when it could not refresh them, and only logs it.
        self._retry_at = trio.current_time() + RETRY_SECONDS if _due(credentials) else -math.inf
        return frozen


def _due(credentials: Credentials) -> bool:
    """Whether they are to be refreshed, by botocore's own margins."""
    return isinstance(credentials, RefreshableCredentials) and credentials.refresh_needed()


class SigV4:
    """Signature version 4 (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).

    `host` is the Host header where it is not the URL's. A signature takes about 0.2 ms of a processor and waits for
    nothing: half of what this adapter does for a short whole answer, a few percent of what a streamed one takes.
    """

    __slots__ = ("_chain", "_host", "_region")

    def __init__(self, chain: Chain, region: str, host: str | None = None) -> None:
        self._chain = chain
        self._region = region
        self._host = host

    def __repr__(self) -> str:
        return f"SigV4({self._region!r}, {self._chain!r})"

    @property
    def secrets(self) -> tuple[str, ...]:
        return self._chain.secrets

    def forget(self) -> None:
        self._chain.forget()

    async def sign(self, method: str, url: str, body: bytes) -> Headers:
        credentials = await self._chain.get()
        if len(body) < _LARGE:
            return self._signed(credentials, method, url, body)
        return await trio.to_thread.run_sync(self._signed, credentials, method, url, body)

    def _signed(self, credentials: ReadOnlyCredentials, method: str, url: str, body: bytes) -> Headers:
        given = {"Content-Type": "application/json"}
        if self._host is not None:
            given["Host"] = self._host
        request = AWSRequest(method=method, url=url, data=body, headers=given)
        SigV4Auth(credentials, SERVICE, self._region).add_auth(request)
        return [
            (name.encode(), str(value).encode())
            for name, value in request.headers.items()
            if name.lower() not in ("content-type", "host")
        ]
