"""Budgets while requests run: what a request may cost is promised before it is sent, and settled when it has ended.

Both happen at once, in the request's own task, between two waits: no other task comes between the look at a purse and
the promise. What an actor does is to keep twice a second in a store, if there is one, what has changed, and once when
the router ends: a killed process loses a second at most. At the start the store is asked what was spent before; until
it answers, nothing is kept, and what it says is added to what was spent meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import attrs
import trio

from infermux.config.settings import Budget
from infermux.database.budgets import NANO, Spent, Term
from infermux.errors import BudgetExceeded, DatabaseUnavailable
from infermux.keys import KeyBudget
from infermux.providers.interface import Endpoint, Usage
from infermux.providers.prices import cost

from .actor import BaseActor, Context
from .catalogue import Route
from .learned import UNKNOWN_COMPLETION, LearnedTokens
from .lease import Lease
from .messages import Want
from .purses import CLAIMS_KEPT, Claim, Purse, Purses, Refused, Rules, Ticket, bounds, nano, scope_of
from .statement import row_of, statement

log = logging.getLogger("infermux.budgets")

TREASURY: Final = "infermux.treasury"
SAVE_EVERY: Final = 0.5  # seconds
STORE_PATIENCE: Final = 5.0  # seconds the store may take, before requests and at the end
WARNED_MODELS: Final = 1000
PERIODS: Final = ("day", "week", "month")


class BudgetStore(Protocol):
    """Where spent amounts are kept. Every call may raise DatabaseUnavailable."""

    async def load(self, terms: Sequence[Term], at: float) -> Sequence[Spent]:
        """What was spent before `at` in these periods, which are running then."""
        ...

    async def save(self, rows: Sequence[Spent]) -> None:
        """Keep these amounts, in the place of smaller ones."""
        ...


@attrs.frozen(kw_only=True)
class Exceeded:
    """A budget is used up. `until` (seconds since 1970) is the end of its period; amounts in US dollars."""

    budget: str
    limit_usd: float
    spent_usd: float
    hard: bool
    until: float


Listener = Callable[[Exceeded], None]


@attrs.define(eq=False)
class TreasuryActor(BaseActor[Any]):
    """Keeps what is spent, for as long as it lives."""

    treasury: Treasury

    async def started(self, context: Context[Any]) -> None:
        context.start_soon(self.treasury.keep)


@attrs.define(eq=False, kw_only=True)
class Treasury:
    """The budgets of one router, for its other parts.

    `key_budget` tells the budget that a key has of its own, by the key's public id. `clock` is seconds since 1970.
    """

    budgets: tuple[Budget, ...] = ()
    store: BudgetStore | None = None
    clock: Callable[[], float] = time.time
    key_budget: Callable[[str], KeyBudget | None] | None = None
    purses: Purses = attrs.field(factory=Purses)
    learned: LearnedTokens = attrs.field(factory=LearnedTokens)
    is_restored: bool = False
    rules: Rules = attrs.field(init=False)
    _warned: set[tuple[str, str]] = attrs.field(factory=set[tuple[str, str]])
    _own: dict[str, tuple[KeyBudget, Budget]] = attrs.field(factory=dict[str, tuple[KeyBudget, Budget]])
    _listeners: tuple[Listener, ...] = ()
    _quiet: bool = False
    _asking: trio.Lock = attrs.field(factory=trio.Lock)

    def __attrs_post_init__(self) -> None:
        self.adopt(self.budgets)

    def adopt(self, budgets: tuple[Budget, ...]) -> None:
        """These are the budgets from now on. What was spent stays spent."""
        self.budgets = budgets
        self.rules = Rules(budgets)

    def listen(self, listener: Listener) -> None:
        """Tell `listener` of every budget that is used up, once per period. It must not wait."""
        self._listeners = (*self._listeners, listener)

    # Requests.

    @property
    def is_needed(self) -> bool:
        """False: there are no budgets, and no key has one."""
        return bool(self.budgets) or self.key_budget is not None

    def account(self, want: Want, route: Route) -> Account | None:
        """For a request that is about to be made; None where it is under no budget, or can cost nothing."""
        own = self._own_budget(want.who.key) if want.who.key else None
        if (not self.budgets and own is None) or want.endpoint is Endpoint.COUNT_TOKENS:
            return None
        claims = self.rules.claims(want.who, "" if route.group is None else route.group.name, own)
        return Account(self, want, route, claims) if claims else None

    def _own_budget(self, key: str) -> Budget | None:
        """The same object for as long as the key has that budget."""
        own = None if self.key_budget is None else self.key_budget(key)
        if own is None:
            return None
        kept = self._own.get(key)
        if kept is None or kept[0] is not own:
            if len(self._own) >= CLAIMS_KEPT:
                self._own.clear()
            kept = self._own[key] = (own, Budget(key=key, limit_usd=own.limit_usd, period=own.period))
        return kept[1]

    def estimate(self, want: Want, route: Route) -> tuple[int, tuple[str, str] | None]:
        """What a request may cost at the dearest of its candidates, and one of them whose price nobody knows.

        Its prompt is known, nearly; the answer is taken to be as long as it may get, else as that model's mostly are.
        """
        completion = want.max_tokens
        if completion is None:
            average = self.learned.average(want.model)
            completion = UNKNOWN_COMPLETION if average is None else round(average)
        usage = Usage(prompt_tokens=want.prompt_tokens, completion_tokens=completion)
        dearest, unpriced = 0.0, None
        for each in (route, *route.fallbacks, *route.longer):
            for candidate in (candidate for tier in each.tiers for candidate in tier):
                if candidate.price is None:
                    unpriced = (candidate.entry.name, candidate.model)
                else:
                    dearest = max(dearest, cost(candidate.price, usage))
        return nano(dearest), unpriced

    def warn(self, provider: str, model: str) -> None:
        """Once per model: its price is unknown, so that it is in no budget."""
        if (provider, model) not in self._warned and len(self._warned) < WARNED_MODELS:
            self._warned.add((provider, model))
            log.warning(
                "nobody knows the price of %r at provider %s: it counts as 0 in budgets until `pricing` has it",
                model[:200],
                provider,
            )

    def tell(self, claim: Claim, purse: Purse) -> None:
        """A budget is used up: said in the log and to the listeners. One that fails is logged too."""
        budget = claim.budget
        told = Exceeded(
            budget=str(claim.key),
            limit_usd=budget.limit_usd,
            spent_usd=purse.spent / NANO,
            hard=budget.hard,
            until=purse.end,
        )
        log.warning("the budget %s of $%g is used up: $%.6g spent", told.budget, told.limit_usd, told.spent_usd)
        for listener in self._listeners:
            try:
                listener(told)
            except Exception:
                log.exception("a listener of budgets failed")

    # What is kept.

    async def keep(self) -> None:
        """Ask the store what was spent before, then keep in it what is spent. For ever."""
        while self.store is not None:
            known = not self.is_needed or await self._restored()
            await trio.sleep(SAVE_EVERY if known else STORE_PATIENCE)
            await self.save()

    async def ready(self) -> None:
        """Wait until the store has told what was spent, for a moment at most: one that is away stops no router."""
        if self.store is not None and self.is_needed:
            with trio.move_on_after(STORE_PATIENCE):
                await self._restored()

    async def _restored(self) -> bool:
        """Whether the store has told, now or before."""
        async with self._asking:
            if self.store is None or self.is_restored:
                return True
            at = self.clock()
            try:
                rows = await self.store.load(self._terms(at), at)
            except DatabaseUnavailable as trouble:
                self._say("what was spent before this start is not known yet: %s", trouble)
                return False
            self._quiet = False
            self.purses.restore(rows, at)
            self.is_restored = True
            return True

    def _terms(self, at: float) -> list[Term]:
        wanted = {(scope_of(budget)[0], budget.period) for budget in self.budgets}
        if self.key_budget is not None:
            wanted |= {("key", period) for period in PERIODS}
        return [Term(scope, period, int(bounds(period, at)[0])) for scope, period in sorted(wanted)]

    async def save(self) -> None:
        """Keep what has changed. What cannot be kept now is tried again the next time."""
        if self.store is None or not self.is_restored or not self.purses.changed:
            return
        taken = self.purses.take_changed()
        try:
            await self.store.save([purse.row for purse in taken])
            self._quiet = False
        except BaseException as trouble:
            self.purses.changed.update(dict.fromkeys(taken))
            if not isinstance(trouble, DatabaseUnavailable):
                raise
            self._say("what was spent cannot be kept now: %s", trouble)

    def _say(self, what: str, trouble: DatabaseUnavailable) -> None:
        if not self._quiet:
            self._quiet = True
            log.warning(what, trouble)

    async def aclose(self) -> None:
        """Keep what is not kept yet. Bounded in time."""
        with trio.move_on_after(STORE_PATIENCE):
            await self.save()

    # What is shown.

    def statement(self) -> list[dict[str, Any]]:
        """Every budget with its purses; see `statement.statement`. Keys' own budgets come last."""
        at = self.clock()
        rows = statement(self.rules, self.purses, at)
        for key, purse in self.purses.current.items():
            own = self._own_budget(key.name) if key.scope == "key" and at < purse.end else None
            if own is not None and own.period == key.period:
                rows.append(row_of(own, purse))
        return rows


