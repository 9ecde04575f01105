"""One of several processes that serve a port together: what it is told by the one that leads, and tells it."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import attrs
import trio

from infermux.actors.bank import Customer
from infermux.actors.kit_errors import ActorDied
from infermux.actors.provider_messages import Verb
from infermux.actors.share import Share
from infermux.config.settings import Config
from infermux.errors import ConfigError, InfermuxError, NotFound, Problem
from infermux.http.application import Application
from infermux.http.server import Running
from infermux.http.sibling_server import serve_siblings
from infermux.http.siblings import ANSWERS_WITHIN, Siblings

from .link import Failed, Link, LinkLost
from .messages import Adopt, Begin, CatchUp, Done, Latest, Load, NotLoaded, Obey, Ready, Reload, See, Seen, Turn, Word

log = logging.getLogger("infermux.workers")

LASTING = {verb.value for verb in (Verb.ENABLE, Verb.DISABLE, Verb.DRAIN)}
TURN_EVERY = 0.5  # seconds between two turns at the bank


@attrs.define(eq=False)
class Worker:
    """This process, as one of the crew. `begin` is what it was told to serve."""

    link: Link
    begin: Begin
    latest: Config
    application: Application | None = None

    @property
    def share(self) -> Share:
        """Our part of every limit to begin with. By way of Redis nobody is dealt the parts of those that are not there:
        while it is away the part is the same, however many of us run just now.
        """
        begin = self.begin
        return begin.share if begin.config.state.url is None else Share(begin.place, begin.of)

    @property
    def siblings(self) -> Siblings:
        """All workers, for each other."""
        begin = self.begin
        return Siblings(
            place=begin.place,
            of=begin.of,
            folder=begin.folder,
            cookies=begin.cookies,
            reload=self._ask_for_reload,
            commanded=self._tell_of_command,
        )

    def load(self) -> tuple[Config, list[Problem]]:
        """What the leader has read and checked."""
        return self.latest, []

    async def catch_up(self, application: Application) -> bool:
        """To be called before it listens: starting may have taken minutes. Take what has changed meanwhile.

        Returns whether the configuration has. Raises InfermuxError where it cannot be taken.
        """
        await obey(application, self.begin.words)
        try:
            latest: Latest = await self.link.ask(CatchUp())
        except LinkLost:
            return False  # which ends this process
        if latest.config is not None:
            try:
                await self._load(application, latest.config, dry_run=False)
            except NotLoaded as refused:
                raise InfermuxError(f"what was reloaded meanwhile cannot be taken: {refused.message}") from None
        await obey(application, latest.words)
        return latest.config is not None

    async def attend(self, application: Application, running: Running, *, task_status: trio.TaskStatus[None]) -> None:
        """Do as the leader says, and answer the others; started when the leader knows that this one listens."""
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_siblings, application, self.siblings))
            self.application = application
            with suppress(LinkLost):
                await self.link.ask(
                    Ready(addresses=running.addresses, management_addresses=running.management_addresses)
                )
            task_status.started()
            await self._take_turns(application)

    async def _take_turns(self, application: Application) -> None:
        """Tell what budgets have spent here, and hear what they have elsewhere, for as long as there is a leader."""
        treasury = application.fleet.treasury
        keeper = treasury.keeper
        customer = Customer(treasury.purses, keeper.knows, keeper.expects, lambda: treasury.clock())
        with suppress(LinkLost):
            while True:
                customer.hears(await self.link.ask(Turn(customer.says())))
                await trio.sleep(TURN_EVERY)

    async def answer(self, message: Any) -> Any:
        """See `messages`."""
        application = self.application
        if application is None:
            raise NotLoaded("it is starting", status=503)
        match message:
            case Adopt(share):
                application.fleet.adopt_share(share)
                return application.fleet.is_over
            case Load(config, dry_run):
                return await self._load(application, config, dry_run)
            case Obey(words):
                await obey(application, words)
                return None
            case See():
                inference = application.inference
                return Seen(in_flight=inference.in_flight, draining=inference.draining, over=application.fleet.is_over)
            case _:
                raise NotLoaded(f"{message!r} is nothing that a worker is told")

    async def _load(self, application: Application, config: Config, dry_run: bool) -> Done:
        former, self.latest = self.latest, config
        try:
            done = await application.reloader.reload(dry_run=dry_run)
        except BaseException as error:
            self.latest = former
            if isinstance(error, ConfigError):
                raise NotLoaded(error.message, tuple(error.problems)) from None
            if isinstance(error, InfermuxError):
                raise NotLoaded(error.message, status=error.status, code=error.code) from None
            if isinstance(error, Exception):
                log.exception("the configuration could not be taken")
                raise NotLoaded(f"a worker failed at it: {type(error).__name__}", status=500) from None
            raise
        if dry_run:
            self.latest = former
        return Done(told=done.as_json(), lines=tuple(done.difference.lines()))

    async def _tell_of_command(self, provider: str, verb: str, missed: Sequence[int]) -> None:
        """Have the leader tell those that missed it, and those that come later, what an operator wants to last."""
        if verb in LASTING:  # one that is stopped has it in its socket, and hears it when it goes on
            with trio.move_on_after(ANSWERS_WITHIN), suppress(LinkLost, Failed):
                await self.link.ask(Word(provider, verb, tuple(missed)))

    async def _ask_for_reload(self, dry_run: bool) -> dict[str, object]:
        """Have all workers reload. Raises ConfigError, InfermuxError."""
        try:
            told: dict[str, object] = await self.link.ask(Reload(dry_run))
        except NotLoaded as refused:
            if refused.problems:
                raise ConfigError(list(refused.problems)) from None
            raise InfermuxError(refused.message, status=refused.status, code=refused.code or None) from None
        except Failed as failed:
            raise InfermuxError(f"the reload failed: {failed}") from None
        except LinkLost:
            raise InfermuxError("the router is ending", status=503, code="shutting_down") from None
        return told


async def obey(application: Application, words: Mapping[str, str]) -> None:
    """Do as an operator has said before this one could hear it. Providers that are not here are left out."""
    for name, verb in words.items():
        try:
            await application.fleet.command(name, Verb(verb))
        except NotFound:
            continue
        except ActorDied as died:
            log.error("provider %s: %s could not be carried out: %s", name, verb, died)  # noqa: TRY400


def open_link(descriptor: int) -> Link:
    """The link that was inherited. To be called in a trio run."""
    return Link(socket.socket(fileno=descriptor))


def deaf_to_terminals() -> None:
    """The leader alone is told to reload and to end by whoever is at a terminal."""
    for name in ("SIGHUP", "SIGINT"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
