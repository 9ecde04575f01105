"""The reply slot: where one answer to one question goes.

A slot is a parked task and nothing else. A channel per question would do the same at twice the cost: what an asker
needs is to be woken once, with a value or an error, and to be able to walk away.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import outcome
import trio

T = TypeVar("T")

# Looked up once: these run twice for every question.
_current_task = trio.lowlevel.current_task
_reschedule = trio.lowlevel.reschedule
_wait_task_rescheduled = trio.lowlevel.wait_task_rescheduled


class Reply(Generic[T]):
    """A slot for one answer. At most one task waits for it; only the first answer counts.

    A slot can travel to another actor (`Ref.forward`). `home` is for the kit: the set of slots kept by the actor that
    is responsible for this one, from which it takes itself out once it is done.

    `done`, which only the slot itself changes: answered, failed or abandoned; what is sent then reaches nobody.
    """

    __slots__ = ("_error", "_task", "_value", "done", "home")

    def __init__(self, home: set[Reply[T]] | None = None) -> None:
        self.home = home
        self.done = False
        self._task: trio.lowlevel.Task | None = None
        self._value: T | None = None
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        state = "done" if self.done else "waiting" if self._task is not None else "open"
        return f"<Reply {state}>"

    def send(self, value: T) -> bool:
        """Answer. True: the asker gets `value`, even when it is cancelled at this very moment.

        False: nobody waits any more (the asker was cancelled, or somebody answered before): take back what was granted.
        True is also returned when the asker has yet to call `wait`.
        """
        if self.done:
            return False
        self.done = True
        home = self.home
        if home:
            home.discard(self)
        task = self._task
        if task is None:
            self._value = value
        else:
            self._task = None
            _reschedule(task, outcome.Value(value))
        return True

    def fail(self, error: BaseException) -> bool:
        """Answer with an error, which `wait` raises; returns what `send` returns. Give each slot its own error."""
        if self.done:
            return False
        self.done = True
        if self.home:
            self.home.discard(self)
        if self._task is None:
            self._error = error
        else:
            task, self._task = self._task, None
            _reschedule(task, outcome.Error(error))
        return True

    def abandon(self) -> None:
        """Nobody will wait: every answer from now on is refused. Of no effect on a slot that is done."""
        self.done = True
        self._task = None
        if self.home:
            self.home.discard(self)

    def take(self) -> T:
        """The answer of a slot that is done and nobody waits for; raises the error it failed with."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    async def wait(self) -> T:
        """Wait for the answer and return it, or raise the error it failed with. Once per slot.

        Cancellation abandons the slot. An answer given before the wait began is returned even to a cancelled caller.

        Raises RuntimeError when another task waits or has waited already.
        """
        if self._task is not None:
            raise RuntimeError("another task waits for this reply already")
        if not self.done:
            self._task = _current_task()
            return await _wait_task_rescheduled(self._abort)  # type: ignore[no-any-return]
        await trio.lowlevel.cancel_shielded_checkpoint()
        return self.take()

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self.abandon()
        return trio.lowlevel.Abort.SUCCEEDED
