"""infermux: an LLM inference router whose every provider is a trio actor."""

__version__ = "0.1.0"
