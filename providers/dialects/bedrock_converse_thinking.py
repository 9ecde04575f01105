"""How much a model behind Bedrock's Converse API is told to think: another field for each family.

Sources, in the Amazon Bedrock user guide: extended and adaptive thinking of the Claude models (at least 1024 tokens,
less than the bound, no forced tool use, and a turn that is being answered with tool results starts with its thinking),
extended thinking of Amazon Nova 2 (`reasoningConfig`), and the parameters of the OpenAI models (`reasoning_effort`).
"""

from __future__ import annotations

from typing import Any, Final

from .bedrock_converse_models import Traits
from .claude import Claude
from .claude_thinking import budget_for, effort_for, show, starts_with_thinking, switch_off
from .efforts import effort_of
from .neutral import Conversation, Reasoning, ReasoningMode, ToolMode
from .report import Loss

Json = dict[str, Any]

_THREE: Final = {"minimal": "low", "xhigh": "high", "max": "high"}


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
        switch_off(model.claude, more, loss)
        return False
    choice = conversation.tool_choice
    if choice is not None and choice.mode in (ToolMode.REQUIRED, ToolMode.NAMED):
        loss.drop("reasoning")  # refused together, and the tool is what the answer must have
        return False
    if not _claude(conversation, model.claude, bound=bound, more=more, output=output, loss=loss):
        loss.drop("reasoning")
        return False
    show(reasoning, more)
    return True


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
            effort = effort or effort_of(reasoning.budget_tokens)
    else:
        if not model.budget or not starts_with_thinking(conversation):
            return False
        budget = budget_for(reasoning, bound or model.max_tokens, loss)
        if budget is None:
            return False
        more["thinking"] = {"type": "enabled", "budget_tokens": budget}
    if effort is not None and model.effort:
        output["effort"] = effort_for(effort, model, loss)
    return True


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
    effort = reasoning.effort or effort_of(reasoning.budget_tokens)
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
