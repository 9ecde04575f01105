"""What several routers know together: Redis or Valkey, spoken to by scripts. It knows the errors and nothing else of us.

Nothing here is on the way of a request: an actor speaks to Redis ahead of what requests will take.
"""
