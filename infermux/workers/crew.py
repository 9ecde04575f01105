"""The process that leads several workers: it starts and watches them, deals out the limits, and serves nothing itself.

Workers listen on the same port, each by a socket of its own (SO_REUSEPORT, socket(7)), and the system spreads
connections over them. What has to be true of all of them together is decided here: who has which part of the limits,
which configuration is in force, and that none is left when this process is gone.
"""

from __future__ import annotations

import logging
import secrets
import signal
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import outcome
import trio

from infermux.config.settings import Config
from infermux.config.workers import workers_of
from infermux.errors import InfermuxError
from infermux.processes.restarts import Restarts
from infermux.processes.spec import Spec

from .dealing import Dealing
from .link import Failed, LinkLost
from .messages import Adopt, Begin, CatchUp, Latest, Load, NotLoaded, Now, Obey, Ready, Reload, See, Seen, Turn, Word
from .process import Child, begin, said, start, to_stderr

log = logging.getLogger("infermux.workers")

PATIENCE = 60.0  # seconds a worker may take to answer; one that does not is killed
ASK_EVERY = 10.0  # seconds from one answer of a worker to the next question, if nobody has any other
STARTS_WITHIN = 300.0  # ... to listen: providers that are `strict` and databases are waited for
OVER_POLL = 0.1
SAYS_WITHIN = 2.0  # seconds between the end of one's link to us and its own
ENDS_WITHIN = 20.0  # seconds beside its grace: its ledger, budgets, providers and database each have some
RESTARTS = Spec(name="worker", command=("infermux",), backoff_base=0.1, backoff_max=10.0, retry_failed=30.0)


Launch = Callable[[int, int, Callable[[bytes], None]], Child]
"""Starts a worker at a place; see `process.start`."""


class NotStarted(InfermuxError):
    """A worker did not come up when all were started."""


