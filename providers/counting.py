"""An answer to `count_tokens` where the provider cannot count: an estimate, marked so."""

from __future__ import annotations

import msgspec

from .interface import Answer, Call, Usage
from .peek import prompt_tokens


def estimated_count(call: Call) -> Answer:
    """`{"input_tokens": N}` (`anthropic.types.MessageTokensCount`), by the body's bytes at four a token.

    Nothing is sent, so nothing is used.
    """
    body = msgspec.json.encode({"input_tokens": prompt_tokens(call.body)})
    return Answer(200, b"application/json", body, Usage(), estimated=True)
