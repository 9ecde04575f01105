"""The provider actor: the one task that owns a provider's health, circuit, limits, averages and leases.

Everything that decides is in the `Gate`, which is synchronous and gets the time as an argument. The actor brings it
messages, runs the health loop, and publishes a `Standing` once per burst of messages. The gate outlives the actor: a
restart after a crash keeps limits and leases, so a crash never opens a way round a limit.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import trio

from infermux.config.settings import HealthCheck, ProbeMethod, ProviderSettings
from infermux.errors import FailureKind, UpstreamFailure
from infermux.providers.interface import Adapter, ModelInfo, Usage, describing, lasting

from .actor import BaseActor, Context
from .description import Description, describe
from .gate import Gate
from .lease import Grant, Heard, Lease, ProbePassed, Release
from .messages import Health, Outcome, Standing
from .plan import Plan
from .probe_bill import Probed
from .provider_messages import Command, Describe, LookAgain, ProbeEnded, Redeclared, Revoke, Verb
from .ref import Ref
from .reply import Reply
from .router_messages import Acquire, Advance
from .router_queue import Freed, Wanted
from .strategy import Choice

log = logging.getLogger("infermux.actors")

JITTER = 0.1  # of the interval, either way: probes of many routers do not march in step
_LISTING = frozenset({"ollama", "process"})  # a generate could load a model, or cost what nobody knows
NO_PART_POLL = 1.0  # seconds between looks whether a limit leaves something for us by now
PROBE_TOKENS = 16  # what a one-token request reserves; settled to its true usage


def _nobody(name: str) -> None:
    """Nobody asks which models were found."""


@attrs.define(eq=False, kw_only=True)
class ProviderActor(BaseActor[Any]):
    """`announce` is told the provider's name when its first probe has ended, `found` when its models changed.

    `billed` is told what probes cost.
    """

    eager: ClassVar[bool] = True
    direct: ClassVar[tuple[str, ...]] = ("grant", "settle")

    gate: Gate
    adapter: Adapter
    rng: random.Random
    announce: Callable[[str], None]
    billed: Callable[[Probed], None]
    found: Callable[[str], None] = _nobody
    _news: list[bool] = attrs.field(factory=list[bool])  # of what it runs on, since the last probe began
    _context: Context[Any] | None = None
    _ref: Ref[Any] | None = None
    _changed: Callable[[Callable[[], Standing]], None] = attrs.field(init=False)
    _wanted_by: Ref[Any] | None = None  # whose queue holds requests for this provider
    _probe_now: trio.Event = attrs.field(factory=trio.Event)
    _probe_askers: list[Reply[Any]] = attrs.field(factory=list[Reply[Any]])
    _looking: trio.CancelScope = attrs.field(factory=trio.CancelScope)  # what the health loop runs in

    @property
    def settings(self) -> ProviderSettings:
        return self.gate.settings

    async def started(self, context: Context[Any]) -> None:
        self._context, self._ref, self._changed = context, context.ref, context.publish_when_read
        self.gate.life += 1
        self._publish()
        self._look_after_health()

    @property
    def _is_probed(self) -> bool:
        return self.gate.unavailable is None and self.gate.health.health is not Health.UNCHECKED

    def receive(self, message: Any, reply: Reply[Any] | None) -> None:
        match message:
            case Acquire():
                if reply is not None:
                    self._acquire(message, reply)
            case Release(lease, outcome):
                self.gate.settle(lease, outcome, trio.current_time())
            case ProbePassed(lease, latency):
                self.gate.probe_passed(lease, latency, trio.current_time())
            case Heard(lease, quotas):
                self.gate.heard(lease, quotas, trio.current_time())
            case Command(verb):
                self._command(verb, reply)
            case Describe():
                if reply is not None:
                    reply.send(self._describe())
            case Revoke(why, last_word):
                for lease in self.gate.leases:
                    lease.revoke(why, last_word=last_word)
            case Redeclared():
                self._redeclared(message)
            case LookAgain(up):
                self._look_again(up)
            case Wanted(router):
                self._wanted_by = router
            case _:
                pass

    def batch_done(self) -> None:
        assert self._context is not None
        self._context.publish_when_read(self._standing)
        router = self._wanted_by
        if router is not None and self.gate.refusal(trio.current_time()) is None:
            self._wanted_by = None
            router.deliver(Freed(self.settings.name))

    def _publish(self) -> None:
        assert self._context is not None
        self._context.publish_when_read(self._standing)

    def _standing(self) -> Standing:
        return self.gate.standing(trio.current_time())

    # Leases.

    def _acquire(self, acquire: Acquire, reply: Reply[Any]) -> None:
        self.gate.seen = acquire.number
        if reply.done:
            return
        now = trio.current_time()
        lease = self._decided(acquire.plan, acquire.choice, now)
        if lease is None:
            acquire.router.forward(Advance(acquire.plan), reply)
        elif not reply.send(lease):
            self.gate.take_back(lease, now)

    def grant(self, plan: Plan, choice: Choice, number: int, now: float) -> Lease | None:
        """What `Acquire` does, called: the lease, or None where `plan` has to go on to somebody else."""
        self.gate.seen = number
        lease = self._decided(plan, choice, now)
        self._changed(self._standing)
        if self._wanted_by is not None:
            self.batch_done()
        return lease

    def _decided(self, plan: Plan, choice: Choice, now: float) -> Lease | None:
        """A lease; None, and the refusal in the plan, where the gate does not admit the request."""
        gate, option = self.gate, choice.option
        if choice.explore and gate.is_explored:
            return None
        granted = gate.admit(plan.want, option.model, now, insists=plan.insists)
        if not isinstance(granted, Grant):
            plan.refuse(granted, choice)
            return None
        assert self._ref is not None
        settings, price = gate.settings, option.price
        lease = Lease(  # by position: to find so many fields by their names takes ten times as long
            settings.name,
            option.model,
            settings,
            self.adapter,
            self._ref,
            now,
            granted.reserved,
            granted.probe,
            choice.explore,
            granted.epoch,
            price,
            None if price is None else 0.0,
            None if granted.key is None else settings.keys[granted.key],
            granted.key,
            granted.other_keys,
            granted.mark,
            granted.bound,
        )
        gate.add(lease)
        return lease

    def settle(self, lease: Lease, outcome: Outcome, now: float | None) -> None:
        """What `Release` does, called. `now` None: it is looked at here."""
        self.gate.settle(lease, outcome, trio.current_time() if now is None else now)
        self._changed(self._standing)
        if self._wanted_by is not None:
            self.batch_done()

    def _redeclared(self, message: Redeclared) -> None:
        self.adapter = message.adapter
        message.known.set()
        self._look_after_health()
        # What was in the way may be mended: nobody should have to wait for the next probe to see it.
        if self._probe_askers or not self.gate.health.passes:
            self._probe_now.set()

    # Health.

    def _look_after_health(self) -> None:
        """Run the health loop by the present settings, in place of the one before."""
        self._looking.cancel()
        self._looking = trio.CancelScope()
        self._probe_now = trio.Event()
        assert self._context is not None
        if self._is_probed:
            self._context.start_soon(self._health_loop, self._looking)
        else:
            self._answer_probe_askers()

    async def _health_loop(self, scope: trio.CancelScope) -> None:
        check = self.settings.health_check
        with scope:
            while True:
                await self._pause(check)
                self._news.clear()
                await self._probe_round(check)
                self._probe_now = trio.Event()
                if self._news:
                    self._look_again(self._news[-1])

    async def _probe_round(self, check: HealthCheck) -> None:
        """Probe until a key was not refused, and every retired one, which may be good again."""
        was, ring = self.gate.health.health, self.gate.ring
        if ring is None:
            self._probe_ended(await self._probe_once(check, None))
        else:
            taken, retired = False, ring.retired()
            for key in ring.probe_order():
                if not taken or key in retired:
                    ended = await self._probe_once(check, key)
                    self._probe_ended(ended)
                    taken = taken or ended.failure is None or ended.failure.kind is not FailureKind.CREDENTIALS
        if was is Health.UNKNOWN:
            self.announce(self.settings.name)
        self._answer_probe_askers()

    async def _pause(self, check: HealthCheck) -> None:
        """Until the next probe is due, or asked for. A recent success counts as a probe and puts the next one off.

        So a restart after a crash does not probe again, and a provider that was disabled is left in peace.
        """
        jitter = self.rng.uniform(-JITTER, JITTER)
        while (left := self._due_in(check, jitter)) > 0:
            with trio.move_on_after(left) as scope:
                await self._probe_now.wait()
            if not scope.cancelled_caught:
                return

    def _due_in(self, check: HealthCheck, jitter: float) -> float:
        if not self.gate.enabled:
            return math.inf
        due = self.gate.health.next_due(check.interval, jitter) or 0.0
        if self.gate.ring is not None:
            due = min(due, self.gate.ring.next_look(check.interval))
        return due - trio.current_time()

    async def _probe_once(self, check: HealthCheck, key: int | None) -> ProbeEnded:
        while (at := self.gate.reserve_probe(PROBE_TOKENS, trio.current_time())) == math.inf:  # noqa: ASYNC110 - rare
            await trio.sleep(NO_PART_POLL)
        sent, ended = False, None
        try:
            await trio.sleep_until(at)
            sent = True
            ended = await self._send_probe(check, key)
            return ended
        finally:
            if ended is None:  # a reload, or the actor's own end
                self.gate.probe_cut(PROBE_TOKENS, trio.current_time(), sent=sent)

    async def _send_probe(self, check: HealthCheck, key: int | None) -> ProbeEnded:
        method, model = probe_plan(self.settings)
        began = trio.current_time()
        failure: UpstreamFailure | None = None
        usage: Usage | None = None
        with trio.move_on_after(check.timeout) as scope:
            try:
                told = await self.adapter.probe(method, model, None if key is None else self.settings.keys[key])
                usage = told if told is None or told.is_plausible else None
            except UpstreamFailure as failed:
                failure = failed
            except Exception as bug:
                log.exception("the adapter of provider %s crashed in a probe", self.settings.name)
                failure = UpstreamFailure(FailureKind.MALFORMED, f"its adapter crashed with {type(bug).__name__}")
        if scope.cancelled_caught:
            failure = UpstreamFailure(FailureKind.TOTAL_TIMEOUT, f"no answer to the probe within {check.timeout:g} s")
        if method is ProbeMethod.GENERATE and model is not None:
            seconds = trio.current_time() - began
            self.billed(Probed(settings=self.settings, model=model, seconds=seconds, usage=usage, failure=failure))
        models = await self._list_models(check) if failure is None else None
        return ProbeEnded(failure, usage, key, models)

    def _look_again(self, up: bool) -> None:
        """Probe at once, but for one that is well and has come up; where a probe is on its way, after that."""
        self._news.append(up)
        if not self._is_probed:
            if up and describing(self.adapter) is not None:
                assert self._context is not None
                self._context.start_soon(self._list_unprobed)
        elif not (up and self.gate.health.passes):  # also where it was down: the probe learns why it is now
            self._probe_now.set()

    async def _list_unprobed(self) -> None:
        """One that is never probed is asked for its models when it comes up."""
        self._note_models(await self._list_models(self.settings.health_check, anew=True))

    async def _list_models(self, check: HealthCheck, *, anew: bool = False) -> tuple[ModelInfo, ...] | None:
        """What the provider has: to route by where it knows that for sure, to be listed where nobody else says."""
        told = describing(self.adapter)
        if told is None and (self.settings.type != "ollama" or self.settings.models is not None):
            return None
        with trio.move_on_after(check.timeout):
            try:
                if told is not None:
                    known = None if anew else told.described
                    return tuple(await told.describe_models() if known is None else known)
                return tuple(ModelInfo(id=name) for name in await self.adapter.list_models())
            except UpstreamFailure as failed:
                log.info("provider %s does not list its models: %s", self.settings.name, failed.message)
            except Exception:
                log.exception("the adapter of provider %s crashed while it listed models", self.settings.name)
        return self.gate.found_models

    def _probe_ended(self, ended: ProbeEnded) -> None:
        if ended.failure is None:
            self._note_models(ended.models)
        self.gate.probe_ended(ended.failure, ended.usage, PROBE_TOKENS, trio.current_time(), ended.key)
        self._publish()

    def _note_models(self, models: tuple[ModelInfo, ...] | None) -> None:
        changed = models != self.gate.found_models and describing(self.adapter) is not None
        self.gate.found_models = models
        if changed:
            self.found(self.settings.name)

    def _answer_probe_askers(self) -> None:
        askers, self._probe_askers = self._probe_askers, []
        for asker in askers:
            asker.send(self._describe())

    # The operator.

    def _command(self, verb: Verb, reply: Reply[Any] | None) -> None:
        now = trio.current_time()
        match verb:
            case Verb.ENABLE:
                if not self.gate.enabled or (self.gate.ring is not None and self.gate.ring.retired()):
                    self._probe_now.set()  # nobody looked since it was disabled
                self.gate.enable(now)
            case Verb.DISABLE:
                self.gate.disable(now)
            case Verb.DRAIN:
                self.gate.drain(now)
            case Verb.RESET:
                self.gate.reset(now)
                part = lasting(self.adapter)
                if part is not None:
                    part.retry()
                self._probe_now.set()  # what health says is looked at anew as well
            case Verb.PROBE if self._is_probed:
                self._probe_now.set()
                if reply is not None:
                    assert self._context is not None
                    self._context.hold(reply)
                    self._probe_askers.append(reply)
                return
            case Verb.PROBE:
                pass
        self._publish()
        if reply is not None:
            reply.send(self._describe())

    def _describe(self) -> Description:
        return describe(self.gate, self.adapter, trio.current_time())


def probe_plan(settings: ProviderSettings) -> tuple[ProbeMethod, str | None]:
    """Which probe a provider gets.

    `auto` is `generate` where a model is declared, `models` for open-ended, ollama and process providers.
    """
    check = settings.health_check
    model = check.model or _probe_model(settings)
    if check.method is not ProbeMethod.AUTO:
        return check.method, model
    if check.model is not None or (settings.models and settings.type not in _LISTING):
        return ProbeMethod.GENERATE, model
    return ProbeMethod.MODELS, model


def _probe_model(settings: ProviderSettings) -> str | None:
    models = settings.models or tuple(settings.model_aliases.values())
    chat = [model for model in models if "embed" not in model.lower()]
    return next(iter(chat or models), None)
