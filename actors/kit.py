"""The actor kit's public names. It knows nothing of this program and embeds in any trio application.

See docs/actors.md for the contract of each verb and a runnable example.
"""

from __future__ import annotations

from typing import Any, TypeVar

from .actor import Actor, BaseActor, Context, spawn
from .kit_errors import ActorDied, ActorError, MailboxFull, SupervisorExhausted
from .mailbox import Mailbox
from .ref import Ref
from .reply import Reply

M = TypeVar("M")

__all__ = [
    "Actor",
    "ActorDied",
    "ActorError",
    "BaseActor",
    "Context",
    "Mailbox",
    "MailboxFull",
    "Ref",
    "Reply",
    "SupervisorExhausted",
    "ask",
    "spawn",
    "tell",
]


async def ask(ref: Ref[M], message: M) -> Any:
    """`ref.ask(message)` as a function."""
    return await ref.ask(message)


def tell(ref: Ref[M], message: M) -> None:
    """`ref.tell(message)` as a function."""
    ref.tell(message)
