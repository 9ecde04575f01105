"""Many candidates of a model, kept as they stand, so that a decision need not look at all of them.

A field is told by the providers' actors which of them have changed; only these are read again before the next one is
picked. What time alone changes is looked at when it is due: whoever is blocked until then, and penalties that fade.

Some strategies do not care how a provider stands as long as it takes requests. For these only whoever does not is read
again: that one of the others takes none any more is seen when it refuses, or when `doubt` says so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from typing import Any, Final

from .catalogue import Candidate
from .messages import Standing, Want
from .penalty import decayed
from .pickers import Picker
from .ref import Ref
from .router_queue import standing_of
from .strategy import Choice, Option

FEW: Final = 8
"""Candidates that are all put in order for each request: that costs no more, and all their scores can be explained."""
FADES_EVERY: Final = 0.25  # seconds: a penalty is 1.7 % less then
FADED: Final = 0.001  # seconds of penalty that are as good as none
KEPT_FIELDS: Final = 64

Tier = tuple[Candidate, ...]


class Field:
    """One tier under one strategy. `load` tells the requests that a provider has, those in transit to it included."""

    def __init__(
        self, tier: Tier, picker: Picker, refs: Mapping[str, Ref[Any]], load: Callable[[str, Standing], int]
    ) -> None:
        self.tier = tier
        self._picker = picker
        self._refs = refs
        self._load = load
        self._places = {candidate.entry.name: at for at, candidate in enumerate(tier)}
        self._changed = set(self._places)
        self._away: set[str] = set()
        self._note: Callable[[str], object] = self._changed.add if picker.reads else self._note_away
        self._until: dict[str, float] = {}  # of those that are away for a time
        self._due: list[tuple[float, str]] = []
        self._fading: set[str] = set()
        self._fade_at = 0.0
        for name in self._places:
            if name in refs:
                refs[name].watch(self._note)

    def close(self) -> None:
        """Nobody picks from it any more."""
        for name in self._places:
            if name in self._refs:
                self._refs[name].unwatch(self._note)

    def pick(self, want: Want, now: float) -> Choice | None:
        """The first choice for a request; None: nobody can take it, or an order of all has to tell who could."""
        if self._changed or self._due or self._fading:
            self._refresh(now)
        choice = self._picker.pick(want, now)
        if choice is not None and self._picker.reads:
            self._changed.add(choice.option.provider)  # something is sent there, which it may not have heard of
        return choice

    def doubt(self, name: str) -> None:
        """A provider did not take a request: read how it stands before the next one is picked."""
        self._changed.add(name)

    def _note_away(self, name: str) -> None:
        if name in self._away:
            self._changed.add(name)

    def _refresh(self, now: float) -> None:
        due, changed = self._due, self._changed
        while due and due[0][0] <= now:
            changed.add(heappop(due)[1])
        if self._fading and now >= self._fade_at:
            changed |= self._fading
            self._fade_at = now + FADES_EVERY
        while changed:
            self._look(changed.pop(), now)

    def _look(self, name: str, now: float) -> None:
        at = self._places[name]
        candidate, ref = self.tier[at], self._refs.get(name)
        if ref is None or not ref.alive:
            self._leave(name, at)
            return
        standing = standing_of(ref)
        if now < standing.blocked_until:
            self._leave(name, at)
            if self._until.get(name) != standing.blocked_until:
                self._until[name] = standing.blocked_until
                heappush(self._due, (standing.blocked_until, name))
            return
        self._away.discard(name)
        entry = candidate.entry
        load, weight = self._load(name, standing), entry.settings.weight
        option = Option(name, candidate.model, standing, entry.index, load, weight, candidate.price)
        self._picker.put(at, option, now)
        if not self._picker.reads:
            return
        if decayed(standing.penalty, standing.penalty_at, now) > FADED:
            self._fading.add(name)
        else:
            self._fading.discard(name)

    def _leave(self, name: str, at: int) -> None:
        self._away.add(name)
        self._picker.drop(at)


class Fields:
    """The fields of a router: by strategy and group, for the tiers that were asked for last."""

    def __init__(self, load: Callable[[str, Standing], int]) -> None:
        self._load = load
        self._kept: OrderedDict[tuple[str, str, int], Field] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """The world is another one."""
        for field in self._kept.values():
            field.close()
        self._kept.clear()

    def of(
        self, group: str, strategy: str, tier: Tier, refs: Mapping[str, Ref[Any]], make: Callable[[str], Picker | None]
    ) -> Field | None:
        """The field of a tier; None where there can be none: few candidates, one of them twice, or no picker."""
        if len(tier) <= FEW:
            return None
        key = (group, strategy, id(tier))
        field = self._kept.get(key)
        if field is not None and field.tier is tier:
            self._kept.move_to_end(key)
            return field
        picker = make(strategy)
        if picker is None or len({candidate.entry.name for candidate in tier}) < len(tier):
            return None
        field = self._kept[key] = Field(tier, picker, refs, self._load)
        if len(self._kept) > KEPT_FIELDS:
            self._kept.popitem(last=False)[1].close()
        return field
