"""A conversation that moves from Anthropic's API to Bedrock within a tool turn keeps the thinking it may keep."""

from __future__ import annotations

from typing import Any

import pytest

from infermux.config.settings import ProviderSettings
from infermux.providers.dialects.kept_thinking import ThinkingStore
from infermux.providers.dialects.neutral import Thinking, ToolCall
from infermux.providers.registry import ThinkingStores, make_adapter, signer
from tests.mocks.bedrock_upstream import BEARER, HAIKU, NOVA, REGION, BedrockUpstream
from tests.providers._bedrock import asked, call

USED: dict[str, Any] = {"id": "toolu_1", "type": "function", "function": {"name": "get", "arguments": "{}"}}
THEN: list[dict[str, Any]] = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": None, "tool_calls": [USED]},
    {"role": "tool", "tool_call_id": "toolu_1", "content": "42"},
]
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "get", "parameters": {"type": "object"}}}


@pytest.mark.slow
@pytest.mark.parametrize("model", [HAIKU, NOVA])
async def test_what_a_claude_signed_elsewhere_goes_to_claudes_only(model: str) -> None:
    store = ThinkingStore(seconds=1e12)
    store.keep([Thinking(text="hm", signature="sig-1"), ToolCall(id="toolu_1", name="get", arguments="{}")], now=0.0)
    kept: ThinkingStores = {signer(ProviderSettings(name="a", type="anthropic")): store}
    async with BedrockUpstream() as upstream:
        declared = ProviderSettings(name="b", type="bedrock", region=REGION, base_url=upstream.base_url)
        provider = make_adapter(declared, environ={"AWS_BEARER_TOKEN_BEDROCK": BEARER}, kept=kept)
        upstream.serves(provider)
        await asked(provider, call(model, messages=THEN, tools=[TOOL]))
        first = upstream.requests[0].json["messages"][1]["content"][0]
    signed = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig-1"}}}
    assert (first == signed) is (model == HAIKU)
