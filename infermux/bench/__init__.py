"""Load tests: of a router that is started for it, and of any deployment that speaks the same APIs (`infermux bench`).

`scenarios.yml` says what is sent. A generator sends it, in C (`c/load.c`) or in Python (`generator.py`), and
verifies every answer; `rounds.py` lets all targets take turns, `figures.py` makes medians and ranges of it.
"""
