"""How a request to Bedrock proves who is asking. Signatures are in `bedrock_credentials`, which needs botocore."""

from __future__ import annotations

from typing import Protocol

from .transport import Headers


class Signer(Protocol):
    """Proves who is asking, one request at a time."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown of the credentials, as far as they are known."""
        ...

    def forget(self) -> None:
        """The service refused: what is cached is stale."""
        ...

    async def sign(self, method: str, url: str, body: bytes) -> Headers:
        """The headers that prove it. `url` is the whole one, as it is sent; the body's type is application/json.

        Raises UpstreamFailure(CREDENTIALS).
        """
        ...


class Bearer:
    """A Bedrock API key (https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys.html)."""

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "Bearer(***)"

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self._key,)

    def forget(self) -> None:
        """A key does not change."""

    async def sign(self, method: str, url: str, body: bytes) -> Headers:
        return ((b"Authorization", b"Bearer " + self._key.encode()),)
