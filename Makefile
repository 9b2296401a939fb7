# Everything a person types. Each target sets up what it needs in .venv; nothing else is touched.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help serve test test-fast test-torch check bench fmt docs starter lock clean

help:             ## List the targets
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+:\s+##' $(MAKEFILE_LIST) | sed 's/:[^#]*##/\t/' | expand -t 14

serve: $(VENV)/base.stamp      ## Serve a model on this machine: make serve ARGS='--port 8123'
	@$(BIN)/freehold serve $(ARGS)

test: $(VENV)/dev.stamp        ## All tests: unit, engines, real processes, a real browser
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m 'not alone' $(ARGS)
	@$(BIN)/python -m pytest -m alone $(ARGS) || [ $$? -eq 5 ]  # 5: none of them was asked for

test-fast: $(VENV)/dev.stamp   ## The unit tests alone
	@$(BIN)/python -m pytest tests/unit $(ARGS)

test-torch: $(VENV)/torch.stamp ## Conversion against transformers (installs torch, about 1 GB)
	@$(BIN)/python -m pytest tests/torch $(ARGS)

check: $(VENV)/dev.stamp       ## Format, lint, types, layers, size table
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python tools/sizes.py

bench: $(VENV)/dev.stamp       ## Reproduce the README's table: make bench ARGS=--quick
	@$(BIN)/python benchmarks/engines.py $(ARGS)

fmt: $(VENV)/dev.stamp         ## Format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

docs: $(VENV)/dev.stamp        ## Write docs/reference again from the code
	@$(BIN)/python tools/reference.py

starter: $(VENV)/torch.stamp   ## Train the starter again: make starter ARGS='--banking DIR --dialogues FILE --out DIR'
	@$(BIN)/python -m starter.train $(ARGS)

lock: $(VENV)/dev.stamp        ## Choose versions again and write constraints.txt
	@$(BIN)/python tools/lock.py

clean:            ## Remove what the targets made (not your models or state)
	rm -rf $(VENV) build dist out .pytest_cache .ruff_cache .mypy_cache .hypothesis

$(VENV)/pip.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Freehold needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/base.stamp: pyproject.toml constraints.txt | $(VENV)/pip.stamp
	@echo "Setting up $(VENV): installing Freehold and its engines (once, about a minute)"
	@$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/base.stamp
	@echo "Setting up $(VENV): installing the test and lint tools"
	@$(PIP) install --constraint constraints.txt --group dev
	@touch $@

$(VENV)/torch.stamp: $(VENV)/dev.stamp
	@echo "Setting up $(VENV): installing torch and transformers"
	@$(PIP) install --constraint constraints.txt --constraint constraints-torch.txt --editable '.[torch]'
	@touch $@
