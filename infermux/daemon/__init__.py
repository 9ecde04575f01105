"""The router in the background: one for each home, found by its lock."""
