"""Budgets while requests run: what a request may cost is promised before it is sent, and settled when it has ended.

Both happen at once, in the request's own task, between two waits: no other task comes between the look at a purse and
the promise. What an actor does is to keep what has changed in a store, if there is one: a killed process loses a second
at most. Where a budget begins to count the store is asked what was spent before; that is added to what was meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import attrs
import msgspec
import trio

from infermux.config.settings import Budget, Group
from infermux.database.budgets import NANO
from infermux.errors import BudgetExceeded
from infermux.keys import KeyBudget
from infermux.providers.interface import Endpoint
from infermux.providers.prices import cost_of

from .actor import BaseActor, Context
from .budget_rules import Rules
from .catalogue import Route
from .identity import Identity
from .learned import UNKNOWN_COMPLETION, LearnedTokens
from .lease import Lease
from .messages import Want
from .purse import Claim, Purse, PurseKey, nano
from .purse_keeper import BudgetStore, PurseKeeper, wanted
from .purses import CLAIMS_KEPT, Purses, Refused, Ticket
from .share import Share
from .shared_purse import SharedPurse
from .statement import row_of, statement
from .supply import REQUEST_WAITS, Supply

log = logging.getLogger("infermux.budgets")

TREASURY: Final = "infermux.treasury"
WARNED_MODELS: Final = 1000
_COUNT_TOKENS: Final = Endpoint.COUNT_TOKENS  # members of an enum are looked up in Python code
MONEY_WAITS: Final = 0.25  # seconds a request waits for money from a Redis that is not known to be gone, at most


@attrs.frozen(kw_only=True)
class Exceeded:
    """A budget is used up. `until` (seconds since 1970) is the end of its period; amounts in US dollars."""

    budget: str
    limit_usd: float
    spent_usd: float
    hard: bool
    until: float


Listener = Callable[[Exceeded], None]


class Terms(msgspec.Struct, eq=False):
    """Which budgets the requests of `who` are under that go to the route group `group`: found once, and good while
    these three are what they were, and the budgets. `own` is that of the key.
    """

    who: Identity
    group: Group | None
    own: KeyBudget | None
    claims: Sequence[Claim]


@attrs.define(eq=False)
class TreasuryActor(BaseActor[Any]):
    """Keeps what is spent, for as long as it lives."""

    treasury: Treasury

    async def started(self, context: Context[Any]) -> None:
        context.start_soon(self.treasury.keeper.run)


@attrs.define(eq=False, kw_only=True)
class Treasury:
    """The budgets of one router, for its other parts.

    `key_budget` tells the budget that a key has of its own, by the key's public id, and `key_name` its name; `keyed`:
    there will be keys. `clock` is seconds since 1970. `keeper` keeps what was spent.
    """

    budgets: tuple[Budget, ...] = ()
    store: BudgetStore | None = None
    clock: Callable[[], float] = time.time
    key_budget: Callable[[str], KeyBudget | None] | None = None
    key_name: Callable[[str], str | None] | None = None
    purses: Purses = attrs.field(factory=Purses)
    learned: LearnedTokens = attrs.field(factory=LearnedTokens)
    keyed: bool = False
    supply: Supply | None = None
    rules: Rules = attrs.field(init=False)
    keeper: PurseKeeper = attrs.field(init=False)
    _warned: set[tuple[str, str]] = attrs.field(factory=set[tuple[str, str]])
    _own: dict[str, tuple[KeyBudget, Budget]] = attrs.field(factory=dict[str, tuple[KeyBudget, Budget]])
    _terms: dict[int, Terms] = attrs.field(factory=dict[int, Terms], repr=False)  # by the identity of who asks
    _listeners: tuple[Listener, ...] = ()

    def __attrs_post_init__(self) -> None:
        self.purses.lowest = self._lowest
        self.keeper = PurseKeeper(purses=self.purses, store=self.store, clock=lambda: self.clock())
        self.adopt(self.budgets, keyed=self.keyed)

    def adopt(self, budgets: tuple[Budget, ...], *, keyed: bool = False) -> None:
        """These are the budgets from now on. What was spent stays spent."""
        self.budgets = budgets
        self.rules = Rules(budgets)
        self._terms.clear()
        self.keeper.watch(wanted(budgets, keyed=keyed))
        self.purses.adopt_limits()

    def _lowest(self, key: PurseKey) -> int | None:
        own = self._own_budget(key.name) if key.scope == "key" else None
        limits = [self.rules.lowest(key), nano(own.limit_usd) if own and own.period == key.period else None]
        return min((limit for limit in limits if limit is not None), default=None)

    def adopt_share(self, share: Share) -> None:
        """Of what is left of every budget, that part is ours from now on."""
        self.purses.adopt_share(share)

    async def expect(self, budgets: tuple[Budget, ...], *, keyed: bool = False) -> None:
        """These are to be adopted: see what was spent of them, unless that takes too long. `adopt` has to follow."""
        self.keeper.watch(wanted((*self.budgets, *budgets), keyed=keyed))
        await self.keeper.ready()

    def share_by(self, supply: Supply) -> None:
        """Budgets are shared with other nodes by way of Redis from now on."""
        self.supply = supply
        keeper = self.keeper
        self.purses.lease = lambda purse: supply.purse(purse, lambda: keeper.knows(purse), lambda: keeper.identity)

    def listen(self, listener: Listener) -> None:
        """Tell `listener` of every budget that is used up, once per period. It must not wait."""
        self._listeners = (*self._listeners, listener)

    # Requests.

    def account(self, want: Want, route: Route) -> Account | None:
        """For a request that is about to be made; None where it is under no budget, or can cost nothing."""
        who = want.who
        key = who.key
        own = self.key_budget(key) if key and self.key_budget is not None else None
        terms, group = self._terms.get(id(who)), route.group
        if terms is None or terms.who is not who or terms.group is not group or terms.own is not own:
            terms = self._agree(who, group, own)
        if not terms.claims or want.endpoint is _COUNT_TOKENS:
            return None
        return Account(self, want, route, terms.claims)

    def _agree(self, who: Identity, group: Group | None, own: KeyBudget | None) -> Terms:
        name = "" if group is None else group.name
        claims = self.rules.claims(who, name, None if own is None else self._own_budget(who.key))
        terms = Terms(who, group, own, claims)
        if not who.tags:  # whom a header tags is another one each time, and would never be found again
            if len(self._terms) >= CLAIMS_KEPT:
                self._terms.clear()
            self._terms[id(who)] = terms
        return terms

    def spend(self, who: Identity, amount: int, *, unpriced: bool) -> None:
        """`who` has spent an amount that was not promised before."""
        claims = self.rules.claims(who, "") if self.budgets else ()
        if claims:
            ticket = self.purses.taken(claims, self.clock())
            for claim, purse in self.purses.settle(ticket, amount, unpriced=unpriced):
                self.tell(claim, purse)

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

    def estimate(self, want: Want, route: Route) -> int:
        """What a request may cost at the dearest of its candidates whose price is known.

        Its prompt is known, nearly; the answer is taken to be as long as it may get, else as that model's mostly are.
        """
        prompt, completion = want.prompt_tokens, want.max_tokens
        if completion is None:
            average = self.learned.average(want.model)
            completion = UNKNOWN_COMPLETION if average is None else round(average)
        dearest = 0.0
        for price in route.prices:
            dollars = cost_of(price, prompt, completion)
            if dollars > dearest:  # noqa: PLR1730 - a call more
                dearest = dollars
        return nano(dearest)

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
        limit, spent = _dollars(claim.limit), _dollars(purse.spent)
        log.warning("the budget %s of $%s is used up: $%s spent", claim.key.said, limit, spent)
        for listener in self._listeners:
            try:
                listener(told)
            except Exception:
                log.exception("a listener of budgets failed")

    # What is shown.

    def spent_by_key(self, key: str, period: str) -> float:
        """US dollars of a key's own budget in the running day, week or month."""
        purse = self.purses.current.get(PurseKey("key", key, period))
        return 0.0 if purse is None or purse.end <= self.clock() else purse.spent / NANO

    def statement(self) -> list[dict[str, Any]]:
        """Every budget with its purses; see `statement.statement`. Keys' own budgets come last."""
        at = self.clock()
        rows = statement(self.rules, self.purses, at)
        for key, purse in self.purses.current.items():
            own = self._own_budget(key.name) if key.scope == "key" and at < purse.end else None
            if own is not None and own.period == key.period:
                rows.append(row_of(own, purse))
        for row in rows:
            row["key_name"] = self.key_name(row["name"]) if self.key_name and row["scope"] == "key" else None
        return rows


