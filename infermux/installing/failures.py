"""What can go wrong when something is installed; the messages are for people."""

from __future__ import annotations

from infermux.errors import InfermuxError


class CannotInstall(InfermuxError):
    """It was not installed, and everything is as it was."""


class BadSource(CannotInstall):
    """What was said about where to install from, or what to start, cannot be meant."""
