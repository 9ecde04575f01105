"""Supervision: actors that are restarted when they crash, and what happens when that does not help.

Children live in units. A unit is a nursery whose actors start, die and restart together: one_for_one gives every child
a unit of its own, one_for_all puts them all into one. All the rest (backoff, intensity, giving up) is per unit.

Only an Exception is a crash. Cancellation passes through; a KeyboardInterrupt ends the supervisor.
"""

from __future__ import annotations

import enum
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import attrs
import trio

from .actor import DEFAULT_CAPACITY, Actor, run_incarnation, unwrap
from .kit_errors import ActorDied, SupervisorExhausted
from .ref import Cell, Ref

_log = logging.getLogger("infermux.actors.supervisor")

Strategy = Literal["one_for_one", "one_for_all"]
WhenExhausted = Literal["escalate", "abandon"]


@attrs.frozen(kw_only=True)
class Backoff:
    """Seconds to wait before a restart: `base`, doubled with each crash in a row, at most `max`."""

    base: float = 0.1
    max: float = 30.0

    def delay(self, crashes: int) -> float:
        """After the `crashes`-th crash in a row, counted from 1."""
        doublings = min(crashes - 1, 1000)  # 2.0 ** 1024 overflows
        return min(self.max, self.base * 2.0**doublings)


@attrs.frozen
class Child:
    """What a supervisor runs under `name`. `factory` makes a fresh actor for each incarnation."""

    name: str
    factory: Callable[[], Actor[Any]]
    capacity: int = attrs.field(default=DEFAULT_CAPACITY, kw_only=True)


@attrs.frozen(kw_only=True)
class Restart:
    """A crash, as the `on_restart` callback gets it.

    `name` is the child that crashed, `crashes` the number of them within the period, this one included. `delay` is the
    time in seconds until the restart, None when there will be none.
    """

    name: str
    crash: Exception
    crashes: int
    delay: float | None


class ChildState(enum.Enum):
    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    GONE = "gone"  # abandoned


@attrs.frozen(kw_only=True)
class ChildStatistics:
    """`restarts` in all since the child was added, `queued` the messages that wait, `held` the replies it owes."""

    name: str
    state: ChildState
    restarts: int
    queued: int
    held: int
    last_crash: Exception | None


@attrs.frozen(kw_only=True)
class SupervisorStatistics:
    children: tuple[ChildStatistics, ...]
    restarts: int


@attrs.define(eq=False)
class _Seat:
    """A child's place: it keeps its cell over the incarnations. `scope` is that of the present one."""

    child: Child
    unit: _Unit
    cell: Cell[Any]
    scope: trio.CancelScope | None = None
    vacant: trio.Event = attrs.field(factory=trio.Event)  # no incarnation runs
    restarts: int = 0
    last_crash: Exception | None = None

    def state(self) -> ChildState:
        if self.cell.gone:
            return ChildState.GONE
        if self.cell.ready:
            return ChildState.RUNNING
        return ChildState.STARTING if self.cell.alive else ChildState.BACKING_OFF


@attrs.define(eq=False)
class _Unit:
    """Children that start and die together. `nursery` is set, and `up` with it, while all of them run."""

    seats: list[_Seat] = attrs.field(factory=list["_Seat"])
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    over: trio.Event = attrs.field(factory=trio.Event)
    up: trio.Event = attrs.field(factory=trio.Event)
    nursery: trio.Nursery | None = None
    up_since: float | None = None
    announced: bool = False  # it has been up once
    in_a_row: int = 0
    crashes: deque[float] = attrs.field(factory=deque[float])
    culprit: _Seat | None = None  # who crashed, until that is reported


