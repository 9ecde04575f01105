"""Fixtures of the adapters' tests."""

from __future__ import annotations

import pytest

from tests.providers import _both


@pytest.fixture
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of transport that the adapters of a test marked `over_both` have."""
    kind: str = request.param
    monkeypatch.setattr(_both, "chosen", kind)
    return kind
