"""How many examples a property is tried with: a part of them every day, all of them by `make properties`."""

from __future__ import annotations

import os
from typing import Final

WHOLE: Final = bool(os.environ.get("INFERMUX_TEST_ALL_EXAMPLES"))


def examples(whole: int) -> int:
    """`whole` in the long form, a quarter of them every day. They are drawn anew each time, so that days add up."""
    return whole if WHOLE else max(5, whole // 4)
