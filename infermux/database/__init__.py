"""What infermux keeps on disk: the ledger of requests, keys, budgets. SQLite by default, PostgreSQL by URL.

`place.Place` is a checked URL, `store.Store` the database behind it for whoever may block, `worker.Database` the same
for trio. SQLAlchemy takes 200 ms to import: it is imported when a database is first used, never before.
"""