@attrs.define(eq=False)
class Account:
    """One request's dealings with the treasury: `open` before it is sent, `close` when it has ended.

    `exceeded` names the soft budgets that were used up when it was opened.
    """

    treasury: Treasury
    want: Want
    route: Route
    claims: tuple[Claim, ...]
    exceeded: tuple[str, ...] = ()
    _ticket: Ticket | None = None
    _closed: bool = False

    def open(self) -> None:
        """Have what it may cost promised. Raises BudgetExceeded."""
        if self._ticket is not None or self._closed:
            return
        treasury = self.treasury
        amount, unpriced = treasury.estimate(self.want, self.route)
        if unpriced is not None:
            self._judge(*unpriced)
        promised = treasury.purses.reserve(self.claims, amount, treasury.clock())
        if isinstance(promised, Refused):
            raise _error(promised)
        self._ticket = promised
        over = [claim for claim, purse in promised.claims if not claim.hard and purse.spent >= claim.limit]
        if over:
            self.exceeded = tuple(str(claim.key) for claim in over)

    def close(self, trail: Iterable[Lease]) -> None:
        """Settle what the attempts have used. Synchronous, idempotent; without `open` there is nothing to settle."""
        ticket, self._ticket, self._closed = self._ticket, None, True
        if ticket is None:
            return
        amount, unpriced = 0, False
        for lease in trail:
            outcome = lease.outcome
            usage = None if outcome is None else outcome.usage
            if outcome is None or usage is None:
                continue
            dollars = lease.cost
            if dollars is None:
                unpriced = True
                self.treasury.warn(lease.provider, lease.model)
            else:
                amount += nano(dollars)
            if outcome.failure is None and not outcome.cancelled:
                self.treasury.learned.observe(self.want.model, usage.completion_tokens)
        for claim, purse in self.treasury.purses.settle(ticket, amount, unpriced=unpriced):
            self.treasury.tell(claim, purse)

    def _judge(self, provider: str, model: str) -> None:
        for claim in self.claims:
            if claim.hard and claim.budget.unpriced == "refuse":
                raise BudgetExceeded(
                    f"the budget {claim.key} takes no request whose price is unknown, and nobody knows that of "
                    f"{model[:200]!r} at provider {provider}: `pricing` of the configuration can say it"
                )


def _error(refused: Refused) -> BudgetExceeded:
    purse, claim = refused.purse, refused.claim
    return BudgetExceeded(
        f"the budget {claim.key} of ${claim.budget.limit_usd:g} has no room for this request, which may cost "
        f"${refused.amount / NANO:.4f}: ${purse.spent / NANO:.4f} are spent, ${purse.reserved / NANO:.4f} held for "
        "requests under way",
        retry_after=refused.until,
    )
