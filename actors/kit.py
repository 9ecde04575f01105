"""The actor kit's public names. It knows nothing of this program and embeds in any trio application.

See docs/actors.md for the contract of each verb and a runnable example.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio

from .actor import Actor, BaseActor, Context, spawn
from .kit_errors import ActorDied, ActorError, MailboxFull, SupervisorExhausted
from .mailbox import Mailbox
from .ref import Ref
from .reply import Reply
from .supervisor import (
    Backoff,
    Child,
    ChildState,
    ChildStatistics,
    Restart,
    Strategy,
    Supervisor,
    SupervisorStatistics,
    WhenExhausted,
)

M = TypeVar("M")

__all__ = [
    "Actor",
    "ActorDied",
    "ActorError",
    "Backoff",
    "BaseActor",
    "Child",
    "ChildState",
    "ChildStatistics",
    "Context",
    "Mailbox",
    "MailboxFull",
    "Ref",
    "Reply",
    "Restart",
    "Strategy",
    "Supervisor",
    "SupervisorExhausted",
    "SupervisorStatistics",
    "WhenExhausted",
    "ask",
    "spawn",
    "supervise",
    "tell",
]


async def ask(ref: Ref[M], message: M) -> Any:
    """`ref.ask(message)` as a function."""
    return await ref.ask(message)


def tell(ref: Ref[M], message: M) -> None:
    """`ref.tell(message)` as a function."""
    ref.tell(message)


@asynccontextmanager
async def supervise(
    *children: Child,
    strategy: Strategy = "one_for_one",
    intensity: int | None = 5,
    period: float = 60.0,
    backoff: Backoff | None = None,
    when_exhausted: WhenExhausted = "escalate",
    on_restart: Callable[[Restart], None] | None = None,
) -> AsyncGenerator[Supervisor]:
    """Run a `Supervisor` of these children in a nursery of its own; leaving the block stops them.

    Enters once all children are ready. As from any nursery, errors leave as a group: `except* SupervisorExhausted`.
    """
    supervisor = Supervisor(
        children,
        strategy=strategy,
        intensity=intensity,
        period=period,
        backoff=backoff,
        when_exhausted=when_exhausted,
        on_restart=on_restart,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        yield supervisor
        nursery.cancel_scope.cancel()
