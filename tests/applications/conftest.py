"""These tests need what `make applications` installs, and are collected by it only."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("INFERMUX_APPLICATIONS") else ["test_*.py"]
collect_ignore = [] if os.environ.get("INFERMUX_CLAUDE_CODE") else ["test_claude_code.py"]
