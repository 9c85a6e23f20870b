# Everything a newcomer needs: `make run` starts the service, `make test` tests it. Both set the project up first.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.set-up
# The tools of the documentation have an environment of their own, so that `make run` stays small.
DOCS := build/docs-tools

UP ?= postgresql
AUTH ?= on
PORT ?= $(or $(STAKELOG_PORT),8080)
CLEAN ?=
QUICK ?=

# Images for containers like to set it; then each of the hundreds of processes that the tests start compiles all modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help page setup run up down demo test coverage check static fast fuzz format bench bench-distributed schemas docs dist lock clean

help: ## show these lines
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 26

setup: $(SETUP) ## make a virtual environment in .venv from the lock file

$(SETUP): requirements.lock pyproject.toml
	@echo "Setting up $(VENV) from requirements.lock (half a minute the first time) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# --no-deps: the lock file is complete. A resolver would look for more packages, and an old one fails on newer ones.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock \
		2> $(VENV)/.pip-errors || { status=$$?; \
		if grep -qE 'NewConnectionError|NameResolutionError|ConnectTimeoutError|ProxyError|Network is unreachable' $(VENV)/.pip-errors; \
		then echo "make setup: the package index cannot be reached; connect to the network, or name a mirror in PIP_INDEX_URL" >&2; \
		else cat $(VENV)/.pip-errors >&2; fi; exit $$status; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: setup ## serve on http://127.0.0.1:8080 (PORT=…: another port), data in ./data
	@STAKELOG_AUTH=off STAKELOG_PORT=$(PORT) exec $(BIN)/stakelog serve

demo: setup ## play a day of betting over HTTP and verify it
	@STAKELOG_AUTH=off exec $(BIN)/stakelog demo

up: setup ## start the distributed set on this machine, with login (AUTH=off: without): Kafka, PostgreSQL (UP=mysql: MariaDB), Redis, three nodes, balancer
	@$(PYTHON) -m deploy.local up --database $(UP) --port $(PORT) --auth $(AUTH) --rules "$(STAKELOG_RULES)"

down: ## stop the set; its data stays in build/up, unless CLEAN=1
	@$(PYTHON) -m deploy.local down $(if $(CLEAN),--clean)

fuzz: setup ## send random and mutated bytes to a service with login, for SECONDS (300), and look for a 500
	@FUZZ_SECONDS=$(or $(SECONDS),300) $(BIN)/pytest -q -s --timeout 0 tests/system/test_byte_fuzz.py

check: setup ## check format, lint, security and types, and run the fast tests: under a minute
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target static fast

static: setup
	@$(BIN)/ruff format --check src schemas tests deploy examples
	@$(BIN)/ruff check src schemas tests deploy examples
	@$(BIN)/mypy

fast: setup
	@# Each worker imports all tests that it may run: two of them, without the system tests and what only these need.
	@$(BIN)/pytest -n 2 -m "not system" --ignore tests/system -p no:schemathesis -p no:faker -p no:anyio

test: setup static ## run everything: checks, and all tests on real processes and real servers
	@$(PYTHON) -m deploy.local install
	@# In the order of the folders: tests that wait for servers begin early, and short ones fill the end.
	@$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder --hypothesis-profile=deep

coverage: setup ## show which lines the fast tests reach; tests that start the program are not counted
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -m "not system"
	@$(BIN)/coverage report

format: setup ## let the formatter and the linter correct what they can
	@$(BIN)/ruff format src schemas tests deploy examples
	@$(BIN)/ruff check --fix src schemas tests deploy examples

bench: setup ## measure, as ratios within one run: a table, and a JSON file in build/bench
	@$(BIN)/stakelog bench

bench-distributed: setup ## measure three nodes on real servers, started for it (QUICK=1: rough figures, in two minutes)
	@$(PYTHON) -m deploy.local with kafka postgresql mariadb redis -- \
		$(BIN)/stakelog bench --distributed $(if $(QUICK),--quick)

schemas: setup ## write the schemas, the API's document, and the reference pages of docs from the code
	@$(BIN)/python -m schemas.generate

docs: $(DOCS)/.set-up ## build the documentation site in build/site; a warning is an error
	@$(DOCS)/bin/zensical build --strict --clean

$(DOCS)/.set-up: requirements-docs.lock
	@echo "Setting up $(DOCS) from requirements-docs.lock (some seconds the first time) …"
	@test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

dist: setup ## build a release in dist: wheels and source archives, and the image if docker, podman or buildah is here (IMAGE=no: without)
	@BASE="$(BASE)" IMAGE="$(IMAGE)" $(BIN)/python -m deploy.dist $(FOLDER)

page: ## build the operator's page from src/api/page/source (needs npm); FOLDER=…: somewhere else
	@mkdir -p build/page
	@cp src/api/page/source/package.json src/api/page/source/package-lock.json build/page/
	@npm ci --prefix build/page --ignore-scripts --no-audit --no-fund --loglevel=error
	@NODE_PATH=$(CURDIR)/build/page/node_modules node src/api/page/source/build.cjs $(or $(FOLDER),src/api/page/built)

lock: setup ## write the lock files with the newest versions that are allowed
	@$(BIN)/pip-compile --quiet --upgrade --extra dev --extra parquet --extra traces --generate-hashes --strip-extras --allow-unsafe \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header -o requirements.lock pyproject.toml
	@$(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header -o requirements-docs.lock requirements-docs.in

clean: ## remove all build output (never ./data)
	@rm -rf $(VENV) build dist .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
