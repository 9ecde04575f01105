"""What `infermux serve` and `infermux infer` run."""

from __future__ import annotations

import gc
import logging
import os
import signal
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

import attrs
import click
import trio

from infermux.actors.share import WHOLE
from infermux.config.certificates import load_chain
from infermux.config.settings import Config
from infermux.config.values import address
from infermux.daemon.running import Daemon, Seen
from infermux.descriptors import raise_descriptor_limit
from infermux.errors import CallerLeft, InfermuxError
from infermux.http.application import Application, open_application
from infermux.http.inference import is_inference
from infermux.http.reloading import Load
from infermux.http.server import Running, serve, tls_context
from infermux.logs import set_up_logging
from infermux.watching import files_beside, watch
from infermux.workers.messages import Begin, Now
from infermux.workers.worker import Worker, deaf_to_terminals, open_link

from .announcing import announce, place_of

log = logging.getLogger("infermux")

CUT_GRACE = 1.0  # seconds between the in-band errors at the end of the grace and the end of everything
DRAIN_POLL = 0.05
GC_THRESHOLDS = (5_000, 5, 300)
"""Requests leave next to no cycles: looking for them rarely saves some 5 % of the time. A look walks all that is new,
and holds everybody meanwhile: while thousands of streams open, that is what some 60 of them are made of, at most 350.
"""


@attrs.frozen(kw_only=True)
class Serving:
    """What is served, and how. `daemon`: this process is one; `worker`: it is one of several."""

    config: Config
    load: Load | None
    watch: bool
    demo: bool
    daemon: Daemon | None
    worker: Worker | None = None


def serve_command(
    config: Config, *, load: Load | None = None, watch: bool = False, demo: bool = False, daemon: Daemon | None = None
) -> int:
    """Serve until SIGTERM or Ctrl+C; returns the exit code. OSError when an address cannot be listened on.

    `load` reads the configuration again for a reload, None where it came from no file; `watch`: after each change.
    """
    serving = Serving(config=config, load=load, watch=watch, demo=demo, daemon=daemon)
    set_up_logging(config.log)
    raise_descriptor_limit()
    tls = tls_context(config.tls)
    gc.collect()  # here and not in the loop, which it would hold for longer than the watchdog lets pass
    unusable = trio.run(partial(_serve, serving, tls))
    if unusable is not None:
        raise unusable
    return 0


def worker_command(link: int, folders: list[str]) -> int:
    """Serve as one of several processes, by the word of the one that holds the other end of `link`.

    `folders` get what is to be removed if that one is killed.
    """
    deaf_to_terminals()
    unusable = trio.run(_work, link, folders)
    if unusable is not None:
        raise unusable
    return 0


async def _work(descriptor: int, folders: list[str]) -> OSError | InfermuxError | None:
    """Serve to the end. What keeps it from that is returned: raised, the nursery would wrap it."""
    link, begun = open_link(descriptor), trio.Event()
    unusable: OSError | InfermuxError | None = None
    worker: list[Worker] = []

    async def answer(message: object) -> object:
        if isinstance(message, Begin):
            worker.append(Worker(link, message, message.config))
            folders.append(message.folder)
            begun.set()
            return None
        if isinstance(message, Now):
            await _stop_at_once(worker[0].application if worker else None)
        return await worker[0].answer(message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run, answer)
        await begun.wait()
        config = worker[0].begin.config
        set_up_logging(config.log, worker=worker[0].begin.place)
        serving = Serving(config=config, load=worker[0].load, watch=False, demo=False, daemon=None, worker=worker[0])
        gc.collect()
        try:
            unusable = await _serve(serving, tls_context(config.tls))
        except (OSError, InfermuxError) as error:
            unusable = error
        nursery.cancel_scope.cancel()
    return unusable


async def _serve(serving: Serving, tls: ssl.SSLContext | None) -> OSError | InfermuxError | None:
    """Serve to the end. What keeps it from listening is returned: raised, the nurseries would wrap it."""
    with trio.CancelScope() as starting, _cancelled_by_signals(starting, serving.worker):
        return await _serve_application(serving, tls)
    return None


