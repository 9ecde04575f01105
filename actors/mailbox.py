"""The mailbox: a bounded queue with one parked consumer.

A burst of messages costs the consumer one wake-up: the first `put` makes it runnable, the others only append. The
consumer takes messages one at a time, so that a crash loses the message at hand and none behind it.

Where the consumer is eager, a message that finds it parked is handled in the sender's task: no wake-up at all. What
comes meanwhile is queued, so messages are still handled one at a time and in their order.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

import outcome
import trio

from .kit_errors import ActorDied, MailboxFull
from .reply import Reply

M = TypeVar("M")

# Looked up once: this runs for every message.
_reschedule = trio.lowlevel.reschedule


class NotNow(enum.Enum):
    """The answer of a call that cannot be made now."""

    NOT_NOW = enum.auto()


NOT_NOW: Final = NotNow.NOT_NOW


class Mailbox(Generic[M]):
    """Envelopes, first in first out, at most `capacity` of them (see docs/actors.md on choosing it).

    `items` is the queue itself: its one consumer pops from the left, nobody else touches it. `eager` is how an eager
    consumer handles a message at once, None for the others. `direct` is what may be called in place of a message, by
    its name.
    """

    __slots__ = ("_consumer", "_lent", "capacity", "direct", "eager", "items", "name")

    def __init__(self, name: str, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"mailbox of {name!r}: capacity must be at least 1, not {capacity}")
        self.name = name
        self.capacity = capacity
        self.items: deque[tuple[M, Reply[Any] | None]] = deque()
        self.eager: Callable[[M, Reply[Any] | None], None] | None = None
        self.direct: Mapping[str, Callable[..., Any]] = {}
        self._consumer: trio.lowlevel.Task | None = None
        self._lent: trio.lowlevel.Task | None = None  # the parked consumer while a message is handled for it

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"<Mailbox {self.name!r} {len(self.items)}/{self.capacity}>"

    def put(self, message: M, reply: Reply[Any] | None = None) -> None:
        """Queue a message. Never blocks. Raises MailboxFull when `capacity` messages wait."""
        task, handle = self._consumer, self.eager
        if task is not None and handle is not None:
            self._handle_now(task, handle, message, reply)
            return
        items = self.items
        if len(items) >= self.capacity:
            raise MailboxFull(self.name, self.capacity)
        items.append((message, reply))
        if task is not None:
            self._consumer = None
            _reschedule(task, outcome.Value(None))

    def put_anyway(self, message: M) -> None:
        """Queue a message past the capacity: only for messages whose number the receiver itself bounds."""
        task, handle = self._consumer, self.eager
        if task is not None and handle is not None:
            self._handle_now(task, handle, message, None)
            return
        self.items.append((message, None))
        if task is not None:
            self._consumer = None
            _reschedule(task, outcome.Value(None))

    def _handle_now(
        self,
        task: trio.lowlevel.Task,
        handle: Callable[[M, Reply[Any] | None], None],
        message: M,
        reply: Reply[Any] | None,
    ) -> None:
        """Handle a message for the parked consumer. An exception is the consumer's: its `wait` raises it."""
        self._consumer, self._lent = None, task
        crash: Exception | None = None
        try:
            handle(message, reply)
        except Exception as error:
            crash = error
        self._give_back(task, crash)

    def call(self, name: str, *args: Any) -> Any:
        """What the actor's method of that name returns, called at once in place of a message: see `BaseActor.direct`.

        `NOT_NOW`, and nothing has happened, where the actor is down or not idle, or does not offer that: send it the
        message then. Never blocks. Raises ActorDied when it crashes in it.
        """
        task = self._consumer
        method = self.direct.get(name)
        if task is None or method is None:
            return NOT_NOW
        self._consumer, self._lent = None, task
        try:
            result = method(*args)
        except Exception as crash:
            self._give_back(task, crash)
            raise ActorDied(self.name, crash) from crash
        if self._lent is task and not self.items:
            self._lent, self._consumer = None, task
        else:
            self._give_back(task, None)
        return result

    def _give_back(self, task: trio.lowlevel.Task, crash: Exception | None) -> None:
        """The consumer is itself again: parked, or woken for its crash or for what came meanwhile."""
        if self._lent is not task:
            return  # the handler had its own actor cancelled: trio wakes the task
        self._lent = None
        if crash is not None:
            _reschedule(task, outcome.Error(crash))
        elif self.items:
            _reschedule(task, outcome.Value(None))
        else:
            self._consumer = task

    async def wait(self) -> None:
        """Return when there is a message; always a checkpoint. For the one consumer; cancellation loses nothing."""
        if self.items:
            await trio.lowlevel.checkpoint()
            return
        self._consumer = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def take_asks(self) -> list[Reply[Any]]:
        """Remove every envelope that has a reply and return the replies; plain messages stay, in their order."""
        replies = [reply for _, reply in self.items if reply is not None]
        if replies:
            plain = [envelope for envelope in self.items if envelope[1] is None]
            self.items.clear()
            self.items.extend(plain)
        return replies

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._consumer = self._lent = None
        return trio.lowlevel.Abort.SUCCEEDED
