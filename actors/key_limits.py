"""The limits of one key: requests and tokens per minute, requests at once. Pure state, the time is an argument."""

from __future__ import annotations

import math

import attrs
import msgspec

from infermux.keys import Allowance

from .bucket import Buckets, TokenBucket, resized
from .share import WHOLE, Share

UNKNOWN_WAIT = 1.0  # seconds a caller is told to wait where another request of the key has to end first


class Overrun(msgspec.Struct, frozen=True):
    """A limit that is used up: `limit` is its name, `until` when a request is covered again, None: nobody can say."""

    limit: str
    bound: int
    until: float | None = None

    def wait(self, now: float) -> float:
        """Seconds to tell the caller."""
        return UNKNOWN_WAIT if self.until is None else max(self.until - now, 0.0)

    def said(self, name: str, now: float) -> str:
        """In words, for the caller whose key is called `name`."""
        wait = max(math.ceil(self.wait(now)), 1)
        return f"the limit of the key {name!r} is used up ({self.limit}: {self.bound}); try again in {wait} s"


@attrs.define(eq=False)
class KeyLimits:
    """What is left of one key's limits.

    Invariants: `admit` takes from every limit or from none; at most `max_concurrent` requests are in flight; each
    bucket holds its own bound (see `TokenBucket`). A change of the limits keeps their levels, or it would refill them.
    """

    in_flight: int = 0
    buckets: Buckets | None = None  # where they are shared by way of Redis
    _allows: Allowance = attrs.field(factory=Allowance)
    _share: Share = WHOLE
    _max_concurrent: int | None = None
    _requests: TokenBucket | None = None
    _tokens: TokenBucket | None = None

    def adopt(self, allows: Allowance, now: float) -> None:
        """Go on by these limits."""
        self._allows = allows
        self._divide(now)

    def adopt_share(self, share: Share, now: float) -> None:
        """Go on with another part of them."""
        if share.late and self.buckets is None:
            self._requests = self._tokens = None
        self._share = share
        self._divide(now)

    def _divide(self, now: float) -> None:
        allows, share = self._allows, self._share
        at_once = allows.max_concurrent
        self._max_concurrent = None if at_once is None else share.slots(at_once)
        of_requests, of_tokens = (None, None) if self.buckets is None else (self.buckets.requests, self.buckets.tokens)
        self._requests = resized(self._requests, allows.requests_per_minute, now, share, of_requests)
        self._tokens = resized(self._tokens, allows.tokens_per_minute, now, share, of_tokens)

    @property
    def is_over(self) -> bool:
        """More run at once than may, since its part has shrunk."""
        return self._max_concurrent is not None and self.in_flight > self._max_concurrent

    def admit(self, tokens: int, now: float) -> int | Overrun:
        """Tokens reserved for a request that may need `tokens`, everything it needs taken; or what is used up.

        Reserved is min(`tokens`, the limit): a request larger than the whole limit waits for a full bucket and leaves
        a debt, in place of being refused for ever.
        """
        in_flight, most = self.in_flight, self._max_concurrent
        if most is not None and in_flight >= most:
            return self._overrun("max_concurrent", math.inf)
        requests, bucket = self._requests, self._tokens
        if requests is not None and not requests.take(1, now):
            return self._overrun("requests_per_minute", requests.ready_at(1, now))
        reserved = 0
        if bucket is not None:
            capacity = bucket.capacity
            reserved = (tokens if tokens < capacity else capacity) or 1  # noqa: FURB136 - a call more
            if not bucket.take(reserved, now):
                if requests is not None:
                    requests.settle(1, 0, now)
                return self._overrun("tokens_per_minute", bucket.ready_at(reserved, now))
        self.in_flight = in_flight + 1
        return reserved

    def _overrun(self, limit: str, until: float) -> Overrun:
        """The bound that is told is that of the key, whatever our part of it."""
        return Overrun(limit, getattr(self._allows, limit), until if math.isfinite(until) else None)

    def settle(self, reserved: int, used: int, now: float) -> None:
        """A request that was admitted has ended: what it used takes the place of what was reserved."""
        self.in_flight -= 1
        if self._tokens is not None:
            self._tokens.settle(reserved, used, now)

    def levels(self, now: float) -> dict[str, object]:
        """What is left, for people."""
        requests, tokens = self._requests, self._tokens
        return {
            "in_flight": self.in_flight,
            "requests_left": None if requests is None else round(requests.available(now), 3),
            "tokens_left": None if tokens is None else round(tokens.available(now), 3),
        }