@attrs.define(eq=False)
class Crew:
    """The workers of `config`, whose ports are fixed. `dealing` is there from the start on.

    `folder` has the workers' sockets, `leader` is the end of a pipe that they watch. `reload` is what
    an operator asks. `loading` is held while `config` changes, and while workers are told that it has.
    `words` are what an operator has last said of providers, see `Obey`.
    """

    config: Config
    reload: Callable[[bool], Awaitable[dict[str, object]]]
    launch: Launch = start
    of: int = attrs.field(init=False)
    children: dict[int, Child] = attrs.field(factory=dict[int, Child])
    ending: trio.Event = attrs.field(factory=trio.Event)
    started: bool = False
    seen: dict[int, Seen] = attrs.field(factory=dict[int, Seen])
    words: dict[str, str] = attrs.field(factory=dict[str, str])
    folder: str = ""
    leader: int = -1
    loading: trio.Lock = attrs.field(factory=trio.Lock)
    _cookies: bytes = attrs.field(factory=lambda: secrets.token_bytes(32), repr=False)
    _writing: threading.Lock = attrs.field(factory=threading.Lock)
    _restarts: dict[int, Restarts] = attrs.field(factory=dict[int, Restarts])
    _over: trio.Event = attrs.field(factory=trio.Event)
    dealing: Dealing = attrs.field(init=False)
    _background: trio.Nursery = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.of = workers_of(self.config)

    def __repr__(self) -> str:
        return f"Crew({len(self.children)} of {self.of})"

    @property
    def draining(self) -> bool:
        """It was told to end."""
        return self.ending.is_set()

    @property
    def ready(self) -> Ready:
        """Where it listens: all of them on the same ports."""
        return next(child.ready for child in self.children.values() if child.ready is not None)

    async def start(self, nursery: trio.Nursery) -> None:
        """Start all workers; returns when all listen. Raises NotStarted: one has ended before."""
        self._background = nursery
        self.dealing = Dealing(self.children, self.ask, nursery)
        for place in range(self.of):
            self.dealing.counted.add(place)
            self.dealing.bank.comes(place)
        for place in range(self.of):
            await nursery.start(self._keep, place)
        failed: list[str] = []
        async with trio.open_nursery() as waiting:
            for child in list(self.children.values()):
                waiting.start_soon(self._fail_with, child, failed)
            for child in list(self.children.values()):
                while not child.listens.is_set() and not failed:
                    with trio.move_on_after(OVER_POLL):
                        await child.listens.wait()
            waiting.cancel_scope.cancel()
        if failed and not self.draining:
            raise NotStarted(f"{failed[0]} before it was ready; what it said is above")
        self.started = True

    async def _fail_with(self, child: Child, failed: list[str]) -> None:
        """Add to `failed` how it ended, once all that it wrote is written."""
        await child.link.lost.wait()
        if not child.listens.is_set():
            how = "lost its link to us"
            with trio.move_on_after(SAYS_WITHIN):
                how = said(await child.ended())
            failed.append(f"worker {child.place} {how}")

    async def run(self) -> None:
        """Return when all have ended after a drain, or none can be kept."""
        await self._over.wait()

    # One worker after the other at one place.

    async def _keep(self, place: int, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep a worker running at `place` until the end."""
        restarts = self._restarts.setdefault(place, Restarts(RESTARTS))
        first = True
        while not self.ending.is_set():
            try:
                child = self.launch(place, self.leader, partial(to_stderr, self._writing))
            except OSError as error:
                if first:
                    raise
                pause = await self._without(place, f"cannot be started: {error}", 0.0, restarts)
            else:
                self.children[place] = child
                if first:
                    task_status.started()
                code = await self._attend(child, first=first)
                first = False
                pause = await self._ended(child, code, restarts)
            with trio.move_on_after(pause):
                await self.ending.wait()
            if not self.ending.is_set():
                await self.dealing.make_room(place)
        if not self.children:
            self._over.set()

    async def _attend(self, child: Child, *, first: bool) -> int:
        """Live with a worker; its exit code."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.link.run, partial(self._answer, child))
            nursery.start_soon(self._begin, child, first)
            nursery.start_soon(self._watch, child)
            code = await child.ended()
            nursery.cancel_scope.cancel()
        return code

    async def _watch(self, child: Child) -> None:
        """Nobody else may ever ask it: one that hangs, or can be asked no more and does not end, is killed."""
        while not child.link.lost.is_set():
            if child.listens.is_set():
                await self.ask(child, See())
            with trio.move_on_after(ASK_EVERY):
                await child.link.lost.wait()
        await trio.sleep(ENDS_WITHIN)
        log.error("worker %d has not ended %g s after its link to us: it is killed", child.place, ENDS_WITHIN)
        child.signal(signal.SIGKILL)

    async def _begin(self, child: Child, first: bool) -> None:
        message = Begin(
            config=self.config,
            share=self.dealing.share(child.place, late=not first),
            place=child.place,
            of=self.of,
            folder=self.folder,
            cookies=self._cookies,
            words=dict(self.words),
        )
        try:
            with trio.fail_after(STARTS_WITHIN):
                await begin(child, message)
                await child.listens.wait()
        except LinkLost:
            return
        except (Failed, trio.TooSlowError) as error:
            what = str(error) or f"in {STARTS_WITHIN:g} s"
            log.error("worker %d does not come up (%s): it is killed", child.place, what)  # noqa: TRY400
            child.signal(signal.SIGKILL)
            return
        await self.dealing.deal()  # others may have come since it was told its part
        await self._bring_up_to_date(child)
        if child.late:
            await self.dealing.let_in(child)

    async def _catch_up(self, child: Child) -> Latest:
        """What has changed since it was told; not while all are told. It is about to listen."""
        async with self.loading:
            config = None if child.config is self.config else self.config
            words = self._words_for(child)
            child.config, child.words = self.config, dict(self.words)
        return Latest(config, words)

    def _words_for(self, child: Child) -> dict[str, str]:
        return {name: verb for name, verb in self.words.items() if verb != child.words.get(name, "enable")}

    async def _bring_up_to_date(self, child: Child) -> None:
        """Tell it what has changed since it was told last, while nobody told it as it did not listen yet."""
        async with self.loading:
            if child.config is not self.config:
                try:
                    await self.ask(child, Load(self.config))
                except NotLoaded as refused:
                    log.error("worker %d is started again: %s", child.place, refused.message)  # noqa: TRY400
                    child.signal(signal.SIGKILL)
        said_since = self._words_for(child)
        if said_since:
            await self.ask(child, Obey(said_since))

    async def _ended(self, child: Child, code: int, restarts: Restarts) -> float:
        """Seconds to the next start."""
        del self.children[child.place]
        self.seen.pop(child.place, None)
        self.dealing.bank.goes(child.place)
        ready_for = 0.0 if child.ready_at is None else trio.current_time() - child.ready_at
        return await self._without(child.place, said(code), ready_for, restarts)

    async def _without(self, place: int, what: str, ready_for: float, restarts: Restarts) -> float:
        """Nobody is there. Seconds to the next start; what it had of the limits goes to the others."""
        self.dealing.counted.discard(place)
        if self.draining or not self.started:
            return 0.0
        pause = restarts.ended(trio.current_time(), ready_for)
        log.error("worker %d %s; it is started again in %.1f s", place, what, pause)
        if restarts.looping and not any(each.ready for each in self.children.values()):
            log.error("no worker stays up: giving up")
            self._over.set()
            return pause
        self._background.start_soon(self.dealing.deal)  # one that hangs is not to hold up who comes in its place
        return pause

    async def _answer(self, child: Child, message: Any) -> Any:
        match message:
            case Ready():
                child.ready, child.ready_at = message, trio.current_time()
                child.listens.set()
                return None
            case Turn(accounts):
                grants = self.dealing.bank.turn(child.place, accounts)
                child.has_told |= grants is not None
                return grants
            case CatchUp():
                return await self._catch_up(child)
            case Reload(dry_run):
                return await self._reload_apart(child, dry_run)
            case Word(provider, verb, missed):
                self.words[provider] = verb
                for each in [self.children[place] for place in missed if place in self.children]:
                    if each.listens.is_set():  # whoever answers the operator does not wait for those that are slow
                        self._background.start_soon(self.ask, each, Obey({provider: verb}))
                return None
            case _:
                raise ValueError("nothing that a leader is told")

    async def _reload_apart(self, child: Child, dry_run: bool) -> dict[str, object]:
        """Not as a task of the worker that was asked for it: when that one dies, the others are told all the same."""
        done, result = trio.Event(), list[outcome.Outcome[dict[str, object]]]()

        async def reload() -> None:
            try:
                result.append(outcome.Value(await self.reload(dry_run)))
            except Exception as error:  # it is for who asked
                result.append(outcome.Error(error))
            if child.link.lost.is_set():
                what = str(result[0].error) if isinstance(result[0], outcome.Error) else "done"
                log.warning("worker %d was asked to reload and has ended meanwhile: %s", child.place, what)
            done.set()

        self._background.start_soon(reload)
        await done.wait()
        return result[0].unwrap()

    async def ask(self, child: Child, message: Any) -> Any:
        """Its answer; None where it is gone. One that fails, or not in time, is killed. Raises NotLoaded."""
        child.is_over |= isinstance(message, Load)  # of limits that are to be, for all that is known
        try:
            with trio.fail_after(PATIENCE):
                answer = await child.link.ask(message)
            if isinstance(answer, Seen):
                child.is_over = answer.over
            elif isinstance(message, Adopt | Load):
                child.is_over = isinstance(message, Load) or bool(answer)
            return answer
        except LinkLost:
            return None
        except Failed as failed:
            log.error("worker %d could not answer (%s): it is killed", child.place, failed)  # noqa: TRY400
        except trio.TooSlowError:
            log.error("worker %d has not answered for %g s: it is killed", child.place, PATIENCE)  # noqa: TRY400
        child.signal(signal.SIGKILL)
        return None

    # The end.

    def drain(self) -> None:
        """Have all finish what they have; they end by themselves then. Called again: at once.

        SIGTERM they may have of others too: systemd sends one to each process of a service.
        """
        again = self.draining
        self.ending.set()
        for child in list(self.children.values()):
            if again:
                self._background.start_soon(self.ask, child, Now())
            else:
                child.signal(signal.SIGTERM)
        if not self.children:
            self._over.set()

    async def look(self) -> None:
        """See how they are, for who is told."""
        for child in list(self.children.values()):
            if child.listens.is_set() and isinstance(found := await self.ask(child, See()), Seen):
                self.seen[child.place] = found

    @property
    def in_flight(self) -> int:
        """Requests under way, as last seen."""
        return sum(seen.in_flight for seen in self.seen.values())

    async def kill(self) -> None:
        """End what is left, and wait for that."""
        for child in list(self.children.values()):
            child.signal(signal.SIGKILL)
        for child in list(self.children.values()):
            await child.ended()
