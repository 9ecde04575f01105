"""What holds for every test of this room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# The SDK's streams, and httpx where an answer comes before the request was sent, leave asynchronous
# generators to the garbage collector, which trio warns about.
_SDK = "ignore:Async generator '(openai|anthropic|httpx2?|httpcore2?)\\.:ResourceWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = f"{Path(__file__).parent}{os.sep}"
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.filterwarnings(_SDK))
