# Everything here makes its own environment in .venv; only Python >= 3.11 with pip is needed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint clean

# Assemble a small kernel from source, boot it three ways, say whether the ways agree.
demo: $(VENV)/installed
	$(BIN)/vtx compare guests/kernel/kernel.s

test: $(VENV)/installed
	$(BIN)/pytest -q -n auto -m "not campaign"

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