@contextmanager
def _cancelled_by_signals(scope: trio.CancelScope, worker: Worker | None) -> Generator[None]:
    """SIGTERM and SIGINT cancel `scope` for as long as nobody else receives them: a start can take its time.

    A worker that has started is not kept by them from ending in its own way, see `watch_signals`.
    """
    token = trio.lowlevel.current_trio_token()

    def cancel(number: int, frame: object) -> None:
        del number, frame
        if worker is None or worker.application is None:
            token.run_sync_soon(scope.cancel)

    former = {number: signal.signal(number, cancel) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


async def _serve_application(serving: Serving, tls: ssl.SSLContext | None) -> OSError | InfermuxError | None:
    config = serving.config
    worker = serving.worker
    share, siblings = (WHOLE, None) if worker is None else (worker.share, worker.siblings)
    async with (
        open_application(config, load=serving.load, share=share, siblings=siblings) as application,
        trio.open_nursery() as nursery,
    ):
        leaving, shutdown = trio.Event(), trio.Event()
        await nursery.start(watch_signals, application, leaving, shutdown, worker is None)
        shared = worker is not None
        try:
            changed = worker is not None and await worker.catch_up(application)
            running: Running = await nursery.start(_listen, application, tls, shutdown, nursery.cancel_scope, shared)
        except (OSError, InfermuxError) as unusable:
            nursery.cancel_scope.cancel()
            return unusable
        nursery.start_soon(_leave, running, leaving)
        place = None if worker is None else worker.begin.place
        adopt = partial(_adopt, running, tls, place)
        application.reloader.then.append(adopt)
        if changed:
            adopt(application.config)
        if serving.watch and config.source is not None:
            await nursery.start(
                partial(watch, more=lambda: files_beside(application.config)),
                config.source,
                partial(application.reloader.reload_and_log, f"{config.source} has changed"),
            )
        if worker is not None:
            await nursery.start(worker.attend, application, running)
        else:
            announce(config, running.addresses, running.management_addresses, demo=serving.demo)
        if serving.daemon is not None:
            place_in_use = place_of(config, running.addresses, running.management_addresses)
            nursery.start_soon(serving.daemon.attend, place_in_use, partial(_seen, application))
        nursery.start_soon(_tell_health, application)
        gc.freeze()  # what lives as long as the server need not be walked again
        gc.set_threshold(*GC_THRESHOLDS)
    return None


async def _listen(
    application: Application,
    tls: ssl.SSLContext | None,
    shutdown: trio.Event,
    scope: trio.CancelScope,
    shared: bool,
    *,
    task_status: trio.TaskStatus[Running],
) -> None:
    config = application.config
    await serve(
        listen=[_bindable(config.listen)],
        handler=application.inference,
        is_inference=is_inference,
        app=application.app,
        limits=config.limits,
        tls=tls,
        management_listen=[_bindable(config.management_listen)] if config.management_listen else [],
        management_app=application.management_app,
        polled=application.polled,
        management_polled=application.management_polled,
        shutdown=shutdown,
        refused=application.door_log.turned_away,
        grace=config.shutdown_grace + CUT_GRACE,
        shared=shared,
        task_status=task_status,
    )
    scope.cancel()


def _adopt(running: Running, tls: ssl.SSLContext | None, worker: int | None, config: Config) -> None:
    """What a reload changes outside of the router itself."""
    set_up_logging(config.log, worker=worker)
    running.adopt(config.limits)
    running.grace = config.shutdown_grace + CUT_GRACE
    if tls is not None and config.tls.cert_file is not None:
        try:
            tls_context(config.tls)  # tried first: half loaded, the one in use would be spoilt
            load_chain(tls, config.tls.cert_file, config.tls.key_file)
        except OSError as error:
            log.error("the certificate could not be loaded, the one before stays: %s", error)  # noqa: TRY400


def _bindable(text: str) -> tuple[str, int]:
    where = address(text)
    return where.host, where.port


async def _leave(running: Running, leaving: trio.Event) -> None:
    await leaving.wait()
    running.leave()


async def watch_signals(
    application: Application,
    leaving: trio.Event,
    shutdown: trio.Event,
    alone: bool,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """First SIGTERM or SIGINT: drain. Second: now. SIGHUP: reload.

    Unless `alone`, SIGTERM is all that is heard, and says the same however often it comes: the system may send one to
    each process, and the leader another. The leader says when it is to be now.
    """
    more = [signal.SIGINT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    wanted = [signal.SIGTERM, *(more if alone else ())]
    with trio.open_signal_receiver(*wanted) as signals:
        task_status.started()
        async with trio.open_nursery() as nursery:
            async for number in signals:
                name = signal.Signals(number).name
                if name == "SIGHUP":
                    nursery.start_soon(application.reloader.reload_and_log, name)
                    continue
                if leaving.is_set() and alone:
                    log.warning("second %s: stopping now", name)
                    await _stop_at_once(application)
                if not leaving.is_set():
                    leaving.set()
                    nursery.start_soon(_drain, application, name, shutdown)


async def _stop_at_once(application: Application | None) -> None:
    """End this process; requests are told so, if that can be done in no time."""
    if application is not None:
        application.fleet.revoke_all("the server was told to stop at once")
        await trio.sleep(DRAIN_POLL)
    os._exit(0)


async def _drain(application: Application, why: str, shutdown: trio.Event) -> None:
    """Whoever sends requests here learns of the end some seconds late, so that it is told before it comes.

    At the end of the grace every stream still running gets its in-band error.
    """
    inference, delay = application.inference, application.config.shutdown_delay
    inference.leaving = True
    if delay:
        log.info("%s: taking requests for another %g s", why, delay)
        await trio.sleep(delay)
    grace = application.config.shutdown_grace
    log.info("%s: finishing %d requests, at most %g s", why, inference.in_flight, grace)
    inference.draining = True
    application.fleet.leave(lambda: inference.in_flight)
    shutdown.set()
    await trio.sleep(grace)
    application.fleet.revoke_all(f"the server shut down and its grace of {grace:g} s is over")


async def _tell_health(application: Application) -> None:
    """Say once how the first probes ended: the server is up even when no provider is."""
    members = list(application.fleet.members.values())
    longest = max(member.settings.health_check.timeout for member in members) if members else 0.0
    with trio.move_on_after(longest + 1):
        while any(m.standing.health.value == "unknown" for m in members if m.gate.unavailable is None):  # noqa: ASYNC110
            await trio.sleep(DRAIN_POLL)
    now = trio.current_time()
    out = [m for m in members if now < m.standing.blocked_until]
    for member in out:
        refusal = member.gate.refusal(now)
        log.warning("provider %s is not routable: %s", member.settings.name, refusal)
    ready = len(members) - len(out)
    say = log.info if ready else log.error
    say("%d of %d providers are routable", ready, len(members))


def _seen(application: Application) -> Seen:
    config, inference = application.config, application.inference
    return Seen(
        config=config.source,
        in_flight=inference.in_flight,
        draining=inference.draining,
        grace=config.shutdown_delay + config.shutdown_grace,
    )


def infer_command(config: Config, *, model: str, prompt: str, stream: bool, as_json: bool) -> int:
    """One request without a server; returns the exit code. The answer goes to stdout, errors to stderr."""
    set_up_logging(attrs.evolve(config.log, level="error"))
    try:
        trio.run(partial(_infer, config, model, prompt, stream, as_json))
    except CallerLeft:
        return 1
    return 0


async def _infer(config: Config, model: str, prompt: str, stream: bool, as_json: bool) -> None:
    import json

    from infermux.embedding import open_router

    request = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    async with open_router(config) as router:
        if stream and not as_json:
            async with router.stream(request) as chunks:
                async for chunk in chunks:
                    for choice in chunk.get("choices", ()):
                        click.echo(choice.get("delta", {}).get("content") or "", nl=False)
            click.echo()
            return
        answer = await router.chat(request)
        if as_json:
            click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        else:
            click.echo(answer["choices"][0]["message"].get("content") or "")
