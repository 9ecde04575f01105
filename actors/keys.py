"""The keys that callers come with: who a key is, what it may, and what is left of its limits.

The actor holds every key of the store in memory. It looks every two seconds whether the store has changed, so that a
key revoked from elsewhere ends within that time; what is changed through `Keys` counts at once. While the store cannot
be asked, known keys stay what they were, and a key that is not known is refused with a 503: it may be a good one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Final, Protocol

import attrs
import trio

from infermux.errors import (
    Conflict,
    DatabaseUnavailable,
    InfermuxError,
    KeysUnavailable,
    NotFound,
    Overloaded,
    RateLimited,
    Unauthorized,
)
from infermux.keys import KeyBudget, StoredKey, read_key, rotated
from infermux.secret import Secret

from .actor import BaseActor, Context
from .identity import Identity
from .key_limits import KeyLimits, Overrun
from .kit_errors import ActorDied, MailboxFull
from .learned import LearnedTokens
from .messages import Outcome, Priority, Want
from .ref import Ref
from .reply import Reply

log = logging.getLogger("infermux.keys")

LOOK_EVERY: Final = 2.0  # seconds between two looks at the store
STORE_PATIENCE: Final = 5.0  # seconds it may take to answer
NO_KEY: Final = "this router asks for a key: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`"
NOT_OURS: Final = "the key that was sent is not this router's"


class KeyStore(Protocol):
    """Where keys are kept. Every call may raise DatabaseUnavailable, saying why."""

    async def revision(self) -> int:
        """A number that is another one after each change, whoever makes it."""
        ...

    async def load(self) -> Sequence[StoredKey]:
        """All keys, the revoked ones too."""
        ...

    async def add(self, key: StoredKey) -> None:
        """Keep a new key. Conflict: one that is not revoked has its name."""
        ...

    async def replace(self, key: StoredKey) -> StoredKey:
        """Keep `key` in the place of the one with its id and revision; returned is it with its new revision.

        Conflict: that has changed meanwhile, or is gone.
        """
        ...


@attrs.define(eq=False)
class Known:
    """A key in memory. `priority` is the best class its requests may have; `who` who they are from unless they say."""

    stored: StoredKey
    limits: KeyLimits = attrs.field(factory=KeyLimits)
    priority: Priority = attrs.field(init=False)
    who: Identity = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.adopt(self.stored, 0.0)

    def adopt(self, stored: StoredKey, now: float) -> None:
        self.stored = stored
        self.limits.adopt(stored.allows, now)
        self.priority = Priority[stored.allows.priority.upper()]
        self.who = Identity(caller=stored.name, key=stored.id)


@attrs.define(eq=False)
class KeyTable:
    """All keys that are known, by id. It outlives its actor: a crash must not refill a limit.

    `loaded`: the store was read at least once. `trouble` is why it could not be asked last time. `changes` counts what
    was put in by hand, so that what was read before it is not taken for newer.
    """

    keys: dict[str, Known] = attrs.field(factory=dict[str, Known])
    learned: LearnedTokens = attrs.field(factory=LearnedTokens)
    loaded: bool = False
    trouble: str | None = None
    revision: int = -1
    changes: int = 0

    def find(self, given: bytes | None, wall: float) -> Known:
        """The key that `given` is; `wall` in seconds since 1970.

        Raises Unauthorized, and KeysUnavailable for a key that is unknown only because the store cannot be asked. An id
        is public, so that it takes another time to find one that is known than one that is not tells nobody anything;
        secrets are compared in constant time.
        """
        if given is None:
            raise Unauthorized(NO_KEY)
        read = read_key(given)
        if read is None:
            raise Unauthorized(NOT_OURS)
        known = self.keys.get(read[0])
        if known is None:
            if self.trouble is not None or not self.loaded:
                raise KeysUnavailable(
                    "the key that was sent is not known yet, and the router cannot look it up now; try again",
                    retry_after=LOOK_EVERY,
                )
            raise Unauthorized(NOT_OURS)
        stored = known.stored
        if not stored.is_of(read[1], wall):
            raise Unauthorized(NOT_OURS)
        state = stored.state(wall)
        if state != "active":
            raise Unauthorized(f"the key {stored.name!r} {'has expired' if state == 'expired' else 'was revoked'}")
        return known

    def adopt(self, keys: Iterable[StoredKey], now: float) -> None:
        """These are all keys there are."""
        found = {stored.id: stored for stored in keys}
        self.keys = {key_id: known for key_id, known in self.keys.items() if key_id in found}
        for stored in found.values():
            self._set(stored, now)
        self.loaded = True

    def put(self, stored: StoredKey, now: float) -> None:
        """One key is new, or another one than before."""
        self.changes += 1
        self._set(stored, now)

    def _set(self, stored: StoredKey, now: float) -> None:
        known = self.keys.get(stored.id)
        if known is None:
            self.keys[stored.id] = Known(stored)
        elif known.stored != stored:
            known.adopt(stored, now)


def pick(name: str, keys: Iterable[StoredKey]) -> StoredKey:
    """The key with the id `name`, or the one of that name that is not revoked. NotFound, Conflict: there are both."""
    found = [key for key in keys if key.id == name or (key.name == name and key.revoked_at is None)]
    if not found:
        raise NotFound(f"there is no key with the id or name {name!r}")
    if len(found) > 1:
        raise Conflict(f"{name!r} is the id of one key and the name of another; use the id of the one that is meant")
    return found[0]


# What the actor is told and asked.


@attrs.frozen
class Admit:
    """Take what a request of a key needs. Answered with the tokens reserved, or with an `Overrun`."""

    known: Known
    tokens: int


@attrs.frozen
class Settle:
    """A request that was admitted has ended and has `used` this many tokens."""

    known: Known
    reserved: int
    used: int


@attrs.frozen
class Put:
    """The store has this from now on."""

    stored: StoredKey


@attrs.frozen
class Look:
    """Look at the store now. Answered when that has ended, well or not."""


@attrs.define(eq=False, kw_only=True)
class KeysActor(BaseActor[Any]):
    """Owns the table: nobody else changes it."""

    eager: ClassVar[bool] = True

    table: KeyTable
    store: KeyStore
    _context: Context[Any] | None = None
    _look_now: trio.Event = attrs.field(factory=trio.Event)
    _askers: list[Reply[Any]] = attrs.field(factory=list[Reply[Any]])

    async def started(self, context: Context[Any]) -> None:
        self._context = context
        context.start_soon(self._watch)

    def receive(self, message: Any, reply: Reply[Any] | None) -> None:
        now = trio.current_time()
        match message:
            case Admit(known, tokens) if reply is not None:
                admitted = known.limits.admit(tokens, now)
                if not reply.send(admitted) and not isinstance(admitted, Overrun):
                    known.limits.settle(admitted, 0, now)  # whoever asked has left
            case Settle(known, reserved, used):
                known.limits.settle(reserved, used, now)
            case Put(stored):
                self.table.put(stored, now)
                if reply is not None:
                    reply.send(None)
            case Look() if reply is not None:
                assert self._context is not None
                self._context.hold(reply)
                self._askers.append(reply)
                self._look_now.set()
            case _:
                pass

    async def _watch(self) -> None:
        while True:
            askers, self._askers = self._askers, []
            await self._look()
            for asker in askers:
                asker.send(None)
            with trio.move_on_after(LOOK_EVERY):
                await self._look_now.wait()
            self._look_now = trio.Event()

    async def _look(self) -> None:
        """Read the store if it has changed. What cannot be asked changes nothing but `trouble`."""
        table, changes = self.table, self.table.changes
        trouble: str | None = f"no answer within {STORE_PATIENCE:g} s"
        with trio.move_on_after(STORE_PATIENCE):
            try:
                revision = await self.store.revision()
                if revision != table.revision:
                    keys = await self.store.load()
                    if changes == table.changes:  # else it may be older than what was put in meanwhile
                        table.adopt(keys, trio.current_time())
                        table.revision = revision
                trouble = None
            except DatabaseUnavailable as down:
                trouble = down.message
        if trouble is not None and table.trouble is None:
            log.warning("keys cannot be looked up: %s; known keys stay valid, others are refused", trouble)
        elif trouble is None and table.trouble is not None:
            log.info("keys can be looked up again")
        table.trouble = trouble


@attrs.define(eq=False)
class Permit:
    """What one request of a key holds of its limits; `release` gives it back, exactly once."""

    known: Known
    reserved: int
    _ref: Ref[Any]
    _learned: LearnedTokens
    _model: str
    _released: bool = False

    def release(self, outcomes: Iterable[Outcome | None]) -> None:
        """The request has ended; `outcomes` are those of its attempts. Synchronous and never raises."""
        if self._released:
            return
        self._released = True
        used = 0
        for outcome in outcomes:
            usage = None if outcome is None else outcome.usage
            if usage is not None:
                used += usage.total
                if not usage.estimated:
                    self._learned.observe(self._model, usage.completion_tokens)
        self._ref.deliver(Settle(self.known, self.reserved, used))


@attrs.define(eq=False, kw_only=True)
class Keys:
    """The keys of a running router, for those who admit and those who manage. `wall` is seconds since 1970."""

    ref: Ref[Any]
    table: KeyTable
    store: KeyStore
    wall: Callable[[], float] = time.time

    def find(self, given: bytes | None) -> Known:
        """The key a caller sent. Raises Unauthorized, KeysUnavailable."""
        return self.table.find(given, self.wall())

    async def admit(self, known: Known, want: Want) -> Permit:
        """Room for one request in the limits of its key. Raises RateLimited, saying which limit, and until when.

        Reserved are min(estimate, limit) tokens, by the same estimate as a provider's; cancelled it holds nothing.
        """
        learned = self.table.learned
        tokens = learned.reservation(want.model, want.prompt_tokens, want.max_tokens, known.limits.capacity)
        try:
            admitted: int | Overrun = await self.ref.ask(Admit(known, tokens))
        except ActorDied as died:
            raise KeysUnavailable("the limits of keys are being restarted; try again", retry_after=1) from died
        except MailboxFull as full:
            raise Overloaded("more requests wait than the router can hold; try again", retry_after=1) from full
        if isinstance(admitted, Overrun):
            now = trio.current_time()
            raise RateLimited(admitted.said(known.stored.name, now), retry_after=admitted.wait(now))
        return Permit(known, admitted, self.ref, learned, want.model)

    def budget_of(self, key_id: str) -> KeyBudget | None:
        """What the key with that id may spend; None: as much as it likes, or there is none."""
        known = self.table.keys.get(key_id)
        return None if known is None else known.stored.allows.budget

    # Management.

    async def all(self) -> list[StoredKey]:
        """Every key as the store has it now, the oldest first. Raises DatabaseUnavailable."""
        return sorted(await self.store.load(), key=lambda key: (key.created_at, key.id))

    async def create(self, key: StoredKey) -> None:
        """Keep a new key; it is good at once. Raises Conflict, DatabaseUnavailable."""
        await self.store.add(key)
        await self._put(key)

    async def revoke(self, name: str) -> StoredKey:
        """End a key, by id or name, at once. Raises NotFound, Conflict, DatabaseUnavailable. Idempotent by id."""
        key = pick(name, await self.store.load())
        if key.revoked_at is None:
            key = await self.store.replace(attrs.evolve(key, revoked_at=self.wall()))
        await self._put(key)
        return key

    async def rotate(self, name: str, *, keep_old: float) -> tuple[Secret, StoredKey]:
        """A new secret for a key; the old one stays good for `keep_old` seconds. Raises as `revoke`."""
        key = pick(name, await self.store.load())
        if key.revoked_at is not None:
            raise Conflict(f"the key {key.name!r} was revoked: create another one")
        text, changed = rotated(key, now=self.wall(), keep_old=keep_old)
        changed = await self.store.replace(changed)
        await self._put(changed)
        return text, changed

    async def look(self) -> None:
        """Look at the store now; returns when that has ended, well or not. Raises ActorDied."""
        await self.ref.ask(Look())

    async def _put(self, key: StoredKey) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):  # it is in the store already
            try:
                await self.ref.ask(Put(key))
            except (InfermuxError, ActorDied, MailboxFull):
                self.table.revision = -1  # whoever comes next reads it from the store
