# Partita's two commands are `make demo` and `make test`; `make` alone lists the rest.
#
# Needs bash, make and Python 3.11 or later, nothing else. Set-up goes into .venv, the stack's downloads into the
# user's cache; both are made once. A stamp is written only when its step is complete, so an interrupted step is
# done again. What set-up says goes to stderr: stdout is the program's. ARGS reaches the program behind a target: make demo ARGS="--keep", make test ARGS="-k money".

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --silent

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
PROJECT := pyproject.toml constraints.txt
ARGS ?=
WORKERS ?= 2
SEEDS ?= 20000

# The requirements of every extra and of the development group, which older pips cannot read by themselves.
define REQUIREMENTS
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))
groups = [*project["project"]["optional-dependencies"].values(), project["dependency-groups"]["dev"]]
print("\n".join(sorted({name for group in groups for name in group if not name.startswith("partita[")})))
endef

# A package whose installation was interrupted looks complete to pip, which notes itself as the installer at the end.
define FORGET_HALF_INSTALLED
import pathlib, shutil, sysconfig
for found in pathlib.Path(sysconfig.get_path("purelib")).glob("*.dist-info"):
    if not (found / "INSTALLER").exists():
        shutil.rmtree(found)
endef
export REQUIREMENTS FORGET_HALF_INSTALLED

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: setup
setup: $(VENV)/.stack ## Install everything into .venv and fetch the local stack (a few minutes once, then nothing).
	@$(MAKE) -j2 $(VENV)/.all $(VENV)/.fetched

.PHONY: demo
demo: $(VENV)/.stack ## Set up, start the local stack and run the main job on it, with its checks.
	@$(MAKE) -j2 $(VENV)/.all $(VENV)/.fetched-core
	@$(BIN)/partita demo $(ARGS)

.PHONY: test
test: export PYTHONDONTWRITEBYTECODE :=# empty: a service that is started hundreds of times is compiled once
test: setup lint ## Set up, check style, types and layers, and run every test, the fast ones first, in WORKERS=2 processes.
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 40 $(ARGS)

.PHONY: chaos
chaos: setup ## Run the long tests that kill handlers and the broker in mid-stream (20 minutes).
	@$(BIN)/python -m pytest -s -m chaos $(ARGS)

.PHONY: simulate
simulate: $(VENV)/.all ## Run the simulation of handlers that fail in every way, SEEDS=20000 or 2001..20000.
	@$(BIN)/python -m tests.simulation $(SEEDS)

.PHONY: lint
lint: $(VENV)/.all ## Check style, types and who imports whom.
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: bench
bench: setup ## Run the benchmarks and print their JSON.
	@$(BIN)/python -m bench $(ARGS)

.PHONY: constraints
constraints: ## Choose the newest versions of everything anew and write them to constraints.txt.
	@$(call make-venv,build/constraints)
	@python=build/constraints/bin/python; \
	$$python -c "$$REQUIREMENTS" > build/requirements.txt; \
	$$python -m pip --disable-pip-version-check install hatchling editables -e . -r build/requirements.txt; \
	{ echo '# Every version that is installed, tried together. Made by `make constraints`; carries no download address.'; \
	  $$python -m pip freeze --exclude-editable | sort -f; } > build/constraints.txt; \
	if grep --quiet ' @ ' build/constraints.txt; then echo 'a version came from an address' >&2; exit 1; fi; \
	mv build/constraints.txt constraints.txt; rm -rf build/constraints

.PHONY: clean
clean: ## End the local stack and remove what set-up and tools made here. Downloads and the stack's data stay.
	@if [ -x $(BIN)/partita ]; then $(BIN)/partita stack down || true; fi
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Make a virtual environment with the first Python that is new enough.
make-venv = \
	for python in python3.11 python3.12 python3.13 python3; do \
	  command -v $$python >/dev/null && $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' && break; \
	  python=; \
	done; \
	if [ -z "$$python" ]; then echo 'Partita needs Python 3.11 or later: install it and try again.' >&2; exit 1; fi; \
	if ! $$python -c 'import venv, ensurepip' 2>/dev/null; then \
	  echo "$$python has no venv module: install it (python3-venv on Debian and Ubuntu) and try again." >&2; exit 1; \
	fi; \
	$$python -m venv --clear $(1)

# First the build tools of the project and what the stack needs, so that it can be fetched while the rest is installed.
$(VENV)/.stack: $(PROJECT)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { $(call make-venv,$(VENV)); }
	@$(BIN)/python -c "$$FORGET_HALF_INSTALLED"
	$(PIP) install -c constraints.txt hatchling editables >&2
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[stack]' >&2
	@touch $@

$(VENV)/.all: $(VENV)/.stack
	@$(BIN)/python -c "$$REQUIREMENTS" > $(VENV)/requirements.txt
	@$(BIN)/python -c "$$FORGET_HALF_INSTALLED"
	$(PIP) install -c constraints.txt -r $(VENV)/requirements.txt >&2
	@touch $@

$(VENV)/.fetched-core: $(VENV)/.stack
	@$(BIN)/partita stack fetch --parts kafka,registry,postgres
	@touch $@

$(VENV)/.fetched: $(VENV)/.stack
	@$(BIN)/partita stack fetch
	@touch $@ $(VENV)/.fetched-core
