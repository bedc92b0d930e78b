# Two commands matter: `make run` (the main job, ends in a report) and `make test`.
# Both build .venv by themselves; nothing needs to be installed by hand but Python and a network.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/regraft
export REGRAFT_TEST_ASSETS ?= $(CACHE)/assets
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup run run-image survey test lint fetched assets environments reference bench fuzz clean

help:
	@echo "make run     choose, adapt, convert, verify, measure and judge a model; writes build/report.html, report.png, packages/"
	@echo "make run-image   the same for pictures; writes build/digits/report.html"
	@echo "make survey  fetch, inspect and scan ten real packages; writes build/survey.html"
	@echo "make test    lint, types, floors and all tests (once: 1.7 GB of real packages, and TensorFlow, 1.4 GB on disk)"
	@echo "make lint    ruff, mypy, import-linter"
	@echo "make bench   the benchmarks, side by side with their peers; see benchmarks/RESULTS.md"
	@echo "make fuzz    five minutes of hostile input for every parser; guided by coverage where atheris has a wheel"

setup: $(READY)

# torch goes first and pinned: asked for loosely it brings gigabytes of CUDA libraries.
$(READY): pyproject.toml constraints.txt tools/system_packages.sh
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Regraft needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	sh tools/system_packages.sh
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade -c constraints.txt pip
	$(BIN)/pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet -c constraints.txt --group test --editable '.[all]'
	@touch $@

# The picture is taken whatever the verdict: of a run that failed it is wanted most.
run: $(READY)
	@mkdir -p build
	status=0; $(BIN)/regraft run examples/01_run_sentiment/reuse.yaml --store $(CACHE)/store --into build || status=$$?; \
	  [ ! -e build/report.html ] || $(BIN)/python tools/screenshot.py build/report.html build/report.png; exit $$status

run-image: $(READY)
	@mkdir -p build
	$(BIN)/regraft run examples/02_run_image/reuse.yaml --store $(CACHE)/store --into build/digits

survey: $(READY)
	@mkdir -p build
	$(BIN)/python examples/00_survey_packages/survey.py --store $(CACHE)/store -o build/survey.html

assets: $(READY)
	$(BIN)/python tools/fetch_assets.py --store $(CACHE)/store $(REGRAFT_TEST_ASSETS)

environments: $(READY)
	$(BIN)/python tools/make_environments.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Types are checked while packages come in: one waits for the processor, the other for the network.
test: $(READY)
	$(MAKE) --jobs=2 --output-sync=target lint fetched
	$(BIN)/python -m pytest -n 2

fetched: assets environments

reference: $(READY)
	$(BIN)/python tools/make_reference.py

bench: $(READY)
	$(BIN)/python benchmarks/run.py

fuzz: $(READY)
	$(BIN)/python tools/fuzz.py --seconds 300

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
