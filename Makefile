# `make demo` runs the main job, `make test` the tests; both set up everything they need in .venv.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
SUDO ?= $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help demo test simulate coverage prove bench profile check lint types architecture generated fix diagrams pictures lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python"; exit 3; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

DATABASE ?= sqlite
DEMO_sqlite := $(BIN)/orchestrator demo
DEMO_postgresql := $(BIN)/python -m tests.support.postgresql_demo

demo: $(READY) ## run payments of every kind, kill the worker half-way, verify the trail; DATABASE=postgresql
	$(or $(DEMO_$(DATABASE)),$(error DATABASE is sqlite or postgresql)) $(ARGS)

test: $(READY) ## every test, on three processes: many tests wait for what others do
	$(BIN)/python -m pytest -n 3 --dist loadscope $(ARGS)

SEEDS ?= 500

simulate: $(READY) ## the flow under seeded crashes, faults and jumps in virtual time; SEEDS=500 ARGS="--first 1"
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) $(ARGS)

coverage: $(READY) ## every test again, and which lines and branches they never reached
	$(BIN)/python -m pytest -n 2 --dist loadscope --cov --cov-report= $(ARGS)
	$(BIN)/coverage report

PROVEN := $(CURDIR)/.pytest_cache/proven.jsonl

prove: $(READY) ## kill, stop and replace workers and databases with the full numbers, simulate 20,000 seeds; writes docs/quality.md
	mkdir -p $(dir $(PROVEN))
	rm -f $(PROVEN)
	ORCHESTRATOR_PROVE_RESULTS=$(PROVEN) ORCHESTRATOR_TEST_CRASH=full $(BIN)/python -m pytest -s tests/crash $(ARGS)
	ORCHESTRATOR_PROVE_RESULTS=$(PROVEN) ORCHESTRATOR_TEST_FULL=1 $(BIN)/python -m pytest -s tests/integration/privacy tests/integration/audit/test_sealer.py tests/unit/privacy
	ORCHESTRATOR_PROVE_RESULTS=$(PROVEN) $(BIN)/python -m tests.simulation --seeds 20000 --processes 2
	$(BIN)/python -m tests.support.quality $(PROVEN)

BENCHMARKS ?= end_to_end naive hand_over_latency recovery waiting history verify overload

bench: $(READY) ## every benchmark, two hours on two cores; BENCHMARKS="end_to_end naive" chooses, one JSON line a configuration
	for each in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$each $(ARGS); done

profile: $(READY) ## where a payment's CPU goes, by part; DATABASE=postgresql
	$(BIN)/python -m benchmarks.profile --database $(DATABASE) $(ARGS)

test-pgbouncer: $(READY) ## the store's tests over psycopg through pgbouncer in transaction mode; installs it on Debian
	@test -n "$$(PATH="$$PATH:/usr/sbin" command -v pgbouncer)" || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -qq --no-install-recommends pgbouncer; }
	ORCHESTRATOR_TEST_DRIVER=psycopg ORCHESTRATOR_TEST_POOLER=pgbouncer $(BIN)/python -m pytest -q tests/integration/store $(ARGS)

check: lint types architecture generated ## lint, types, architecture, generated files

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

architecture: $(READY)
	$(BIN)/lint-imports

generated: $(READY)
	$(BIN)/python -m pytest -q -p no:randomly tests/test_generated.py

fix: $(READY) ## format, and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

diagrams: $(READY) ## write the texts in diagrams/ and the README's tables anew from the code
	$(BIN)/orchestrator diagram --write diagrams
	$(BIN)/python -m tests.support.readme_tables
	$(BIN)/python -m tests.support.doc_tables

pictures: diagrams ## draw the pictures of those texts; needs node, and installs a chromium on Debian
	diagrams/draw

lock: $(READY) ## pin the dependencies anew, with hashes and no index
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --no-header --extra postgresql --group dev pyproject.toml -o requirements.lock

clean: ## remove what the targets above made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* dist build
