"""An answer to `count_tokens` where the provider cannot count: an estimate, marked so."""

from __future__ import annotations

import msgspec

from .dialects import anthropic_messages
from .interface import Answer, Call, Usage
from .token_estimate import estimated_tokens


def estimated_count(call: Call) -> Answer:
    """`{"input_tokens": N}` (`anthropic.types.MessageTokensCount`), by the length of what is said and shown.

    Nothing is sent, so nothing is used. Raises InvalidRequest for a body that is none of Anthropic's.
    """
    conversation = anthropic_messages.DIALECT.read_request(call.body)
    body = msgspec.json.encode({"input_tokens": estimated_tokens(conversation)})
    return Answer(200, b"application/json", body, Usage(), estimated=True)
