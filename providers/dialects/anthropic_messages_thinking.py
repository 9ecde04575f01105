"""How much a Claude is told to think.

Sources: https://platform.claude.com/docs/en/build-with-claude/extended-thinking (at least 1024 tokens, less than
`max_tokens`, no forced tool use, and a turn that is being answered with tool results starts with its thinking),
.../adaptive-thinking (4.6 and later; none of that last rule) and .../effort.
"""

from __future__ import annotations

from typing import Any, Final

from .claude import Claude
from .neutral import (
    Conversation,
    Reasoning,
    ReasoningMode,
    RedactedThinking,
    Role,
    Thinking,
    ToolCall,
    ToolResult,
)
from .report import Loss

Json = dict[str, Any]

LEAST_BUDGET: Final = 1024
_BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768, "max": 65_536}
_EFFORTS: Final = ((4096, "low"), (16_384, "medium"))
_DISPLAYS: Final = {"auto": "summarized", "concise": "summarized", "detailed": "summarized"}


def write_thinking(conversation: Conversation, model: Claude, body: Json, config: Json, loss: Loss) -> bool:
    """Writes `thinking` into `body` and the effort into `config`; whether the model is now told to think."""
    reasoning = conversation.reasoning
    if reasoning is None:
        return False
    if reasoning.mode is ReasoningMode.OFF or (reasoning.mode is None and reasoning.effort == "none"):
        _off(model, body, loss)
        return False
    choice = body.get("tool_choice")
    if choice is not None and choice["type"] in ("any", "tool"):
        loss.drop("reasoning")  # the API refuses both together, and the tool is what the answer must have
        return False
    if model.adaptive and not (reasoning.mode is ReasoningMode.BUDGET and model.budget):
        _adaptive(reasoning, model, body, config, loss)
    elif model.budget:
        if not _starts_with_thinking(conversation):
            loss.drop("reasoning")
            return False
        if not _budget(reasoning, body, loss):
            return False
        if reasoning.effort in _BUDGETS and model.effort:
            _effort(reasoning.effort or "", model, config, loss)
    else:
        loss.drop("reasoning")
        return False
    if reasoning.summary is not None:
        body["thinking"]["display"] = _DISPLAYS.get(reasoning.summary, reasoning.summary)
    return True


def _off(model: Claude, body: Json, loss: Loss) -> None:
    if model.always_thinks:
        loss.drop("reasoning")
    elif model.adaptive or model.budget:
        body["thinking"] = {"type": "disabled"}


def _adaptive(reasoning: Reasoning, model: Claude, body: Json, config: Json, loss: Loss) -> None:
    body["thinking"] = {"type": "adaptive"}
    effort = reasoning.effort
    if reasoning.mode is ReasoningMode.BUDGET:
        loss.change("reasoning", "as effort")
        budget = reasoning.budget_tokens or 0
        effort = effort or next((found for most, found in _EFFORTS if budget <= most), "high")
    if effort is not None:
        _effort(effort, model, config, loss)


def _effort(effort: str, model: Claude, config: Json, loss: Loss) -> None:
    """`low` to `max`; what is below or, on older models, between becomes the one beside it."""
    known = {"none": "low", "minimal": "low"}.get(effort, effort)
    if known == "xhigh" and not model.highest_effort:
        known = "high"
    if known != effort:
        loss.clamp("reasoning.effort")
    config["effort"] = known


def _budget(reasoning: Reasoning, body: Json, loss: Loss) -> bool:
    """Manual thinking, within `max_tokens`; whether there is room for it."""
    most = body["max_tokens"] - 1
    if most < LEAST_BUDGET:
        loss.drop("reasoning")
        return False
    given = reasoning.budget_tokens
    if given is None:
        loss.change("reasoning", "as budget")
        given = min(_BUDGETS.get(reasoning.effort or "medium", LEAST_BUDGET), max(LEAST_BUDGET, most * 4 // 5))
    budget = min(max(given, LEAST_BUDGET), most)
    if budget != given:
        loss.clamp("reasoning.budget_tokens")
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return True


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
