# `make help` lists the targets. Each does the set-up it needs: a file in $(VENV) marks each step that is done, and a
# changed requirements file undoes the mark.

VENV ?= .venv
# The interpreter the environment is made with; empty: the first on the PATH that is 3.11 or newer.
PYTHON ?=
BIN := $(VENV)/bin
# The whole suite, in two processes; not more, whatever the machine has, because all tests see one /dev/shm.
TWO_AT_ONCE := --numprocesses 2 --dist worksteal
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run test test-all check format bench tour docs coverage lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

setup: $(VENV)/.dev ## the developers' environment, in .venv

run: $(VENV)/.run ## the main job: `forkful map` over the standard library; writes census.jsonl
	rm -f census.jsonl census.jsonl.*
	mkdir -p build
	$(BIN)/python examples/census.py --list > build/census.inputs
	$(BIN)/forkful map examples/census.py:census build/census.inputs -o census.jsonl
	$(BIN)/python examples/census.py --report census.jsonl

test: $(VENV)/.dev ## the test suite; make test ARGS="-k name" passes arguments on
	$(BIN)/python -m pytest $(or $(ARGS),$(TWO_AT_ONCE))

test-all: ## the test suite on each of Python 3.11, 3.12 and 3.13 that this machine has
	scripts/test-all

check: $(VENV)/.dev ## format, lint, types, layers
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev ## rewrite the code as `make check` wants it, as far as a program can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/.bench ## measure against the other pools; writes docs/benchmarks.md
	$(BIN)/python -m bench --write docs/benchmarks.md

tour: run ## each system in turn; for now there is one, `forkful map`
	$(BIN)/forkful --help

docs: $(VENV)/.run ## rewrite the generated pages of docs/
	VENV=$(VENV) scripts/docs

coverage: $(VENV)/.dev ## the test suite, with the lines and branches that it did not reach
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lock: ## take the newest versions into requirements/*.txt
	PYTHON=$(PYTHON) scripts/lock

clean: ## remove what make and the tools wrote, but for .venv
	rm -rf build dist census.jsonl census.jsonl.* .coverage .coverage.* \
		.hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find bench examples src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# --- set-up -----------------------------------------------------------------------------------------------------------

$(VENV)/.made: scripts/make-venv
	scripts/make-venv $(VENV) $(PYTHON)
	touch $@

# The package itself is installed in place, and built with what the requirements file brings: nothing else is fetched.
INSTALL_FORKFUL = $(PIP) install --quiet --no-deps --no-build-isolation --editable .

$(VENV)/.run: $(VENV)/.made requirements/run.txt pyproject.toml
	$(PIP) install --quiet --require-hashes --requirement requirements/run.txt
	$(INSTALL_FORKFUL)
	touch $@

$(VENV)/.dev: $(VENV)/.made requirements/dev.txt pyproject.toml
	$(PIP) install --quiet --require-hashes --requirement requirements/dev.txt
	$(INSTALL_FORKFUL)
	touch $@ $(VENV)/.run # dev.txt holds all of run.txt, at the same versions

$(VENV)/.bench: $(VENV)/.dev requirements/bench.txt
	$(PIP) install --quiet --require-hashes --requirement requirements/bench.txt
	touch $@
