"""How much a model behind Bedrock's Converse API is told to think: another field for each family.

Sources, in the Amazon Bedrock user guide: extended and adaptive thinking of the Claude models (at least 1024 tokens,
less than the bound, no forced tool use, and a turn that is being answered with tool results starts with its thinking),
extended thinking of Amazon Nova 2 (`reasoningConfig`), and the parameters of the OpenAI models (`reasoning_effort`).
"""

from __future__ import annotations

from typing import Any, Final

from .bedrock_converse_models import Traits
from .claude import Claude
from .neutral import (
    Conversation,
    Reasoning,
    ReasoningMode,
    RedactedThinking,
    Role,
    Thinking,
    ToolCall,
    ToolMode,
    ToolResult,
)
from .report import Loss

Json = dict[str, Any]

LEAST_BUDGET: Final = 1024
_BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768, "max": 65_536}
_NEAREST: Final = ((4096, "low"), (16_384, "medium"))
_THREE: Final = {"minimal": "low", "xhigh": "high", "max": "high"}
_DISPLAYS: Final = {"auto": "summarized", "concise": "summarized", "detailed": "summarized"}


def write_reasoning(
    conversation: Conversation, model: Traits, *, bound: int | None, more: Json, output: Json, loss: Loss
) -> bool:
    """Write into the additional fields `more` and into `output`, the output configuration.

    Returns whether the model is now told to think in the way that fixes how it samples: a Claude, or a Nova with all
    its effort (Amazon Nova 2 user guide, extended thinking).
    """
    reasoning = conversation.reasoning
    if reasoning is None:
        return False
    if model.claude is None:
        return _others(reasoning, model, bound=bound, more=more, loss=loss)
    if reasoning.mode is ReasoningMode.OFF or (reasoning.mode is None and reasoning.effort == "none"):
        _off(model.claude, more, loss)
        return False
    choice = conversation.tool_choice
    if choice is not None and choice.mode in (ToolMode.REQUIRED, ToolMode.NAMED):
        loss.drop("reasoning")  # refused together, and the tool is what the answer must have
        return False
    if not _claude(conversation, model.claude, bound=bound, more=more, output=output, loss=loss):
        loss.drop("reasoning")
        return False
    if reasoning.summary is not None:
        more["thinking"]["display"] = _DISPLAYS.get(reasoning.summary, reasoning.summary)
    return True


def _off(model: Claude, more: Json, loss: Loss) -> None:
    if model.always_thinks:
        loss.drop("reasoning")
    elif model.adaptive or model.budget:
        more["thinking"] = {"type": "disabled"}


def _claude(
    conversation: Conversation, model: Claude, *, bound: int | None, more: Json, output: Json, loss: Loss
) -> bool:
    """Whether the model can be told to think."""
    reasoning = conversation.reasoning or Reasoning()
    effort = reasoning.effort
    if model.adaptive and not (reasoning.mode is ReasoningMode.BUDGET and model.budget):
        more["thinking"] = {"type": "adaptive"}
        if reasoning.mode is ReasoningMode.BUDGET:
            loss.change("reasoning", "as effort")
            effort = effort or _nearest(reasoning.budget_tokens)
    else:
        if not model.budget or not _starts_with_thinking(conversation):
            return False
        budget = _budget(reasoning, bound or model.max_tokens, loss)
        if budget is None:
            return False
        more["thinking"] = {"type": "enabled", "budget_tokens": budget}
    if effort is not None and model.effort:
        output["effort"] = _effort(effort, model, loss)
    return True


def _nearest(budget: int | None) -> str:
    return next((effort for most, effort in _NEAREST if (budget or 0) <= most), "high")


def _effort(effort: str, model: Claude, loss: Loss) -> str:
    """`low` to `max`; what is below or, on older models, between becomes the one beside it."""
    known = {"none": "low", "minimal": "low"}.get(effort, effort)
    if known == "xhigh" and not model.highest_effort:
        known = "high"
    if known != effort:
        loss.clamp("reasoning.effort")
    return known


def _budget(reasoning: Reasoning, bound: int, loss: Loss) -> int | None:
    """Tokens to think with, fewer than the `bound` of the answer; None where there is no room."""
    most = bound - 1
    if most < LEAST_BUDGET:
        return None
    given = reasoning.budget_tokens
    if given is None:
        loss.change("reasoning", "as budget")
        return min(_BUDGETS.get(reasoning.effort or "medium", LEAST_BUDGET), max(LEAST_BUDGET, most * 4 // 5))
    budget = min(max(given, LEAST_BUDGET), most)
    if budget != given:
        loss.clamp("reasoning.budget_tokens")
    return budget


def _starts_with_thinking(conversation: Conversation) -> bool:
    """Whether the turn whose tool calls are being answered, if there is one, starts with thinking that can be sent."""
    turns = [turn for turn in conversation.turns if turn.role is not Role.SYSTEM]
    if len(turns) < 2 or not any(isinstance(part, ToolResult) for part in turns[-1].parts):
        return True
    parts = turns[-2].parts
    if not any(isinstance(part, ToolCall) for part in parts):
        return True
    first = parts[0]
    return isinstance(first, RedactedThinking) or (isinstance(first, Thinking) and first.signature is not None)


def _others(reasoning: Reasoning, model: Traits, *, bound: int | None, more: Json, loss: Loss) -> bool:
    """The efforts of the models that have one: low, medium and high. A Nova's high takes no bound of tokens."""
    off = reasoning.mode is ReasoningMode.OFF or reasoning.effort == "none"
    if not model.effort:
        if not off:
            loss.drop("reasoning")
        return False
    if off:
        if model.family == "openai":
            loss.drop("reasoning")  # these always reason; the Nova models do so only when they are told to
        return False
    effort = reasoning.effort or _nearest(reasoning.budget_tokens)
    level = _THREE.get(effort, effort)
    if level != reasoning.effort:
        loss.change("reasoning", "as effort")
    if model.family == "openai":
        more["reasoning_effort"] = level
        return False
    if level == "high" and bound is not None:
        loss.clamp("reasoning.effort")
        level = "medium"
    more["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": level}
    return level == "high"
