"""What one of several routers may use of a limit that is meant for all of them together.

Each holds its part, and the parts add up to the limit. They may be dealt anew at any moment as long as nobody's grows
before the others' have shrunk. Where one has gone without a word, what it had saved up is gone as well: the others'
parts grow, and what is in them does not, so that refilling alone brings it up. One that comes later begins with
nothing, for what it is to hold was saved up, or lent out, by the others. So of all levels together this holds at every
moment: they are at most what one bucket of the whole would have left, and so is what they admit.
"""

from __future__ import annotations

from typing import Final, Protocol

import attrs


@attrs.frozen
class Share:
    """The part of router `index`, from 0, of `of`. `of` 0: of nothing.

    `late`: it has come to others that hold, or held, all there is. Its limits begin empty, and limits of what may run
    at once let nothing through until it is told a share that is not late: that others have let go of what they had.

    `most`: it is about to end, and no more than so many run there, of whatever limit. `leaving` are such others: of
    what may run at once they have what they need, and it is the rest that has parts.
    """

    index: int = 0
    of: int = 1
    late: bool = False
    most: int | None = None
    leaving: tuple[Share, ...] = ()

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.index < max(self.of, 1):
            raise ValueError(f"there is no router {self.index} of {self.of}")

    @property
    def is_whole(self) -> bool:
        """Nobody else has a part."""
        return self.of == 1 and not self.late

    def part(self, limit: int) -> int:
        """Of a limit that refills, or of an amount: `limit // of`, one more for the first `limit % of` of them."""
        if self.of < 1:
            return 0
        whole, rest = divmod(limit, self.of)
        return whole + (self.index < rest)

    def slots(self, limit: int) -> int:
        """Of a limit of what may run at once."""
        if self.late:
            return 0
        ours = self.part(max(0, limit - sum(each.slots(limit) for each in self.leaving)) if self.leaving else limit)
        return ours if self.most is None else min(ours, self.most)


WHOLE: Final = Share()


class Sharer(Protocol):
    """Limits that are shared with other routers: of keys, say. Plain state, as gates are."""

    def adopt_share(self, share: Share, now: float) -> None:
        """Our part is another one from now on."""
        ...

    @property
    def is_over(self) -> bool:
        """More runs at once than our part allows: it has shrunk."""
        ...
