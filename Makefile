# Jiazhu: every command a developer needs. `make` prints the menu.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A workspace that switches byte code off would make every worker compile its sources again.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONUNBUFFERED := 1
# Like pip, uv takes the machine's certificates; and in `setup` pip's index (a mirror), which it does not read by itself.
export UV_NATIVE_TLS ?= 1
# Ctrl-C in the first moments waits until the program can take it; Python would answer with a traceback.
QUIET_START := env --block-signal=INT --block-signal=TERM
# Test files that run at the same time: they wait more than they compute. Each job has servers of its own.
JOBS ?= 2
SOURCES := domain contracts activities workflows workers api station_gateway sandbox adapters db config bench docs tests

.DEFAULT_GOAL := help
.PHONY: help setup demo up test lint types arch bench chaos race features replay-record requirements clean

help: ## this menu
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: $(STAMP) ## virtual environment with the pinned, hashed requirements

$(STAMP): requirements/dev.txt requirements/bootstrap.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: '$(PYTHON)' was not found (set PYTHON=...)"; exit 1; }
	@test -x $(BIN)/python || { echo "· creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "· installing the requirements (a first run downloads about 120 MB)"
	@$(BIN)/python -c "import uv" 2>/dev/null \
	  || $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@index="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null)}}"; \
	  if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	  VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/uv pip sync -q --require-hashes --compile-bytecode requirements/dev.txt
	@$(BIN)/python -m compileall -q $(SOURCES)
	@touch $@
	@echo "· ready"

demo: setup ## a fill, end to end and live, on the embedded stack; ends by itself
	@exec $(QUIET_START) $(BIN)/python -m workers.story

up: setup ## start the embedded stack and keep it running (Ctrl-C stops it)
	@exec $(QUIET_START) $(BIN)/python -m workers.up

test: setup ## all tests but browser and slow ones; about 9 minutes on 2 cores (JOBS=1: one after the other)
	@echo "· the tests take about 9 minutes on 2 cores; a line of dots may stand still for a minute"
	@$(BIN)/python -m pytest -m "not browser and not slow" -n $(JOBS) --dist loadfile $(ARGS)

lint: setup ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup ## mypy, strict
	@$(BIN)/mypy $(SOURCES)

arch: setup ## the architecture tests: imports, lengths, registration, compose
	@$(BIN)/python -m pytest tests/architecture $(ARGS)

bench: setup ## measure fill-and-pay against its floors; writes build/bench.json
	@$(BIN)/python -m bench.run $(ARGS)

chaos: setup ## kill -9 everything at random over many fills, then compare the ledgers
	@$(BIN)/python -m bench.chaos $(ARGS)

race: setup ## the tests that take minutes: 1000 races of five screens, a dying worker at every single step
	@$(BIN)/python -m pytest tests/workflows -m slow -s $(ARGS)

features: setup ## the acceptance tests, printed by feature; about 9 minutes; writes build/features.json
	@echo "· the acceptance tests take about 9 minutes on 2 cores: slow ones are among them"
	@$(BIN)/python -m pytest -m "feature and not browser" --feature-report $(ARGS)

replay-record: setup ## record the histories that hold replay
	@$(BIN)/python -m tests.replay.record $(ARGS)

requirements: ## compile requirements/*.in again, with hashes
	@for name in bootstrap base dev; do $(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --python-version 3.11 \
	  requirements/$$name.in -o requirements/$$name.txt; done

clean: ## remove caches and build output (the data folder .data stays)
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
