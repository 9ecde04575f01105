"""Several processes that serve one port: the crew, which one process starts, watches and ends; see docs/workers.md."""
