"""An actor: a task that alone owns some state, and the messages it is told and asked."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Generic, NoReturn, Protocol, TypeVar, cast

import trio

from .ref import Cell, Ref
from .reply import Reply

M = TypeVar("M")
M_contra = TypeVar("M_contra", contravariant=True)

DEFAULT_CAPACITY = 1024


class Actor(Protocol[M_contra]):
    """The least an actor is."""

    def receive(self, message: M_contra, reply: Reply[Any] | None) -> Awaitable[None] | None:
        """Handle one message; `reply` is None when it was told.

        Usually synchronous: decide, change the state, answer. Where it returns an awaitable (an `async def`), that is
        awaited before the next message is taken. A reply may be sent later: while it is neither answered nor
        forwarded, the actor holds it. An exception is the actor's crash; to refuse, call `reply.fail`.
        """
        ...


class BaseActor(Generic[M]):
    """An actor with the optional hooks, which do nothing here.

    `eager`: a message that finds the actor idle is handled at once, in the sender's task, without a wake-up (several
    microseconds, twice for an ask). Only for actors whose `receive` is synchronous and quick; all promises hold.

    `direct` names methods of an eager actor that `Ref.call` may call in place of a message, when it is idle: they do
    what a message would have it do, and return what it would answer. They are synchronous and quick too, and
    `batch_done` is theirs to do. An exception is the actor's crash.
    """

    eager: ClassVar[bool] = False
    direct: ClassVar[tuple[str, ...]] = ()

    def receive(self, message: M, reply: Reply[Any] | None) -> Awaitable[None] | None:
        """See `Actor.receive`."""
        raise TypeError(f"{type(self).__name__} does not say how it receives {type(message).__name__}")

    async def started(self, context: Context[M]) -> None:
        """Called once before the actor counts as ready; keep `context`. An exception is a failed start."""

    def batch_done(self) -> None:
        """Called after each batch of messages: the place to publish once per burst."""

    def stopped(self) -> None:
        """Called once at any end: a crash, a stop, a failed start. Background tasks are over, all asks answered."""


class Context(Generic[M]):
    """What an actor can do with itself. One per incarnation."""

    __slots__ = ("_cell", "_nursery")

    def __init__(self, cell: Cell[M], nursery: trio.Nursery) -> None:
        self._cell = cell
        self._nursery = nursery

    @property
    def name(self) -> str:
        return self._cell.name

    @property
    def ref(self) -> Ref[M]:
        """The actor's own address, to hand out or to tell itself something."""
        return self._cell.ref

    def publish(self, status: object) -> None:
        """Make `status` what `Ref.status` returns. Publish values nobody changes: everyone sees the same object."""
        self._cell.status = status
        self._cell.make_status = None
        self._cell.changed()

    def hold(self, reply: Reply[Any]) -> None:
        """Take responsibility for a reply until it is done: it fails with ActorDied if this actor dies.

        The reply of a handled message is held by itself; call this for one that came inside a message.
        """
        self._cell.hold(reply)

    def publish_when_read(self, make: Callable[[], object]) -> None:
        """Make what `make()` returns the status, built when it is read: once, however often it changed before."""
        cell = self._cell
        cell.make_status = make
        if cell.watchers:
            cell.changed()

    def start_soon(self, fn: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Run `fn(*args)` beside the actor. Its crash is the actor's crash; it is cancelled when the actor ends."""
        self._nursery.start_soon(self._background, fn, args, name=f"{self.name}: {getattr(fn, '__qualname__', fn)}")

    async def _background(self, fn: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
        try:
            await fn(*args)
        except Exception as crash:
            # Askers learn of it now, not when a message that is being awaited under a shield has ended.
            self._cell.die(crash)
            raise


async def spawn(nursery: trio.Nursery, actor: Actor[M], *, name: str, capacity: int = DEFAULT_CAPACITY) -> Ref[M]:
    """Run `actor` in `nursery` and return its address once it is ready.

    Its crash is raised in the nursery, after everyone who waited for an answer got ActorDied. Cancelling the nursery
    stops it. Raises what its `started` raises. Cancellation before it is ready stops it.
    """
    cell: Cell[M] = Cell(name, capacity)
    await nursery.start(_run_alone, cell, actor, name=f"actor {name}")
    return cell.ref


async def _run_alone(cell: Cell[M], actor: Actor[M], *, task_status: trio.TaskStatus[None]) -> None:
    try:
        await run_incarnation(cell, actor, task_status=task_status)
    finally:
        cell.bury()


async def run_incarnation(
    cell: Cell[M], actor: Actor[M], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run one incarnation of the cell's actor until it crashes or is cancelled. For the kit only.

    Reports readiness after `started`. Raises the crash: bare when there was one, a group when there were several.
    """
    hooks = actor if isinstance(actor, BaseActor) else BaseActor[M]()
    cell.born()
    try:
        async with trio.open_nursery() as nursery:
            await _live(cell, actor, hooks, Context(cell, nursery), task_status)
    except BaseExceptionGroup as group:
        crash = unwrap(group)
    finally:
        hooks.stopped()
    # Outside the handler, so that the crash does not get the group that wraps it as its context.
    raise crash


async def _live(
    cell: Cell[M],
    actor: Actor[M],
    hooks: BaseActor[M],
    context: Context[M],
    task_status: trio.TaskStatus[None],
) -> NoReturn:
    mailbox, items, held, receive = cell.mailbox, cell.mailbox.items, cell.held, actor.receive
    reply: Reply[Any] | None = None

    def at_once(message: M, current: Reply[Any] | None) -> None:
        nonlocal reply
        reply = current
        pending = receive(message, current)
        if pending is not None:
            if inspect.iscoroutine(pending):
                pending.close()
            raise TypeError(f"{type(actor).__name__} is eager, so its receive must not be async")
        if current is not None and not current.done and current.home is held:
            held.add(current)
        hooks.batch_done()

    try:
        await hooks.started(context)
        cell.ready = True
        task_status.started()
        if hooks.eager:
            mailbox.eager = at_once
            mailbox.direct = {name: getattr(actor, name) for name in hooks.direct}
        while True:
            await mailbox.wait()
            if cell.dead():
                # A background task crashed in the same tick; what waits is for the next incarnation.
                await trio.sleep_forever()
            # As many as wait now: an actor that tells itself things cannot keep the others from running.
            for _ in range(len(items)):
                message, reply = items.popleft()
                pending = receive(message, reply)
                if pending is not None:
                    await pending
                    if cell.dead():
                        await trio.sleep_forever()
                if reply is not None and not reply.done and reply.home is held:
                    held.add(reply)
            hooks.batch_done()
    except Exception as crash:
        cell.die(crash, reply)
        raise
    except BaseException:
        cell.die(None, reply)
        raise


def unwrap(error: BaseException) -> BaseException:
    """The only exception in a group of one, at any depth; otherwise what was given."""
    while isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        if len(group.exceptions) != 1:
            return group
        error = group.exceptions[0]
    return error
