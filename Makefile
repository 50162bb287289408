# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

# Threads that wait must not spin: on busy machines that costs factors, not percents.
export OMP_WAIT_POLICY := PASSIVE
export OPENBLAS_NUM_THREADS := 1
# A make started by a program of another environment must not use that one's ROS libraries.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

# More arguments, for example: make test ARGS='-k relocalize'
ARGS ?=
# Processes that share the tests, each a file at a time.
WORKERS ?= 2
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help venv demo test nightly reliability lint bench clean

help:  ## List the targets.
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

venv:  ## Set up .venv: this package, ROS 2 and all else it needs (PYTHON=... chooses a Python).
	@sh tools/set_up.sh

demo: venv  ## Render a world, replay it through the live node, write demo/report.html.
	@$(BIN)/geo_perception demo --output demo $(ARGS)

test: venv  ## Run the whole test suite.
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile test $(ARGS)

nightly: venv  ## Feed more than 10,000 damaged files and messages to everything that reads them.
	@$(BIN)/python -m pytest -n $(WORKERS) -q -m hostile --hypothesis-profile=nightly test $(ARGS)

reliability: venv  ## Let all nodes have a bad day and write docs/reliability.md.
	@$(BIN)/python -m pytest -q --reliability test/test_field_*.py $(ARGS)

lint: venv  ## Check style and types.
	@$(BIN)/python -m ruff check
	@$(BIN)/python -m mypy
	@$(BIN)/python -m pytest -q -m linter test

bench: venv  ## Run every benchmark that needs no recordings and print its table.
	@set -e; for script in $$(grep -L required=True $$(grep -l __main__ benchmarks/*.py)); do \
	    echo "$$script"; $(BIN)/python $$script $(ARGS) \
	        --json benchmarks/results/$$(basename $$script .py).json; done

clean:  ## Remove everything the other targets made.
	rm -rf .venv demo build install log geo_perception.egg-info
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
