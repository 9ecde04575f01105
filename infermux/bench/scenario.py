"""A scenario: what is sent, how, and what the router that is started for it looks like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from .callers import CALLERS
from .load import Load
from .upstream import Pace


@attrs.frozen(kw_only=True)
class Faulty:
    """The first `providers` fail each `every`-th request with `status`; None: they close the connection at once.

    `retry_after` in seconds is what they say with it; 0: nothing.
    """

    providers: int = 1
    every: int = 2
    status: int | None = 503
    retry_after: int = 0


@attrs.frozen(kw_only=True)
class Limited:
    """The first `providers` have this limit in the configuration."""

    providers: int = 1
    requests_per_minute: int = 600


@attrs.frozen(kw_only=True)
class Server:
    """The router that is started where no URL is given, and its upstream. Seconds.

    `providers` serve the model, `others` do not; `config` is merged into infermux.yml.
    """

    type: str = "openai"
    providers: int = 1
    others: int = 0
    interval: float = 0.02
    first_token: float = 0.0
    answer_after: float = 0.0
    faulty: Faulty | None = None
    limited: Limited | None = None
    config: Mapping[str, Any] = attrs.field(factory=dict[str, Any])


@attrs.frozen(kw_only=True)
class Scenario:
    """Times in seconds. `rate` None: a closed loop of `callers`; otherwise requests a second over at most so many
    connections. `requests`: no more of them in one round. `tokens` is how long answers are to be, `prompt` in bytes.
    """

    name: str = ""
    title: str = ""
    api: str = "chat"
    stream: bool = False
    callers: int = 16
    rate: float | None = None
    seconds: float = 3.0
    requests: int | None = None
    rounds: int = 5
    stagger: float = 0.0
    timeout: float = 10.0
    prompt: int = 1500
    tokens: int = 50
    tools: int = 0
    body: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
    server: Server = attrs.field(factory=Server)

    @property
    def is_plain(self) -> bool:
        """Whether its server is one provider that answers: then it is told apart by its load."""
        own = self.server
        return own == Server(interval=own.interval, first_token=own.first_token, answer_after=own.answer_after)

    def shown(self) -> dict[str, Any]:
        """All of it for a result, but for values that may be secrets: of headers and of configurations only names."""
        made = attrs.asdict(self)
        made["headers"] = sorted(self.headers)
        made["server"]["config"] = sorted(self.server.config)
        return made

    @property
    def unit(self) -> str:
        """What CPU time is divided by."""
        return "event" if self.stream else "request"

    @property
    def pace(self) -> Pace:
        """That of the mock upstream."""
        return Pace(
            tokens=self.tokens,
            interval_ms=self.server.interval * 1000,
            first_ms=self.server.first_token * 1000,
            whole_ms=self.server.answer_after * 1000,
        )

    def load(self, *, seconds: float | None = None, exact: bool = True) -> Load:
        """One round. `exact`: the upstream is ours, so a stream has no fewer events than tokens."""
        return Load(
            caller=CALLERS[self.api],
            stream=self.stream,
            connections=self.callers,
            seconds=self.seconds if seconds is None else seconds,
            rate=self.rate or 0.0,
            stagger=self.stagger,
            requests=-1 if self.requests is None else self.requests,
            timeout=self.timeout,
            min_events=self.tokens if exact and self.stream else 1,
            prompt_bytes=self.prompt,
            tokens=self.tokens,
            tools=self.tools,
            more=self.body,
            headers=self.headers,
        )

    def warm_up(self, load: Load, seconds: float) -> Load:
        """A run whose figures are dropped: connections opened, code paths taken. A stream of each caller at least."""
        few = min(self.callers, 16)
        stagger = self.stagger * few / self.callers
        return attrs.evolve(load, connections=few, seconds=max(seconds, 2 * stagger), stagger=stagger, rate=0.0)
