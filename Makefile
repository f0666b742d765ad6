# Settings pass by the environment or on the command line: `make up FRONT_PORT=9000 PROCESSORS=2`.
PYTHON ?= python3
BIN := .venv/bin
VERSION ?= 0.2.0
REGISTRY ?= gristmill
IMAGES := front tracker blob job processor

.DEFAULT_GOAL := help
.PHONY: help setup up token smoke backup restore test test-long faults soak check lint lint-openapi types imports licences manifests sbom audit secrets images push format openapi bench bench-scale lock clean

help: ## Print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

setup: ## Make .venv from requirements.lock; every other target does it by itself
	@command -v "$(PYTHON)" >/dev/null || { echo "Gristmill needs Python 3.11 or newer, and there is no $(PYTHON): install it, or name one with PYTHON=." >&2; exit 1; }
	@"$(PYTHON)" deploy/local/bootstrap.py

# `exec`, so that the runner's parent is make itself: when make is killed, the runner notices and stops.
up: setup ## Start everything, and send a sample picture through it (settings: README)
	@exec $(BIN)/python -m deploy.local up

smoke: setup ## Try the main journey against the Gristmill at URL= with TOKEN= (also OTHER_TOKEN=), wherever it is
	@$(BIN)/python -m deploy.smoke

token: setup ## Print a token for TENANT= and SUB= (also TTL= in seconds, CLAIMS= as JSON)
	@exec $(BIN)/python -m deploy.local token

backup: setup ## Copy the data of `make up`, running or not, to the new folder TO=
	@exec $(BIN)/python -m deploy.local backup "$(or $(TO),$(error Name a new folder: make backup TO=folder))"

restore: setup ## Put the backup FROM= where GRISTMILL_DATA= says, which has to be empty
	@exec $(BIN)/python -m deploy.local restore "$(or $(FROM),$(error Name the backup: make restore FROM=folder))"

# Much of a test is waiting, so there are more workers than cores. What takes longest begins first. tests/conftest.py has
# which tests go to one worker.
PYTEST := $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

test: setup ## Run the tests, with a real mongod and S3 store: each promise, in minutes
	@$(PYTEST)

test-long: setup ## Run the tests that take long, and prove rarely more: each fault, each store, more examples
	@$(PYTEST) -m long

faults: setup ## Make every fault of tests/faults/README.md happen, also those that take minutes
	@$(BIN)/python -m pytest tests/faults -m "" -n 2 --dist loadfile

soak: setup ## Kill, stop and cut off processes for MINUTES= by SEED=, and prove that nothing is lost
	@exec $(BIN)/python -m tests.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

check: lint lint-openapi types imports licences manifests test test-long ## All that has to pass: lint, types, import contracts, licences, manifests, tests

lint: setup ## Check style and formatting
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

lint-openapi: setup ## Check the committed OpenAPI page with Spectral (needs Node.js)
	@$(BIN)/python -m deploy.checks.openapi

types: setup ## Check types
	@$(BIN)/mypy

imports: setup ## Check who may import whom
	@$(BIN)/lint-imports

licences: setup ## Check that the licence of each package is an allowed one
	@$(BIN)/python -m deploy.supply.licences

sbom: setup ## List what is in the images, as CycloneDX, into build/
	@$(BIN)/python -m deploy.supply.sbom

audit: setup ## Ask what is publicly known against the packages; 3 when nobody could be asked
	@"$(PYTHON)" deploy/local/bootstrap.py tools
	@$(BIN)/python -m deploy.supply.audit

# The tools pin what we need other versions of, so they have a virtual environment of their own.
manifests: setup ## Check Dockerfile, docker-compose.yml and every combination of deploy/k8s
	@"$(PYTHON)" deploy/local/bootstrap.py tools
	@$(BIN)/python -m deploy.checks

secrets: setup ## Make the keys and passwords of a Gristmill in containers: .env and .data/deploy
	@$(BIN)/python -m deploy.credentials

images: ## Build the images of all processes with Docker, as VERSION= (else 0.2.0) below REGISTRY= (else gristmill)
	@for target in $(IMAGES); do \
		docker build -f deploy/docker/Dockerfile --target $$target -t $(REGISTRY)/$$target:$(VERSION) \
			--build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) \
			--build-arg CREATED=$$(date -u +%Y-%m-%dT%H:%M:%SZ) . || exit 1; \
	done

push: ## Push the images of `make images`, and print the name of each with its digest, for deployments
	@for target in $(IMAGES); do \
		docker push -q $(REGISTRY)/$$target:$(VERSION) >/dev/null || exit 1; \
		docker inspect --format '{{index .RepoDigests 0}}' $(REGISTRY)/$$target:$(VERSION) || exit 1; \
	done

format: setup ## Format the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

openapi: setup ## Write docs/openapi/front.json anew
	@$(BIN)/python -m deploy.openapi

bench: setup ## Measure against peers, into benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks

bench-scale: setup ## Measure claims with a million queued runs; takes minutes and 2 GB
	@$(BIN)/python -m benchmarks --only claims-scale

LOCK := uv pip compile --universal --generate-hashes --no-header --no-emit-index-url --no-emit-package gristmill -q
lock: ## Lock the dependencies anew, with hashes and without hosts (needs uv)
	@$(LOCK) pyproject.toml --extra dev -o requirements.lock >/dev/null
	@$(LOCK) pyproject.toml -c requirements.lock --no-annotate -o deploy/docker/services.lock >/dev/null
	@$(LOCK) pyproject.toml -c requirements.lock --no-annotate --extra processor -o deploy/docker/processor.lock >/dev/null
	@$(LOCK) deploy/docker/build.in -c requirements.lock --no-annotate -o deploy/docker/build.lock >/dev/null
	@$(LOCK) deploy/checks/tools.in --no-annotate -o deploy/checks/tools.lock >/dev/null

clean: ## Remove .venv, caches and demo-output; the data in .data stays
	@rm -rf .venv .venv-tools .npm-tools .setup.lock build demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
