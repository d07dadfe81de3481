# Every target installs what it needs into .venv, once.
#   make demo      fine-tune a sentiment classifier, measure it, and write a report: runs/demo/report.html
#   make test      every test but the slow ones          make test-all   those too
#   make lint      style, errors and types               make bench      measure speed and memory
#   make docs      build the documentation into site/    make clean      remove what the others made

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# The names in a dependency group of pyproject.toml: older versions of pip cannot read it themselves.
GROUP = $$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["$(1)"])')
# Idle threads spin shortly, then sleep: next to other programs on few cores, long spinning is several times slower.
export GOMP_SPINCOUNT ?= 30000
DEFINITION := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint bench docs

help:
	@sed -n 's/^#   //p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: need Python 3.11 or newer; got $$($(PYTHON) --version 2>&1); run make with PYTHON=python3.11."; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(DEFINITION) | $(BIN)/python
	@echo "Installing Regard with PyTorch and the demo's model into $(VENV) (a few minutes, once)."
	$(INSTALL) -e '.[demo]'
	@touch $@

$(VENV)/.test: $(DEFINITION) | $(BIN)/python
	@echo "Installing Regard with all frameworks and the test tools into $(VENV) (a few minutes, once)."
	$(INSTALL) -e '.[all,demo]' $(call GROUP,test)
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(INSTALL) $(call GROUP,lint)
	@touch $@

$(VENV)/.docs: $(VENV)/.test
	$(INSTALL) $(call GROUP,docs)
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/python examples/sentiment/get_data.py
	$(BIN)/regard finetune examples/sentiment/demo.yaml --overwrite

test: $(VENV)/.test
	$(BIN)/python -m pytest -m "not slow"

test-all: $(VENV)/.test
	$(BIN)/python -m pytest

lint: $(VENV)/.lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.test
	$(BIN)/python benchmarks/run.py $(EXTENT)

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict
