"""What is read off the running router when somebody asks for its metrics: nothing of this costs a request anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec
import trio

from infermux.actors.fleet import Fleet
from infermux.actors.kit_errors import ActorDied, MailboxFull
from infermux.actors.member import Member
from infermux.actors.messages import Circuit, Health, Reason
from infermux.actors.router_messages import CountWaiting
from infermux.watchdog import Watchdog

from .inference import Inference
from .loop_delay import LoopDelay
from .metric_text import COUNTER, GAUGE

_HELP: Final = {
    "infermux_in_flight": "Requests under way.",
    "infermux_queue_length": "Requests that wait for a provider.",
    "infermux_draining": "1 while the server finishes what it has and takes nothing new.",
    "infermux_provider_routable": "1 while requests go to the provider.",
    "infermux_provider_blocked": "1 for the reason why nothing goes to the provider.",
    "infermux_provider_health": "1 for the state of the provider's health.",
    "infermux_provider_circuit": "1 for the state of the provider's circuit.",
    "infermux_provider_in_flight": "Attempts under way at the provider.",
    "infermux_provider_concurrency_limit": "Attempts that may be under way at the provider, found out or configured.",
    "infermux_provider_bucket_level": "What is left of the provider's limit a minute; below zero it is a debt.",
    "infermux_provider_bucket_limit": "The provider's limit a minute.",
    "infermux_provider_latency_seconds": "The provider's average time to a whole response.",
    "infermux_provider_first_token_seconds": "The provider's average time to its first token.",
    "infermux_event_loop_holds": "Steps of a task that held the event loop for more than 50 ms.",
    "infermux_event_loop_longest_hold_seconds": "The longest of those.",
    "infermux_event_loop_delay_seconds": "How late the event loop came last when it was to wake up at a set time.",
    "infermux_event_loop_delay_max_seconds": "The latest it came within the last minute.",
}


class Value(msgspec.Struct, frozen=True):
    """One number. Counters are named without `_total`, which is added in the exposition."""

    name: str
    value: float
    labels: Mapping[str, str] = {}
    kind: str = GAUGE
    help: str = ""

    @property
    def said(self) -> str:
        return self.help or _HELP[self.name]


async def live_values(inference: Inference, watchdog: Watchdog, delay: LoopDelay) -> list[Value]:
    """Those of the router itself and of every provider."""
    fleet = inference.fleet
    now = trio.current_time()
    found = [
        Value("infermux_in_flight", inference.in_flight),
        Value("infermux_draining", inference.draining),
        Value("infermux_event_loop_holds", watchdog.holds, kind=COUNTER),
        Value("infermux_event_loop_longest_hold_seconds", watchdog.longest),
        Value("infermux_event_loop_delay_seconds", delay.last),
        Value("infermux_event_loop_delay_max_seconds", delay.longest(now)),
    ]
    waiting = await _waiting(fleet)
    if waiting is not None:
        found.append(Value("infermux_queue_length", waiting))
    for name, member in fleet.members.items():
        found.extend(_of_member({"provider": name}, member, now))
    return found


async def _waiting(fleet: Fleet) -> int | None:
    """None while the router's actor restarts."""
    try:
        count: int = await fleet.router.ask(CountWaiting())
    except (ActorDied, MailboxFull):
        return None
    return count


def _of_member(labels: dict[str, str], member: Member, now: float) -> Iterator[Value]:
    standing, gate, reason = member.standing, member.gate, member.blocked(now)
    yield Value("infermux_provider_routable", reason is None, labels)
    yield from _states("infermux_provider_blocked", labels, "reason", Reason, reason)
    yield from _states("infermux_provider_health", labels, "state", Health, standing.health)
    yield from _states("infermux_provider_circuit", labels, "state", Circuit, gate.breaker.state(now))
    yield Value("infermux_provider_in_flight", standing.in_flight, labels)
    if gate.max_concurrent is not None:
        yield Value("infermux_provider_concurrency_limit", gate.max_concurrent, labels)
    for of, bucket in (("requests", gate.requests), ("tokens", gate.tokens)):
        if bucket is not None:
            marked = {**labels, "of": of}
            yield Value("infermux_provider_bucket_level", bucket.available(now), marked)
            yield Value("infermux_provider_bucket_limit", bucket.capacity, marked)
    if standing.response.samples:
        yield Value("infermux_provider_latency_seconds", standing.response.value, labels)
    if standing.first_token.samples:
        yield Value("infermux_provider_first_token_seconds", standing.first_token.value, labels)


def _states(
    name: str, labels: dict[str, str], label: str, words: Iterable[Reason | Health | Circuit], now: object
) -> Iterator[Value]:
    """One value for each state, so that a change does not leave the state before behind."""
    for word in words:
        yield Value(name, word is now, {**labels, label: word.value})
