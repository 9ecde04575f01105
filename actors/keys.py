"""The keys that callers come with: who a key is, what it may, and what is left of its limits.

The actor holds every key of the store in memory. It looks every two seconds whether the store has changed, so that a
key revoked from elsewhere ends within that time; what is changed through `Keys` counts at once. While the store cannot
be asked, known keys stay what they were, and a key that is not known is refused with a 503: it may be a good one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Final, Protocol

import attrs
import msgspec
import trio

from infermux.errors import (
    DatabaseUnavailable,
    InfermuxError,
    RateLimited,
)
from infermux.keys import KeyBudget, StoredKey, pick, rotated
from infermux.secret import Secret

from .actor import BaseActor, Context
from .bucket import Buckets
from .key_limits import KeyLimits
from .key_table import LOOK_EVERY, KeyTable, Known
from .kit_errors import ActorDied, MailboxFull
from .learned import LearnedTokens
from .messages import Outcome, Want
from .ref import Ref
from .reply import Reply
from .supervisor import Child, Supervisor

log = logging.getLogger("infermux.keys")

NAME: Final = "infermux.keys"  # no provider can be called so
STORE_PATIENCE: Final = 5.0  # seconds it may take to answer


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


# What the actor is told and asked.


@attrs.frozen
class Put:
    """The store has this from now on."""

    stored: StoredKey


@attrs.frozen
class Watch:
    """Keys are asked for from now on, or not any more."""

    wanted: bool


@attrs.frozen
class Look:
    """Look at the store now. Answered when that has ended, well or not."""


@attrs.define(eq=False, kw_only=True)
class KeysActor(BaseActor[Any]):
    """Owns the table: nobody else changes which keys there are."""

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
        match message:
            case Put(stored):
                self.table.put(stored, trio.current_time())
                if reply is not None:
                    reply.send(None)
            case Watch(wanted):
                self.table.watched = wanted
                self._look_now.set()
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
            if self.table.watched or askers:
                await self._look()
            for asker in askers:
                asker.send(None)
            with trio.move_on_after(LOOK_EVERY if self.table.watched else math.inf):
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


class Ended(Protocol):
    """An attempt that has ended, as its lease knows: its outcome, None where nobody has told it."""

    @property
    def outcome(self) -> Outcome | None: ...


class Permit(msgspec.Struct, eq=False):
    """What one request of a key holds of its limits; `release` gives it back, exactly once."""

    limits: KeyLimits
    reserved: int
    _learned: LearnedTokens
    _model: str
    _released: bool = False

    def release(self, trail: Iterable[Ended], now: float) -> None:
        """The request has ended; `trail` has its attempts. Synchronous and never raises."""
        if self._released:
            return
        self._released = True
        used = 0
        for attempt in trail:
            outcome = attempt.outcome
            usage = None if outcome is None else outcome.usage
            if usage is not None:
                used += usage.prompt_tokens + usage.completion_tokens
                if not usage.estimated:
                    self._learned.observe(self._model, usage.completion_tokens)
        self.limits.settle(self.reserved, used, now)


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

    def admit(self, known: Known, want: Want, now: float) -> Permit:
        """Room for one request in the limits of its key. Raises RateLimited, saying which limit, and until when.

        Reserved are min(estimate, limit) tokens, by the same estimate as a provider's. Limits are taken from and given
        back at once, in the request's own task: nothing can come between the look at them and that.
        """
        learned, limits, model = self.table.learned, known.limits, want.model
        tokens = learned.reservation(model, want.prompt_tokens, want.max_tokens, None)
        admitted = limits.admit(tokens, now)
        if not isinstance(admitted, int):
            raise RateLimited(admitted.said(known.stored.name, now), retry_after=admitted.wait(now))
        return Permit(limits, admitted, learned, model)

    def budget_of(self, key_id: str) -> KeyBudget | None:
        """What the key with that id may spend; None: as much as it likes, or there is none."""
        known = self.table.keys.get(key_id)
        return None if known is None else known.stored.allows.budget

    def name_of(self, key_id: str) -> str | None:
        """What the key with that id is called; None: there is none, as far as is known."""
        known = self.table.keys.get(key_id)
        return None if known is None else known.stored.name

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
        text, changed = rotated(key, now=self.wall(), keep_old=keep_old)
        changed = await self.store.replace(changed)
        await self._put(changed)
        return text, changed

    def watch(self, *, wanted: bool) -> None:
        """Whether callers are asked for keys, so that the store is to be looked at."""
        self.ref.deliver(Watch(wanted))

    async def look(self) -> None:
        """Look at the store now; returns when that has ended, well or not. Raises ActorDied."""
        await self.ref.ask(Look())

    async def _put(self, key: StoredKey) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):  # it is in the store already
            try:
                await self.ref.ask(Put(key))
            except (InfermuxError, ActorDied, MailboxFull):
                self.table.put(key, trio.current_time())  # a revocation does not wait for the actor's restart


async def start_keys(
    supervisor: Supervisor,
    store: KeyStore,
    *,
    capacity: int,
    wall: Callable[[], float] = time.time,
    buckets: Callable[[str], Buckets] | None = None,
) -> Keys:
    """Start the actor. `capacity` is how many requests may wait for it. Nothing is read before it is told to watch.

    `buckets`: see `KeyTable`.
    """
    table = KeyTable(buckets=buckets)
    ref = await supervisor.start_child(Child(NAME, lambda: KeysActor(table=table, store=store), capacity=capacity))
    return Keys(ref=ref, table=table, store=store, wall=wall)
