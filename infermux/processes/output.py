"""What a process prints, made fit for a log: lines of bounded length, at a bounded rate, nothing in them that a
terminal would obey, and no secret of its environment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import attrs

LONGEST_LINE = 4096  # bytes; the rest of a longer one is left out. A path of a socket has at most 107
LINES_PER_SECOND = 100
SHORTEST_SECRET = 6  # shorter values, such as "1" or "debug", would be found all over what is said

# Control characters but the tab, and what reverses or hides text (https://www.unicode.org/reports/tr9/).
_UNPRINTABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")


@attrs.define(eq=False)
class Splitter:
    """Bytes as they come into lines without their ends. `spare`: how much more than `LONGEST_LINE` of one is kept, so
    that a secret which begins before the cut can be recognised."""

    spare: int = 0
    _rest: bytearray = attrs.field(factory=bytearray)

    @property
    def rest(self) -> bytes:
        """The beginning of a line that has not ended."""
        return bytes(self._rest)

    def finish(self) -> bytes:
        """`rest`, as the last line: nothing comes after it."""
        rest = self.rest
        self._rest.clear()
        return rest

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ended in `data`. Never keeps more than one line's bound."""
        *ended, last = data.split(b"\n")
        lines: list[bytes] = []
        for piece in ended:
            self._add(piece)
            lines.append(bytes(self._rest).removesuffix(b"\r"))
            self._rest.clear()
        self._add(last)
        return lines

    def _add(self, piece: bytes) -> None:
        room = LONGEST_LINE + self.spare + 1 - len(self._rest)  # one more than is shown tells that it was cut
        self._rest += piece[: max(room, 0)]


@attrs.define(eq=False)
class Cleaner:
    """Makes lines printable. The values of `env`, the declared environment, are replaced by the variable's name, other
    `secrets` by stars."""

    _secrets: list[tuple[bytes, bytes]]

    @classmethod
    def of(cls, env: Mapping[str, str], secrets: Iterable[str] = ()) -> Cleaner:
        """Also each line of a value of several lines, such as a private key, is a secret."""
        found: dict[bytes, bytes] = {}
        named = [(f"[{name}]", value) for name, value in env.items()]
        for name, value in (*(("***", secret) for secret in secrets), *named):
            for part in (value, *value.splitlines()):
                raw = part.strip().encode("utf-8", "surrogateescape")
                if len(raw) >= SHORTEST_SECRET:
                    found[raw] = name.encode("utf-8", "surrogateescape")
        return cls(sorted(found.items(), key=lambda pair: len(pair[0]), reverse=True))

    @property
    def longest(self) -> int:
        return len(self._secrets[0][0]) if self._secrets else 0

    def clean(self, line: bytes) -> str:
        """The text of `line`, at most `LONGEST_LINE` characters and a mark: bytes that are no UTF-8 and characters
        that are not to be printed are escaped."""
        incomplete = len(line) > LONGEST_LINE + self.longest
        for secret, name in self._secrets:
            line = line.replace(secret, name)
        if incomplete:  # it may end within a secret, which what was replaced before it has moved to the front
            line = line[: len(line) - self.longest]
        text = line[:LONGEST_LINE].decode("utf-8", "backslashreplace")
        if len(line) > LONGEST_LINE:
            text += " ... (cut)"
        return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


@attrs.define(eq=False)
class Allowance:
    """At most `LINES_PER_SECOND` in each second. `left_out` counts those since the last `claim`."""

    left_out: int = 0
    _since: float = float("-inf")
    _said: int = 0

    def admits(self, now: float) -> bool:
        """Whether a line may be shown; counts it."""
        if now - self._since >= 1:
            self._since, self._said = now, 0
        if self._said >= LINES_PER_SECOND:
            self.left_out += 1
            return False
        self._said += 1
        return True

    def claim(self, now: float) -> int:
        """How many were left out in a second that is over; they are counted only once."""
        if now - self._since < 1:
            return 0
        return self.claim_all()

    def claim_all(self) -> int:
        left_out, self.left_out = self.left_out, 0
        return left_out