class Supervisor:
    """Runs children and restarts those that crash.

    A child that crashes is restarted after `backoff`; one that then lives for `period` seconds starts over with the
    shortest delay. More than `intensity` restarts within `period` exhaust the supervisor: with "escalate" its `run`
    raises SupervisorExhausted, with "abandon" the child is gone for good and the others live on. `intensity=None`
    never gives up. one_for_one counts for each child, one_for_all for all of them together.

    `on_restart` is called with every crash; without it crashes are logged as warnings.
    """

    def __init__(
        self,
        children: Sequence[Child] = (),
        *,
        strategy: Strategy = "one_for_one",
        intensity: int | None = 5,
        period: float = 60.0,
        backoff: Backoff | None = None,
        when_exhausted: WhenExhausted = "escalate",
        on_restart: Callable[[Restart], None] | None = None,
    ) -> None:
        self._first = tuple(children)
        self._intensity = intensity
        self._period = period
        self._backoff = backoff or Backoff()
        self._when_exhausted = when_exhausted
        self._on_restart = on_restart or _log_restart
        self._nursery: trio.Nursery | None = None
        self._group = _Unit() if strategy == "one_for_all" else None
        self._seats: dict[str, _Seat] = {}
        self._restarts = 0

    def __repr__(self) -> str:
        states = ", ".join(f"{name}: {seat.state().value}" for name, seat in self._seats.items())
        return f"<Supervisor {{{states}}}>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the children in order, report readiness, and supervise until cancelled. Once per supervisor.

        Raises the error of a child whose first start failed, SupervisorExhausted when a child crashes too often.
        Cancellation stops all children and answers all who wait for them.
        """
        if self._nursery is not None:
            raise RuntimeError("this supervisor has run already")
        try:
            async with trio.open_nursery() as self._nursery:
                if self._group is not None:
                    await self._nursery.start(self._keep, self._group)
                for child in self._first:
                    await self.start_child(child)
                task_status.started()
                await trio.sleep_forever()
        except BaseExceptionGroup as group:
            failure = unwrap(group)
        # Outside the handler, so that the error does not get the group that wraps it as its context.
        raise failure

    async def start_child(self, child: Child) -> Ref[Any]:
        """Add a child and return its address once it is ready.

        Raises what its first start raises, without a restart; ValueError when the name is taken; RuntimeError when
        the supervisor does not run. Cancellation before it is ready stops it.
        """
        if child.name in self._seats:
            raise ValueError(f"there is a child named {child.name!r} already")
        if self._nursery is None:
            raise RuntimeError("the supervisor does not run")
        seat = _Seat(child, self._group or _Unit(), Cell(child.name, child.capacity))
        self._seats[child.name] = seat
        try:
            if self._group is None:
                seat.unit.seats.append(seat)
                await self._nursery.start(self._keep, seat.unit, name=f"supervisor of {child.name}")
            else:
                await self._join(self._group, seat)
        except BaseException as error:
            if isinstance(error, RuntimeError) and self._seats.get(child.name) is not seat:
                raise ActorDied(child.name) from None  # stopped before it was ready
            self._remove(seat)
            raise
        return seat.cell.ref

    async def stop_child(self, name: str) -> None:
        """Stop a child for good and forget it; returns once it has ended. Whoever waits for it gets ActorDied.

        Raises KeyError when there is none of that name. Cancellation leaves it stopping.
        """
        seat = self._seats[name]
        self._remove(seat)
        if self._group is None:
            seat.unit.scope.cancel()
            await seat.unit.over.wait()
        elif seat.scope is not None:
            seat.scope.cancel()
            await seat.vacant.wait()

    def ref(self, name: str) -> Ref[Any]:
        """The address of a child. Raises KeyError when there is none of that name."""
        return self._seats[name].cell.ref

    def statistics(self) -> SupervisorStatistics:
        return SupervisorStatistics(
            children=tuple(
                ChildStatistics(
                    name=name,
                    state=seat.state(),
                    restarts=seat.restarts,
                    queued=len(seat.cell.mailbox),
                    held=len(seat.cell.held),
                    last_crash=seat.last_crash,
                )
                for name, seat in self._seats.items()
            ),
            restarts=self._restarts,
        )

    def _remove(self, seat: _Seat) -> None:
        if self._seats.get(seat.child.name) is seat:
            del self._seats[seat.child.name]
        if self._group is not None and seat in self._group.seats:
            self._group.seats.remove(seat)
        if seat.unit.culprit is seat:
            seat.unit.culprit = None
        seat.cell.bury()

    async def _join(self, group: _Unit, seat: _Seat) -> None:
        """Start a child in a unit that runs already; it shares the unit's fate once it has started."""
        while group.nursery is None:
            if group.over.is_set():
                raise ActorDied(seat.child.name)
            await group.up.wait()
        await group.nursery.start(self._incarnation, seat, name=f"actor {seat.child.name}")
        group.seats.append(seat)

    async def _keep(self, unit: _Unit, *, task_status: trio.TaskStatus[None]) -> None:
        """Run a unit, restart it when it crashes, until it is stopped or given up."""
        try:
            with unit.scope:
                while True:
                    crash = await self._live(unit, task_status)
                    if not unit.announced:
                        raise crash
                    delay = self._after(unit, crash)
                    if delay is None:
                        return
                    await trio.sleep(delay)
        finally:
            for seat in unit.seats:
                seat.cell.bury()
            unit.over.set()
            unit.up.set()

    async def _live(self, unit: _Unit, task_status: trio.TaskStatus[None]) -> Exception:
        """One life of a unit; returns what it died of. Reports the unit's readiness the first time."""
        try:
            async with trio.open_nursery() as nursery:
                for seat in tuple(unit.seats):
                    await self._occupy(seat, nursery)
                unit.up_since = trio.current_time()
                unit.nursery = nursery
                unit.up.set()
                if not unit.announced:
                    unit.announced = True
                    task_status.started()
                await trio.sleep_forever()
        except BaseExceptionGroup as group:
            crash, rest = _split(group)
            if rest is not None:
                if crash is not None:  # it crashed while it was being stopped: somebody should know
                    self._report(unit, crash, None)
                raise rest from None
        finally:
            unit.nursery = None
            if unit.up.is_set():
                unit.up = trio.Event()
        return cast(Exception, crash)  # what is split without a rest is all crash

    async def _occupy(self, seat: _Seat, nursery: trio.Nursery) -> None:
        """Start a seat's next incarnation, unless the child is stopped before or meanwhile."""
        if seat.cell.gone:
            return
        try:
            await nursery.start(self._incarnation, seat, name=f"actor {seat.child.name}")
        except Exception:
            if not seat.cell.gone:
                raise

    async def _incarnation(self, seat: _Seat, *, task_status: trio.TaskStatus[None]) -> None:
        seat.vacant = trio.Event()
        try:
            with trio.CancelScope() as seat.scope:
                await run_incarnation(seat.cell, seat.child.factory(), task_status=task_status)
        except BaseException as error:
            crash, rest = _split(error)
            if crash is not None:
                seat.last_crash = crash
                seat.unit.culprit = seat.unit.culprit or seat
                if rest is None and seat.cell.gone:  # it alone was stopped: none of the others' business
                    self._report(seat.unit, crash, None)
                    return
            raise
        finally:
            seat.scope = None
            seat.vacant.set()

    def _after(self, unit: _Unit, crash: Exception) -> float | None:
        """Decide after a crash: the delay until the restart, or None when the unit is given up."""
        now = trio.current_time()
        lived_long = unit.up_since is not None and now - unit.up_since >= self._period
        unit.up_since = None
        unit.in_a_row = 1 if lived_long else unit.in_a_row + 1
        unit.crashes.append(now)
        while unit.crashes[0] <= now - self._period:
            unit.crashes.popleft()
        intensity = self._intensity
        if intensity is not None and len(unit.crashes) > intensity:
            name = self._report(unit, crash, None)
            if self._when_exhausted == "escalate":
                raise SupervisorExhausted(name, crash, intensity=intensity, period=self._period)
            return None
        delay = self._backoff.delay(unit.in_a_row)
        self._restarts += 1
        for seat in unit.seats:
            seat.restarts += 1
        self._report(unit, crash, delay)
        return delay

    def _report(self, unit: _Unit, crash: Exception, delay: float | None) -> str:
        """Tell the callback, whose own failure must not cost anyone an actor. Returns the name of who crashed."""
        name = "+".join(seat.child.name for seat in ([unit.culprit] if unit.culprit else unit.seats))
        unit.culprit = None
        try:
            self._on_restart(Restart(name=name, crash=crash, crashes=len(unit.crashes), delay=delay))
        except Exception:
            _log.exception("the restart callback failed")
        return name


def _split(error: BaseException) -> tuple[Exception | None, BaseException | None]:
    """The part of an error that is a crash, and the part that is none: a cancellation that came along."""
    if isinstance(error, Exception):
        return cast(Exception, unwrap(error)), None
    if not isinstance(error, BaseExceptionGroup):
        return None, error
    crashes, rest = cast("BaseExceptionGroup[BaseException]", error).split(Exception)
    return None if crashes is None else cast(Exception, unwrap(crashes)), rest


def _log_restart(restart: Restart) -> None:
    outlook = "not restarted" if restart.delay is None else f"restarted in {restart.delay:g} s"
    _log.warning("actor %s crashed, %s", restart.name, outlook, exc_info=restart.crash)
