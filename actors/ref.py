"""The address of an actor, and the cell behind it that outlives the actor's incarnations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from .kit_errors import ActorDied, MailboxFull
from .mailbox import Mailbox
from .reply import Reply

M = TypeVar("M")
M_contra = TypeVar("M_contra", contravariant=True)


class Cell(Generic[M]):
    """What stays of an actor over its restarts: name, mailbox, published status, the replies it owes. For the kit only.

    `alive`: an incarnation is starting or running, asks are taken. `ready`: it has started. `gone`: there will be none
    any more. `cause`: what the last incarnation died of, None when it was stopped.
    """

    __slots__ = (
        "__weakref__",
        "alive",
        "cause",
        "gone",
        "held",
        "mailbox",
        "make_status",
        "name",
        "ready",
        "ref",
        "status",
        "watchers",
    )

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self.mailbox: Mailbox[M] = Mailbox(name, capacity)
        self.held: set[Reply[Any]] = set()
        self.status: Any = None
        self.make_status: Callable[[], object] | None = None
        self.watchers: tuple[Callable[[str], object], ...] = ()
        self.alive = False
        self.ready = False
        self.gone = False
        self.cause: BaseException | None = None
        self.ref: Ref[M] = Ref(self)

    def born(self) -> None:
        """An incarnation begins: asks are taken from now on."""
        self.alive = True
        self.cause = None

    def hold(self, reply: Reply[Any]) -> None:
        """Be responsible for `reply` until it is done: it fails when this actor dies."""
        if reply.done:
            return
        if not self.alive:
            reply.fail(self.death())
            return
        if reply.home is not self.held and reply.home:
            reply.home.discard(reply)
        reply.home = self.held
        self.held.add(reply)

    def die(self, cause: BaseException | None, current: Reply[Any] | None = None) -> None:
        """The incarnation ended: every asker that waits for it learns so now. Plain messages stay in the mailbox.

        `current` is the reply of the message being handled; it is left alone when it was forwarded.
        """
        self.mailbox.eager = None
        self.mailbox.direct = {}
        if self.alive:
            self.alive = self.ready = False
            self.cause = cause
            self.changed()
        owed = [*self.held, *self.mailbox.take_asks()]
        if current is not None and current.home is self.held:
            owed.append(current)
        for reply in owed:
            reply.fail(self.death())
        self.held.clear()

    def changed(self) -> None:
        """Whoever watches is told that there is another status, or nobody alive."""
        for tell in self.watchers:
            tell(self.name)

    def bury(self) -> None:
        """There will be no other incarnation: waiting messages are dropped, new ones refused."""
        self.die(None)
        self.gone = True
        self.mailbox.items.clear()

    def dead(self) -> bool:
        """A call, not an attribute: the answer changes during an `await`, which type checkers do not see."""
        return not self.alive

    def death(self) -> ActorDied:
        return ActorDied(self.name, self.cause)


class Ref(Generic[M_contra]):
    """An actor's address, for any task of the same trio run. It stays valid over restarts.

    `call` is that of its mailbox: an idle actor's method, called in place of a message.
    """

    __slots__ = ("_cell", "call")

    def __init__(self, cell: Cell[Any]) -> None:
        self._cell = cell
        self.call = cell.mailbox.call

    def __repr__(self) -> str:
        cell = self._cell
        state = "gone" if cell.gone else "alive" if cell.alive else "down"
        return f"<Ref {cell.name!r} {state}, {len(cell.mailbox)} waiting>"

    @property
    def name(self) -> str:
        return self._cell.name

    @property
    def alive(self) -> bool:
        """True while an incarnation starts or runs, so that asks are taken; False between restarts and at the end."""
        return self._cell.alive

    @property
    def gone(self) -> bool:
        """True when the actor ended for good."""
        return self._cell.gone

    @property
    def status(self) -> Any:
        """What the actor published last, or None. It survives a restart until the next incarnation publishes."""
        cell = self._cell
        make = cell.make_status
        if make is not None:
            cell.make_status = None
            cell.status = make()
        return cell.status

    def watch(self, tell: Callable[[str], object]) -> None:
        """Call `tell` with the actor's name whenever it has published, and when it has died, until `unwatch`.

        In the actor's own task: it must be quick, and not read the status there and then.
        """
        self._cell.watchers = (*self._cell.watchers, tell)

    def unwatch(self, tell: Callable[[str], object]) -> None:
        """The opposite of `watch`, for the same object. Harmless where that was not called."""
        self._cell.watchers = tuple(each for each in self._cell.watchers if each is not tell)

    def tell(self, message: M_contra) -> None:
        """Queue a message. Never blocks. While the actor is down it waits for the next incarnation.

        Raises ActorDied when the actor is gone for good, MailboxFull when there is no room.
        """
        cell = self._cell
        if cell.gone:
            raise cell.death()
        cell.mailbox.put(message)

    def deliver(self, message: M_contra) -> bool:
        """Queue a message past the capacity; never blocks, never raises. False when the actor is gone for good.

        Only for messages whose number the actor itself bounds, such as the return of something it handed out.
        """
        cell = self._cell
        if cell.gone:
            return False
        cell.mailbox.put_anyway(message)
        return True

    async def ask(self, message: M_contra) -> Any:
        """Queue a message and wait for its reply.

        Cancellation abandons the question: the actor may handle the message all the same, and its answer is refused.
        An eager actor's answer may be there at once: then this is no checkpoint.

        Raises ActorDied when the actor is down or dies before it answered, MailboxFull when there is no room, and
        whatever error the actor answers with.
        """
        reply = self.request(message)
        if reply.done:
            return reply.take()
        return await reply.wait()

    def request(self, message: M_contra) -> Reply[Any]:
        """The first half of `ask`: queue a message and return the slot of its reply, to be taken or waited for.

        Never blocks. Raises ActorDied when the actor is down, MailboxFull when there is no room.
        """
        cell = self._cell
        if not cell.alive:
            raise cell.death()
        reply: Reply[Any] = Reply(cell.held)
        cell.mailbox.put(message, reply)
        return reply

    def forward(self, message: M_contra, reply: Reply[Any]) -> None:
        """Queue a message with somebody's reply slot: this actor is to answer it from now on.

        Never blocks, never raises: when the actor is down or its mailbox full, the reply fails with the same error
        `ask` would have raised.
        """
        cell = self._cell
        if not cell.alive:
            reply.fail(cell.death())
            return
        if reply.home:
            reply.home.discard(reply)
        reply.home = cell.held
        try:
            cell.mailbox.put(message, reply)
        except MailboxFull as full:
            reply.fail(full)
