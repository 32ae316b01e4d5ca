# Every target first makes its own .venv from the lock, so that Python 3.11+, make and git are all a machine needs.
.DEFAULT_GOAL := help
PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.from-lock

.PHONY: help setup demo test faults check bench lock openapi format

help:  ## Show what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: $(STAMP)  ## Make .venv from the lock; .venv/bin/bucketpost is there afterwards

# uv is ten times faster than pip; where it cannot be had, pip does the same from the same lock.
$(STAMP): requirements/dev.txt requirements/uv.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt || echo "uv cannot be had here: pip takes its place"
	@if [ -x $(BIN)/uv ]; then \
	   $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt && \
	   $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	 else \
	   $(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt && \
	   $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .; \
	 fi
	@touch $@

demo: $(STAMP)  ## Prove the promises on this machine (ARGS=--exit to end after the proof)
	@$(BIN)/bucketpost demo $(ARGS)

test: $(STAMP)  ## Run every test; starts PostgreSQL, Kafka and moto by itself (ARGS=... goes to pytest)
	@$(BIN)/python -m pytest $(ARGS)

faults: $(STAMP)  ## Run the fault experiments at their full length and renew docs/fault-figures.md (ARGS=... goes to pytest)
	@BUCKETPOST_TEST_FAULTS=long $(BIN)/python -m pytest tests/faults $(ARGS)

check: $(STAMP)  ## Formatting, lint, types, import contracts, stale openapi.json
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/bucketpost openapi | diff -u openapi.json - || { echo "openapi.json is stale: run make openapi"; exit 1; }

format: $(STAMP)  ## Format the code and mend what ruff can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

openapi: $(STAMP)  ## Write openapi.json anew
	@$(BIN)/bucketpost openapi > openapi.json.new && mv openapi.json.new openapi.json

bench: $(STAMP)  ## Measure, and print ratios against a baseline taken in the same run
	@$(BIN)/python -m bench.end_to_end $(ARGS)

lock: $(STAMP)  ## Renew the locks: names, versions and hashes, no registry's address
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --upgrade \
	  --custom-compile-command "make lock" --no-annotate --output-file requirements/run.txt pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --upgrade \
	  --custom-compile-command "make lock" --no-annotate --extra demo --group dev \
	  --constraint requirements/run.txt --output-file requirements/dev.txt pyproject.toml
	@echo uv | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --upgrade \
	  --custom-compile-command "make lock" --no-annotate --output-file requirements/uv.txt -
