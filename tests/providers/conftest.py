"""Fixtures of the adapters' tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.providers import _both
from tests.providers.process._served import outside


@pytest.fixture
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of transport that the adapters of a test marked `over_both` have."""
    kind: str = request.param
    monkeypatch.setattr(_both, "chosen", kind)
    return kind


@pytest.fixture
def place(
    request: pytest.FixtureRequest, nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Where the adapters of a test marked `inside_and_outside` are: here, or in a provider process."""
    where: str = request.param
    if where == "outside":
        monkeypatch.setattr(_both, "outside", outside(nursery, tmp_path))
    return where
