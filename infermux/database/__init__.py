"""What infermux keeps on disk: the ledger of requests, keys, budgets. SQLite by default, PostgreSQL by URL.

`place.Place` is a checked URL, `store.Store` the database behind it for whoever may block, `worker.Database` the same
for trio, `session.Session` a transaction. SQLite is used by its own driver; SQLAlchemy, which takes 200 ms and ten
megabytes to import, is there for PostgreSQL and for whoever asks for costs.
"""
