"""What can go wrong between actors. All of it is an `ActorError`; nothing here is ever raised for a cancellation."""

from __future__ import annotations


class ActorError(Exception):
    """Base of the kit's errors."""


class ActorDied(ActorError):
    """The actor ended before it answered, or is down, or is gone for good; `name` says which actor.

    `__cause__` is the crash, or None when the actor was stopped. Whether the message had an effect is unknown.
    The sentence names only the type of the crash: what a crash says may hold what it handled.
    """

    def __init__(self, name: str, cause: BaseException | None = None) -> None:
        how = "was stopped" if cause is None else f"died of {type(cause).__name__}"
        super().__init__(f"actor {name!r} {how}")
        self.name = name
        self.__cause__ = cause


class MailboxFull(ActorError):
    """The actor's mailbox has no room: the message was not taken. Shed the work or try later."""

    def __init__(self, name: str, capacity: int) -> None:
        super().__init__(f"the mailbox of actor {name!r} is full: {capacity} messages wait")
        self.name = name
        self.capacity = capacity


class SupervisorExhausted(ActorError):
    """A child crashed more often than its supervisor's restart intensity allows. `__cause__` is the last crash."""

    def __init__(self, name: str, crash: BaseException, *, intensity: int, period: float) -> None:
        super().__init__(f"child {name!r} crashed more than {intensity} times within {period:g} s")
        self.name = name
        self.__cause__ = crash