class Account(msgspec.Struct, eq=False):
    """One request's dealings with the treasury: `open` before it is sent, `close` when it has ended.

    `exceeded` names the soft budgets that were used up when it was opened.
    """

    treasury: Treasury
    want: Want
    route: Route
    claims: Sequence[Claim]
    exceeded: tuple[str, ...] = ()
    _ticket: Ticket | None = None
    _closed: bool = False

    def open(self) -> None:
        """Have what it may cost promised. Raises BudgetExceeded."""
        if self._ticket is not None or self._closed:
            return
        treasury, route = self.treasury, self.route
        amount = treasury.estimate(self.want, route)
        if route.unpriced is not None:
            self._judge(*route.unpriced)
        promised = treasury.purses.reserve(self.claims, amount, treasury.clock())
        if not isinstance(promised, Ticket):
            raise _error(promised)
        self._ticket = promised
        if promised.held.soft:
            over = [claim for claim, purse in promised.held.soft if purse.spent >= claim.limit]
            self.exceeded = tuple(str(claim.key) for claim in over)

    async def open_when_supplied(self, refused: BudgetExceeded) -> None:
        """`open` again, when what was lacking on this node may have come from Redis. Raises BudgetExceeded.

        A Redis that is there is waited for: what nobody has been granted may be another's in the next moment. When it
        has answered, others here may have taken what came: then as long again.
        """
        supply, began, answered = self.treasury.supply, trio.current_time(), False
        deadline = began + MONEY_WAITS
        while supply is not None and await supply.coming(deadline):
            now = trio.current_time()
            if not answered and not self._lacking():
                answered, deadline = True, min(deadline, now + max(REQUEST_WAITS, now - began))
            try:
                self.open()
            except BudgetExceeded as error:
                refused = error
            else:
                return
        if supply is not None and not answered and self._falls_back():
            self.open()
            return
        raise refused

    def _falls_back(self) -> bool:
        """Redis has not answered in time: whether some budget goes on by its fair share of what was left."""
        waiting = self._lacking()
        for lease in waiting:
            lease.fall_back()
        return bool(waiting)

    def _lacking(self) -> list[SharedPurse]:
        """Of which Redis was asked for more, and has not answered."""
        at = self.treasury.clock()
        leases = [self.treasury.purses.purse(claim.key, at).lease for claim in self.claims if claim.hard]
        return [lease for lease in leases if lease is not None and lease.is_waiting]

    def close(self, trail: Iterable[Lease]) -> None:
        """Settle what the attempts have used. Synchronous, idempotent; without `open` there is nothing to settle."""
        ticket, self._ticket, self._closed = self._ticket, None, True
        if ticket is None:
            return
        treasury, amount, unpriced = self.treasury, 0, False
        for lease in trail:
            outcome = lease.outcome
            usage = None if outcome is None else outcome.usage
            if outcome is None or usage is None:
                continue
            dollars = lease.cost
            if dollars is None:
                unpriced = True
                treasury.warn(lease.provider, lease.model)
            else:
                amount += nano(dollars)
            if outcome.failure is None and not outcome.cancelled:
                treasury.learned.observe(self.want.model, usage.completion_tokens)
        for claim, purse in treasury.purses.settle(ticket, amount, unpriced=unpriced):
            treasury.tell(claim, purse)

    def _judge(self, provider: str, model: str) -> None:
        for claim in self.claims:
            if claim.hard and claim.budget.unpriced == "refuse":
                raise BudgetExceeded(
                    f"the budget {claim.key.said} takes no request whose price is unknown, and nobody knows that of "
                    f"{model[:200]!r} at provider {provider}: `pricing` of the configuration can say it"
                )


def _error(refused: Refused) -> BudgetExceeded:
    purse, claim = refused.purse, refused.claim
    others = f", ${_dollars(purse.elsewhere)} left to other routers" if purse.elsewhere else ""
    return BudgetExceeded(
        f"the budget {claim.key.said} of ${_dollars(claim.limit)} has no room for this request, which may cost "
        f"${_dollars(refused.amount)}: ${_dollars(purse.spent)} are spent, ${_dollars(purse.promised)} held for "
        f"requests under way{others}",
        retry_after=refused.until,
    )


def _dollars(amount: int) -> str:
    """Nano-dollars as dollars, exactly: rounded, what is left would seem to be enough."""
    return f"{amount // NANO}.{amount % NANO:09}".rstrip("0").removesuffix(".")
