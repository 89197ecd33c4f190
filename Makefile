# What a developer runs and what CI runs. Every target sets the environment up by itself.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first interpreter that is new enough; `make PYTHON=/path/to/python` decides by hand.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
EXTRAS := .extras
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --durations=10

# What `make quickstart` reads and where it writes.
DATA ?= synthetic
OUT ?= runs/quickstart

.PHONY: help setup quickstart lint test-unit test test-chaos test-cases test-extras test-readme bench docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: $(READY) ## make the virtual environment .venv

$(READY): pyproject.toml constraints.txt
	@"$(PYTHON)" -c '$(NEW_ENOUGH)' 2>/dev/null || { echo "Python >= 3.11 is needed, none was found on the PATH: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "setting up .venv with $$("$(PYTHON)" --version) (some minutes the first time)" >&2
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench,boosting,dev,report]'
	@touch $@

quickstart: $(READY) ## the whole path once, on this machine: DATA=synthetic|ml-1m|DIR OUT=runs/quickstart
	@$(BIN)/metarec quickstart --data '$(DATA)' --out '$(OUT)'

lint: $(READY) ## ruff, pyright, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

test-unit: $(READY) ## seconds, without Ray
	$(PYTEST) -n 2 --dist worksteal tests/unit

test: test-unit ## unit and integration tests, and the quick commands of the README
	$(PYTEST) -m 'not slow and not chaos and not gpu' --ignore tests/unit tests

test-chaos: $(READY) ## tests that kill and stop processes, on two machines too (network namespaces, which need root)
	$(PYTEST) -m chaos --timeout 600 -rs --durations=0 tests

test-cases: $(READY) ## ten thousand random logs, written and read back, as many adversarial catalogues and damaged checkpoints
	METAREC_CASES=10000 $(PYTEST) tests/unit/data/log/test_round_trip.py tests/unit/inference/test_exactness.py tests/unit/test_checkpoint_damage.py tests/unit/data/store/test_writing.py

test-extras: $(READY) $(EXTRAS)/.ready ## tests of Delta, Iceberg, S3, optuna and MLflow, with packages of their own in .extras
	PYTHONPATH='$(CURDIR)/$(EXTRAS)' $(PYTEST) tests/integration/test_table_formats.py tests/integration/test_object_stores.py tests/integration/test_remote_runs.py tests/integration/test_optuna.py tests/integration/test_mlflow.py tests/unit/engine/tune/test_parzen.py

# Apart from .venv and without dependencies: what .venv has stays as constraints.txt pins it.
$(EXTRAS)/.ready: constraints-extras.txt $(READY)
	@rm -rf $(EXTRAS)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(EXTRAS) -r constraints-extras.txt
	@touch $@

test-readme: $(READY) ## every command of the README, the long ones too
	$(BIN)/python tests/readme/commands.py --all

bench: $(READY) ## every script of benchmarks/, each writes its own result file
	@set -e; for script in benchmarks/bench_*.py; do echo "$$script"; OMP_NUM_THREADS=1 $(BIN)/python "$$script"; done

docs: $(READY) ## run the examples in docstrings, check the links of every page
	$(PYTEST) --doctest-modules --ignore metarec_ray/__main__.py metarec_ray
	$(BIN)/python tests/readme/links.py

clean: ## remove the environments and every cache, no run
	rm -rf .venv .extras .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
