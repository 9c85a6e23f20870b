# Everything a newcomer needs: `make run` serves, `make test` proves. Both set the project up first.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.set-up

UP ?= postgresql
PORT ?= $(or $(STAKELOG_PORT),8080)
CLEAN ?=
QUICK ?=

# Images for containers like to set it; then each of the hundreds of processes that the tests start compiles anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup run up down demo test coverage check format bench bench-distributed schemas lock clean

help: ## these lines
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 26

setup: $(SETUP) ## a virtual environment in .venv, from the lock file

$(SETUP): requirements.lock pyproject.toml
	@echo "Setting up $(VENV) from requirements.lock (half a minute the first time) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# --no-deps: the lock file is complete. A resolver would look further, and an old one trips over whatever is newer.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock \
		2> $(VENV)/.pip-errors || { status=$$?; \
		if grep -qE 'NewConnectionError|NameResolutionError|ConnectTimeoutError|ProxyError|Network is unreachable' $(VENV)/.pip-errors; \
		then echo "make setup: the package index cannot be reached; connect to the network, or name a mirror in PIP_INDEX_URL" >&2; \
		else cat $(VENV)/.pip-errors >&2; fi; exit $$status; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: setup ## serve on http://127.0.0.1:8080 (PORT=…: another port), data in ./data
	@STAKELOG_AUTH=off STAKELOG_PORT=$(PORT) exec $(BIN)/stakelog serve

demo: setup ## a day of betting over HTTP, verified at the end
	@STAKELOG_AUTH=off exec $(BIN)/stakelog demo

up: setup ## the distributed set on this machine: Kafka, PostgreSQL (UP=mysql: MariaDB), Redis, three nodes, balancer
	@$(PYTHON) -m deploy.local up --database $(UP) --port $(PORT)

down: ## stop it; its data stays in build/up, unless CLEAN=1
	@$(PYTHON) -m deploy.local down $(if $(CLEAN),--clean)

check: setup ## format, lint, types and the fast tests: under a minute
	@$(BIN)/ruff format --check src schemas tests deploy
	@$(BIN)/ruff check src schemas tests deploy
	@$(BIN)/mypy
	@$(BIN)/pytest -n 4 -m "not system"

test: setup ## everything: checks, all tests on real processes and real servers
	@$(BIN)/ruff format --check src schemas tests deploy
	@$(BIN)/ruff check src schemas tests deploy
	@$(BIN)/mypy
	@$(PYTHON) -m deploy.local install
	@# In the order of the folders: those that wait for servers begin early, and the short ones fill up the end.
	@$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder --hypothesis-profile=deep

coverage: setup ## which lines the fast tests reach; those that start the program are not counted
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -m "not system"
	@$(BIN)/coverage report

format: setup ## let the formatter and the linter mend what they can
	@$(BIN)/ruff format src schemas tests deploy
	@$(BIN)/ruff check --fix src schemas tests deploy

bench: setup ## measure, as ratios within one run: a table, and a JSON file in build/bench
	@$(BIN)/stakelog bench

bench-distributed: setup ## the same of three nodes on real servers, started for it (QUICK=1: a rough one, in two minutes)
	@$(PYTHON) -m deploy.local with kafka postgresql mariadb redis -- \
		$(BIN)/stakelog bench --distributed $(if $(QUICK),--quick)

schemas: setup ## write the schemas, the API's document and docs/commands.md from the code
	@$(BIN)/python -m schemas.generate

lock: setup ## take the newest versions that pyproject.toml allows
	@$(BIN)/pip-compile --quiet --upgrade --extra dev --extra parquet --generate-hashes --strip-extras --allow-unsafe \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header -o requirements.lock pyproject.toml

clean: ## remove what the build made (never ./data)
	@rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
