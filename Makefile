# Settings pass by the environment or on the command line: `make up FRONT_PORT=9000 PROCESSORS=2`.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup up token test soak check lint types imports format openapi bench bench-scale lock clean

help: ## Print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

setup: ## Make .venv from requirements.lock; every other target does it by itself
	@command -v "$(PYTHON)" >/dev/null || { echo "Gristmill needs Python 3.11 or newer, and there is no $(PYTHON): install it, or name one with PYTHON=." >&2; exit 1; }
	@"$(PYTHON)" deploy/local/bootstrap.py

# `exec`, so that the runner's parent is make itself: when make is killed, the runner notices and stops.
up: setup ## Start everything, and send a sample picture through it (settings: README)
	@exec $(BIN)/python -m deploy.local up

token: setup ## Print a token for TENANT= and SUB= (also TTL= in seconds, CLAIMS= as JSON)
	@exec $(BIN)/python -m deploy.local token

# Each process has a mongod of its own; much of a test is waiting, so two are nearly twice as fast.
test: setup ## Run all tests, with a real mongod
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

soak: setup ## Kill and stop processes for MINUTES= by SEED=, and prove that nothing is lost
	@exec $(BIN)/python -m tests.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

check: lint types imports test ## All that has to pass: lint, types, import contracts, tests

lint: setup ## Check style and formatting
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup ## Check types
	@$(BIN)/mypy

imports: setup ## Check who may import whom
	@$(BIN)/lint-imports

format: setup ## Format the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

openapi: setup ## Write docs/openapi/front.json anew
	@$(BIN)/python -m deploy.openapi

bench: setup ## Measure against peers, into benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks

bench-scale: setup ## Measure claims with a million queued runs; takes minutes and 2 GB
	@$(BIN)/python -m benchmarks --only claims-scale

lock: ## Lock the dependencies anew, with hashes and without hosts (needs uv)
	@uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-header --no-emit-index-url -o requirements.lock

clean: ## Remove .venv, caches and demo-output; the data in .data stays
	@rm -rf .venv demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
