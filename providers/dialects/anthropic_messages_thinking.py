"""How much a Claude is told to think by Anthropic's messages."""

from __future__ import annotations

from typing import Any

from .claude import Claude
from .claude_thinking import BUDGETS, budget_for, effort_for, show, starts_with_thinking, switch_off
from .efforts import effort_of
from .neutral import Conversation, Reasoning, ReasoningMode
from .report import Loss

Json = dict[str, Any]


def write_thinking(conversation: Conversation, model: Claude, body: Json, config: Json, loss: Loss) -> bool:
    """Writes `thinking` into `body` and the effort into `config`; whether the model is now told to think."""
    reasoning = conversation.reasoning
    if reasoning is None:
        return False
    if reasoning.mode is ReasoningMode.OFF or (reasoning.mode is None and reasoning.effort == "none"):
        switch_off(model, body, loss)
        return False
    choice = body.get("tool_choice")
    if choice is not None and choice["type"] in ("any", "tool"):
        loss.drop("reasoning")  # the API refuses both together, and the tool is what the answer must have
        return False
    if model.adaptive and not (reasoning.mode is ReasoningMode.BUDGET and model.budget):
        _adaptive(reasoning, model, body, config, loss)
    elif model.budget:
        budget = budget_for(reasoning, body["max_tokens"], loss) if starts_with_thinking(conversation) else None
        if budget is None:
            loss.drop("reasoning")
            return False
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
        if reasoning.effort in BUDGETS and model.effort:
            config["effort"] = effort_for(reasoning.effort or "", model, loss)
    else:
        loss.drop("reasoning")
        return False
    show(reasoning, body)
    return True


def _adaptive(reasoning: Reasoning, model: Claude, body: Json, config: Json, loss: Loss) -> None:
    body["thinking"] = {"type": "adaptive"}
    effort = reasoning.effort
    if reasoning.mode is ReasoningMode.BUDGET:
        loss.change("reasoning", "as effort")
        effort = effort or effort_of(reasoning.budget_tokens)
    if effort is not None:
        config["effort"] = effort_for(effort, model, loss)
