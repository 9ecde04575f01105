"""What the models behind Bedrock's Converse API take of what its one shape can say.

The API is one, the models are many: it refuses cache points, signed thinking, JSON Schemas, forced tools and extra
fields where the model has no use for them. Sources, all in the Amazon Bedrock user guide: prompt caching (which
families, and where), structured outputs (which models), the parameter pages of Anthropic, Amazon Nova, Mistral, Cohere
and OpenAI models; for forced tools the API reference, `ToolChoice`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import attrs

from .claude import Claude, claude

_FAMILY: Final = re.compile(
    r"(?:^|[./])(anthropic|amazon\.nova|amazon\.titan|meta|mistral|cohere|ai21|deepseek|openai|qwen|writer|google|"
    r"minimax|moonshot|moonshotai|nvidia|zai|stability|twelvelabs)[.\-]",
    re.IGNORECASE,
)
_SCHEMAS: Final = re.compile(
    r"qwen\.qwen3|openai\.gpt-oss|deepseek\.v3|google\.gemma-3|minimax\.|moonshot|nvidia\.nemotron|"
    r"mistral\.(?:mistral-large-3|ministral|magistral|voxtral)",
    re.IGNORECASE,
)
_REASONS: Final = re.compile(r"amazon\.nova-2|openai\.", re.IGNORECASE)
_TOP_K: Final[Mapping[str, str]] = {"anthropic": "top_k", "mistral": "top_k", "cohere": "k"}


@attrs.frozen(kw_only=True)
class Traits:
    """What one model takes. `family` is "" where the id does not say it (an application inference profile): such a
    model is sent everything, and refuses what it does not take itself."""

    family: str
    claude: Claude | None
    json_schema: bool
    effort: bool
    """Whether a model that is no Claude takes an effort to reason with: the first Nova models do not."""

    @property
    def caches(self) -> bool:
        """Whether system text and messages may have cache points."""
        return self.family in ("", "anthropic", "amazon.nova")

    @property
    def caches_tools(self) -> bool:
        return self.family in ("", "anthropic")

    @property
    def is_claude(self) -> bool:
        return self.family == "anthropic"

    @property
    def takes_signed_thinking(self) -> bool:
        """Whether thinking can be sent back; the reasoning of other models has no signature to go by."""
        return self.family in ("", "anthropic", "amazon.nova")

    @property
    def must_call(self) -> bool:
        """Whether it can be told that it must call a tool; others refuse a request that says so (`ToolChoice`)."""
        return self.family in ("", "anthropic", "amazon.nova", "mistral")

    @property
    def must_call_this(self) -> bool:
        """Whether it can be told which tool it must call."""
        return self.must_call and self.family != "mistral"

    def top_k(self, value: int) -> dict[str, Any] | None:
        """The additional field that is `top_k`, None where the model has none."""
        if self.family == "amazon.nova":
            return {"inferenceConfig": {"topK": value}}
        name = _TOP_K.get(self.family)
        return None if name is None else {name: value}


@lru_cache(maxsize=256)
def traits(model: str) -> Traits:
    """By a model id, the id of an inference profile, or the ARN of either."""
    found = _FAMILY.search(model)
    known = claude(model)
    family = found[1].lower() if found else "anthropic" if known else ""
    schema = known.json_schema if known else _SCHEMAS.search(model) is not None
    return Traits(family=family, claude=known, json_schema=schema, effort=_REASONS.search(model) is not None)
