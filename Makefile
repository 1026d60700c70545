# `make demo` and `make test` do all set-up on a fresh machine.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow lint types unit unit-plain unit-ray unit-training clean

demo: $(STAMP)
	$(BIN)/raycp demo

test: lint types unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# Tests with a Ray cluster mostly wait for its processes: two lots of them and the others run side by side.
unit: $(STAMP)
	$(MAKE) --no-print-directory --output-sync=target --jobs=3 unit-plain unit-ray unit-training

unit-plain: $(STAMP)
	$(BIN)/python -m pytest -m "not ray and not slow"

TRAINING := $(wildcard tests/distributed/test_ray_train*.py) tests/distributed/test_ray_finetune.py tests/bench

unit-ray: $(STAMP)
	$(BIN)/python -m pytest -m "ray and not slow" -p no:cacheprovider $(TRAINING:%=--ignore=%)

unit-training: $(STAMP)
	$(BIN)/python -m pytest -m "ray and not slow" -p no:cacheprovider $(TRAINING)

# What takes half an hour more: benchmarks, autoscaling, object stores, runs under fire.
test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow -p no:cacheprovider

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
