"""What several routers know together: Redis or Valkey, spoken to by scripts.

Nothing here is on the way of a request: an actor speaks to Redis ahead of what requests will take.
"""
