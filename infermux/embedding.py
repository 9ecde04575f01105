"""infermux inside another trio program: the actors without the server."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

import attrs
import msgspec

from infermux.actors.description import Description
from infermux.actors.dispatch import Run
from infermux.actors.draft import Draft
from infermux.actors.fleet import AdapterMaker, Fleet
from infermux.actors.opening import open_fleet
from infermux.actors.provider_messages import Verb
from infermux.actors.requests import chat_run
from infermux.config import load, load_text
from infermux.config.difference import Difference
from infermux.config.settings import Config, ProviderSettings
from infermux.errors import InfermuxError, InvalidRequest
from infermux.providers.interface import Answer
from infermux.providers.sse import SseParser


@attrs.define(eq=False)
class Router:
    """A running router. Made by `open_router`; every call is for tasks of the same trio run."""

    fleet: Fleet
    environ: Mapping[str, str] = attrs.field(factory=lambda: os.environ, repr=False)
    _ids: itertools.count[int] = attrs.field(factory=itertools.count, repr=False)
    _id_prefix: bytes = attrs.field(factory=lambda: b"emb-" + secrets.token_hex(6).encode() + b"-", repr=False)

    async def chat(self, request: Mapping[str, Any], *, timeout: float | None = None) -> dict[str, Any]:
        """Send a chat completion request (OpenAI's shape, as a dict) and return the whole answer.

        `timeout` bounds it in seconds. Raises `InfermuxError`; cancelling closes the provider's connection and
        releases the lease.
        """
        with self._drafted() as draft:
            run = draft.run = self._run({**request, "stream": False}, timeout)
            answer = await run.begin()
            if not isinstance(answer, Answer):
                raise InvalidRequest("the provider streamed an answer that was not to be streamed", param="stream")
            draft.status = answer.status
            decoded: dict[str, Any] = msgspec.json.decode(answer.body)
            draft.ended_well()
            return decoded

    @asynccontextmanager
    async def stream(
        self, request: Mapping[str, Any], *, timeout: float | None = None
    ) -> AsyncGenerator[AsyncIterator[dict[str, Any]]]:
        """Send a chat completion request and iterate over its chunks (OpenAI's shape, as dicts).

        Entering waits for the first content, so errors before it are raised there. An iteration that ends without an
        error is a whole answer; a stream that breaks raises `InfermuxError`. Leaving the block early closes the
        provider's connection.
        """
        with self._drafted() as draft:
            run = draft.run = self._run({**request, "stream": True}, timeout)
            await run.begin()
            draft.status = 200
            async with aclosing(_chunks(run, draft)) as chunks:
                yield chunks

    async def add_provider(self, provider: ProviderSettings | Mapping[str, Any]) -> None:
        """Add a provider: settings, or a mapping like an entry of `providers` in the configuration file.

        Returns when its actor runs; it is routable once its first probe has ended. Raises ConfigError, ValueError when
        the name is taken.
        """
        settings = provider if isinstance(provider, ProviderSettings) else self._settings(provider)
        await self.fleet.add(settings)

    async def remove_provider(self, name: str, *, grace: float = 0.0) -> None:
        """Take a provider out. What is in flight there has `grace` seconds to end. Raises NotFound."""
        await self.fleet.remove(name, grace=grace)

    async def reload(self, config: Config | Mapping[str, Any] | str | os.PathLike[str]) -> Difference:
        """Serve another configuration from now on; returns what it changed. Raises ConfigError, and nothing has then.

        Providers that are declared as before are not touched; those that `add_provider` added stay. Of the front end's
        keys, which mean nothing here, nothing takes effect.
        """
        return await self.fleet.reload(_config(config, self.environ))

    async def provider(self, name: str) -> Description:
        """A provider's health, circuit, buckets, averages and transitions. Raises NotFound."""
        return await self.fleet.describe(name)

    async def command(self, name: str, verb: Verb | str) -> Description:
        """Enable, disable, drain, probe or reset a provider; returns its description afterwards."""
        return await self.fleet.command(name, Verb(verb))

    @property
    def models(self) -> list[str]:
        """Every declared model and alias."""
        return list(self.fleet.catalogue.names())

    def _settings(self, provider: Mapping[str, Any]) -> ProviderSettings:
        shared = attrs.asdict(self.fleet.config.circuit_breaker)
        return _config({"circuit_breaker": shared, "providers": [dict(provider)]}, self.environ).providers[0]

    @contextmanager
    def _drafted(self) -> Generator[Draft]:
        """What is done here becomes a record when it has ended; its run is closed."""
        draft = Draft(journal=self.fleet.journal, id=self._id_prefix + b"%x" % next(self._ids), endpoint="chat")
        try:
            yield draft
        except InfermuxError as error:
            if draft.ending is None and not draft.status:
                draft.refused(error)
            raise
        finally:
            if draft.run is not None:
                draft.run.close()
            draft.close()

    def _run(self, request: dict[str, Any], timeout: float | None) -> Run:
        return chat_run(self.fleet, msgspec.json.encode(request), timeout=timeout)


async def _chunks(run: Run, draft: Draft) -> AsyncGenerator[dict[str, Any]]:
    parser = SseParser()
    try:
        while (data := await run.receive()) is not None:
            for event in parser.feed(data):
                if event.data != b"[DONE]":
                    yield msgspec.json.decode(event.data)
    except InfermuxError as error:
        draft.broke(error)
        raise
    draft.ended_well()


@asynccontextmanager
async def open_router(
    config: Config | Mapping[str, Any] | str | os.PathLike[str],
    *,
    environ: Mapping[str, str] | None = None,
    adapters: AdapterMaker | None = None,
) -> AsyncGenerator[Router]:
    """Run a router in a nursery of its own; leaving the block ends it.

    `config` is a `Config`, a mapping with the keys of `infermux.yml`, or a path of such a file. Raises ConfigError.
    `adapters` replaces how adapters are made.
    """
    env = os.environ if environ is None else environ
    async with open_fleet(_config(config, env), environ=env, adapters=adapters) as fleet:
        yield Router(fleet, env)


def _config(config: Config | Mapping[str, Any] | str | os.PathLike[str], environ: Mapping[str, str]) -> Config:
    if isinstance(config, Config):
        return config
    if isinstance(config, Mapping):
        # JSON is YAML: the same reader checks it, and its messages name the same paths.
        return load_text(msgspec.json.encode(config).decode(), source="<config>", environ=environ)
    return load(os.fspath(config), environ=environ)
