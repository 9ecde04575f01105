"""The configuration: `settings` holds its shapes and defaults, `load` reads, checks and returns it."""

from .loader import Overrides, find_config, load, load_checked, load_text, load_text_checked
from .redact import redacted
from .settings import Config

__all__ = ["Config", "Overrides", "find_config", "load", "load_checked", "load_text", "load_text_checked", "redacted"]
