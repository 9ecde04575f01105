# Everything happens in .venv, which is made on first use. `make help` lists the targets.
# A Python of your own choice: make PYTHON=/path/to/python3 ...   Arguments for pytest, bench or serve: make test ARGS="-k breaker"
.DEFAULT_GOAL := help
.PHONY: help run test check lint types layout wheel coverage applications faults security soak shared bench micro install properties long campaign api-fuzz routing-quality clean

PYTHON ?=
ARGS ?=
PY := .venv/bin/python
RUN_READY := .venv/.ready-to-run
DEV_READY := .venv/.ready-to-develop
APPLICATIONS := .applications
# Tests start Python many times over: without its caches each would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 # \2/p' $(MAKEFILE_LIST) | awk -F'#' '{printf "%-20s%s\n", $$1, $$2}'

# Installed again only when pyproject.toml has changed. What development needs includes what running needs.
$(RUN_READY): pyproject.toml
	@PYTHON="$(PYTHON)" scripts/venv.sh
	@touch $@

$(DEV_READY): pyproject.toml
	@PYTHON="$(PYTHON)" scripts/venv.sh dev
	@touch $(RUN_READY) $@

install: $(DEV_READY)  ## make .venv with everything that development needs

run: $(RUN_READY)  ## serve a demo of three simulated providers on this machine, no keys needed
	@exec .venv/bin/infermux serve --demo $(ARGS)

test: $(DEV_READY)  ## run the whole everyday test suite; what was skipped is listed with the reason
	@$(PY) -m pytest -rs -n auto --dist worksteal $(ARGS)

check: lint types layout wheel  ## everything that is checked without running the suite: the next four

lint: $(DEV_READY)  ## ruff: rules and format
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check

types: $(DEV_READY)  ## mypy and pyright, both strict
	@$(PY) -m mypy
	@$(PY) -m pyright --pythonpath $(PY)

layout: $(DEV_READY)  ## the links, imports one way, the house rules
	@$(PY) -m pytest -q tests/test_layout.py tests/test_imports_one_way.py tests/test_house_rules.py

wheel: $(DEV_READY)  ## build sdist and wheel, look inside, install into a fresh environment, import from /
	@$(PY) scripts/check_wheel.py

coverage: $(DEV_READY)  ## branch coverage of actors/ by its own tests, at least 95 %
	@INFERMUX_TEST_ALL_EXAMPLES=1 $(PY) -m coverage run -m pytest -q tests/actors
	@$(PY) -m coverage report --include='actors/*' --fail-under=95

# Each list is complete and by exact version, so what is installed changes only with it.
$(APPLICATIONS)/.ready: tests/applications/requirements.txt tests/applications/package.json scripts/applications.sh | $(DEV_READY)
	@scripts/applications.sh
	@touch $@

applications: $(DEV_READY) $(APPLICATIONS)/.ready  ## run real applications against infermux, offline, once they are installed
	@INFERMUX_APPLICATIONS=$(CURDIR)/$(APPLICATIONS) $(PY) -m pytest -v tests/applications $(ARGS)

faults: $(DEV_READY)  ## what callers see under each fault of a provider, as a table
	@$(PY) -m tests.e2e.faults._print

security: $(DEV_READY)  ## canary secrets in every place and hostile callers, the long form
	@INFERMUX_TEST_ALL_EXAMPLES=1 INFERMUX_TEST_SECURITY=long $(PY) -m pytest tests/security $(ARGS)

soak: $(DEV_READY)  ## twenty minutes of mixed traffic and faults: memory, latency, tasks, descriptors; ARGS="--seconds 60"
	@$(PY) -m bench.soak $(ARGS)

shared: $(DEV_READY)  ## four nodes sharing limits while Redis is killed, paused and flushed and nodes die; ARGS="--seconds 2"
	@$(PY) -m tests.shared.run $(ARGS)

bench: $(DEV_READY)  ## measure against nginx and others, see bench/README.md
	@$(PY) -m bench.run $(ARGS)

properties: $(DEV_READY)  ## every property with all of its examples; the everyday suite takes a quarter of them
	@INFERMUX_TEST_ALL_EXAMPLES=1 $(PY) -m pytest -n auto -m hypothesis $(ARGS)

long: $(DEV_READY)  ## what the everyday suite leaves out since it takes long: more ways in, restarts, outages, other processes
	@INFERMUX_TEST_ALL_EXAMPLES=1 $(PY) -m pytest -rs -n auto --dist worksteal -m long --ignore=tests/security $(ARGS)

micro: $(DEV_READY)  ## what the hot path costs, in calibration loops, against its bounds; ARGS="--quick", "--record"
	@$(PY) -m bench.micro $(ARGS)

campaign: $(DEV_READY)  ## 1000 random schedules of faults, reloads and leaving callers; ARGS="--seed 7" replays one
	@$(PY) -m tests.campaign.run $(ARGS)

api-fuzz: $(DEV_READY)  ## ask a real router all that its description of itself allows, and what it does not; ARGS="--examples 10"
	@$(PY) -m tests.api_fuzz.run $(ARGS)

routing-quality: $(DEV_READY)  ## latency and success of every strategy under faults, as a plot, in bench/results
	@$(PY) -m bench.routing_quality $(ARGS)

clean:  ## remove .venv, .applications, caches and what was built
	rm -rf .venv .hadolint .kubernetes $(APPLICATIONS) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks .coverage bench/build
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
