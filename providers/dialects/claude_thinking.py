"""How much a Claude is told to think, whichever API reaches it.

Sources: https://platform.claude.com/docs/en/build-with-claude/extended-thinking (at least 1024 tokens, less than
`max_tokens`, no forced tool use, and a turn that is being answered with tool results starts with its thinking),
.../adaptive-thinking (4.6 and later; none of that last rule) and .../effort. The Amazon Bedrock user guide says the
same of extended and adaptive thinking.
"""

from __future__ import annotations

from typing import Any, Final

from .claude import Claude
from .neutral import Conversation, Reasoning, RedactedThinking, Role, Thinking, ToolCall, ToolResult
from .report import Loss

Json = dict[str, Any]

LEAST_BUDGET: Final = 1024
BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768, "max": 65_536}
_DISPLAYS: Final = {"auto": "summarized", "concise": "summarized", "detailed": "summarized"}


def switch_off(model: Claude, body: Json, loss: Loss) -> None:
    """Write into `body` that nothing is to be thought, where that must be said."""
    if model.always_thinks:
        loss.drop("reasoning")
    elif model.adaptive or model.budget:
        body["thinking"] = {"type": "disabled"}


def show(reasoning: Reasoning, body: Json) -> None:
    """Write into the `thinking` of `body` how much of it is shown, if that was asked."""
    if reasoning.summary is not None:
        body["thinking"]["display"] = _DISPLAYS.get(reasoning.summary, reasoning.summary)


def effort_for(effort: str, model: Claude, loss: Loss) -> str:
    """`low` to `max`; what is below or, on older models, between becomes the one beside it."""
    known = {"none": "low", "minimal": "low"}.get(effort, effort)
    if known == "xhigh" and not model.highest_effort:
        known = "high"
    if known != effort:
        loss.clamp("reasoning.effort")
    return known


def budget_for(reasoning: Reasoning, bound: int, loss: Loss) -> int | None:
    """Tokens to think with, fewer than the `bound` of the answer; None where there is no room."""
    most = bound - 1
    if most < LEAST_BUDGET:
        return None
    given = reasoning.budget_tokens
    if given is None:
        loss.change("reasoning", "as budget")
        return min(BUDGETS.get(reasoning.effort or "medium", LEAST_BUDGET), max(LEAST_BUDGET, most * 4 // 5))
    budget = min(max(given, LEAST_BUDGET), most)
    if budget != given:
        loss.clamp("reasoning.budget_tokens")
    return budget


def starts_with_thinking(conversation: Conversation) -> bool:
    """Whether the turn whose tool calls are being answered, if there is one, starts with thinking that can be sent."""
    turns = [turn for turn in conversation.turns if turn.role is not Role.SYSTEM]
    if len(turns) < 2 or not any(isinstance(part, ToolResult) for part in turns[-1].parts):
        return True
    parts = turns[-2].parts
    if not any(isinstance(part, ToolCall) for part in parts):
        return True
    first = parts[0]
    return isinstance(first, RedactedThinking) or (isinstance(first, Thinking) and first.signature is not None)
