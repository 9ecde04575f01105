"""Processes that are started only to be asked which models they have."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import attrs
import trio

from infermux.config.settings import ProviderSettings
from infermux.errors import UpstreamFailure
from infermux.processes import ProviderProcess

from ..interface import ModelInfo
from .adapter import Process, spec_of

START_SECONDS = 30.0

# What a router would log, such as when a process is started again, is not so here: it is ended, and its failure told.
_log = logging.getLogger("infermux.processes.asked")
_log.setLevel(logging.ERROR)


async def described_by(
    providers: Sequence[ProviderSettings],
) -> tuple[dict[str, Sequence[ModelInfo]], dict[str, str]]:
    """The models of each, and why some could not be asked: all are started at once, and ended again."""
    found: dict[str, Sequence[ModelInfo]] = {}
    missing: dict[str, str] = {}

    async def ask(settings: ProviderSettings) -> None:
        try:
            found[settings.name] = await models_of(settings)
        except UpstreamFailure as failure:
            missing[settings.name] = failure.message

    async with trio.open_nursery() as nursery:
        for settings in providers:
            nursery.start_soon(ask, settings)
    return found, missing


async def models_of(settings: ProviderSettings) -> Sequence[ModelInfo]:
    """Start a provider's process, ask for its models, end it. Raises UpstreamFailure."""
    patient = attrs.evolve(settings, timeouts=attrs.evolve(settings.timeouts, connect=START_SECONDS))
    adapter = Process(patient, ProviderProcess(spec_of(patient), log=_log))
    found: Sequence[ModelInfo] | UpstreamFailure
    async with trio.open_nursery() as nursery:
        nursery.start_soon(adapter.run, _nobody)
        try:
            found = await adapter.describe_models()
        except UpstreamFailure as failure:
            found = failure  # raised here the nursery would wrap it
        nursery.cancel_scope.cancel()
    if isinstance(found, UpstreamFailure):
        raise found
    return found


def _nobody(up: bool) -> None:
    """Nobody waits for news."""
