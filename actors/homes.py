"""Which provider keeps a response that a later request goes on from (`previous_response_id`). Pure.

What is remembered is bounded in number and in time. A response is found at the account that made it and nowhere else,
so besides the provider the place of its key is remembered, where it has several.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import attrs

KEPT_RESPONSES = 100_000  # about 27 MB
KEPT_FOR = 30 * 86_400.0
"""Seconds: OpenAI deletes a response after 30 days (https://platform.openai.com/docs/guides/conversation-state)."""
LONGEST_ID = 256  # characters; providers choose them


@attrs.frozen
class Home:
    """Who keeps a response. `key` is the place of the credential, None where the provider has one alone."""

    provider: str
    key: int | None = None


@attrs.define(eq=False, repr=False)
class Homes:
    """The homes of the last `most` responses, each for `seconds`; one that is asked for counts as new among them.

    Times are seconds on one monotonic clock.
    """

    most: int = KEPT_RESPONSES
    seconds: float = KEPT_FOR
    _kept: OrderedDict[str, tuple[Home, float]] = attrs.field(factory=OrderedDict[str, "tuple[Home, float]"])
    _homes: dict[Home, Home] = attrs.field(factory=dict[Home, Home])

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"<Homes of {len(self._kept)} responses>"

    def keep(self, response: str, home: Home, now: float) -> None:
        """`home` has the response of that id from now on."""
        if not response or len(response) > LONGEST_ID:
            return
        kept = self._kept
        kept[response] = (self._homes.setdefault(home, home), now)  # a home is one object, however many it keeps
        kept.move_to_end(response)
        if len(kept) > self.most:
            kept.popitem(last=False)

    def find(self, response: str, now: float) -> Home | None:
        """Who keeps the response; None for one that nobody knows of, or not any more."""
        home, since = self._kept.get(response, (None, -math.inf))
        if home is None:
            return None
        if now - since >= self.seconds:
            del self._kept[response]
            return None
        self._kept.move_to_end(response)
        return home
