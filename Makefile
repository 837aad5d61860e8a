# Shelfwise: `make` lists what can be done here.
.DEFAULT_GOAL := help
SHELL := /bin/bash

-include .env
export

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RIVALS := $(VENV)/.installed-bench
OWN_HOME := $(CURDIR)/.dagster_home
export DAGSTER_HOME ?= $(OWN_HOME)
export DO_NOT_TRACK := 1
PORT ?= 3000

.PHONY: help install home demo dev retrain rollback simulate pictures test check format bench clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Shelfwise needs Python 3.11 ($(PYTHON) was not found; set PYTHON=...)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages into $(VENV) (about 3 GB of disk, a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m resources.dbt
	@touch $@

install: $(INSTALLED) ## create .venv and install the pinned packages

# A DAGSTER_HOME that was there before keeps the settings it has; the checkout's own follows dagster.yaml.
home: $(INSTALLED)
	@mkdir -p "$(DAGSTER_HOME)"
	@if [ "$(DAGSTER_HOME)" = "$(OWN_HOME)" ] || [ ! -e "$(DAGSTER_HOME)/dagster.yaml" ]; then \
		cat dagster.yaml $(if $(SHELFWISE_LOGS_BUCKET),deploy/compute_logs.yaml) > "$(DAGSTER_HOME)/dagster.yaml"; fi

demo: home ## build the whole graph on the built-in catalog and match two vendor files
	@$(BIN)/python -m orchestration.demo

dev: home ## open the Dagster UI on http://localhost:3000 (PORT=...), with the daemon
	@$(BIN)/dagster dev --workspace workspace.yaml --port $(PORT)

retrain: home ## train from scratch now; the gate decides whether it is promoted
	@$(BIN)/python -m orchestration.retrain

rollback: home ## put the previous champion back, with its index and matches (REASON="..." MODEL=title_matcher)
	@$(BIN)/python -m orchestration.rollback --reason "$$REASON" --model "$${MODEL:-title_matcher}"

simulate: $(INSTALLED) ## run the loop over a simulated year (about fifteen minutes) and draw it
	@$(BIN)/python -m orchestration.simulate

pictures: home ## draw the pictures of the README from the latest runs
	@$(BIN)/python -m orchestration.pictures

test: home ## run the tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile

check: home ## lint, format, types, definitions, dbt
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/ty check
	@$(BIN)/dg check defs
	@$(BIN)/python -m resources.dbt
	@$(BIN)/sqlfluff lint dbt_project

format: $(INSTALLED) ## format the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

# The benchmark says which of them are missing and goes on.
$(RIVALS): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]' && touch $@ \
		|| echo "what Shelfwise is compared with could not all be installed"

bench: home $(RIVALS) ## measure quality and speed, and write benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks.run

clean: ## remove what the project made here (lake, runs, built-in catalog); keeps .venv
	@rm -rf lake .simulation data/synthetic "$(OWN_HOME)" dbt_project/target dbt_project/logs .pytest_cache .ruff_cache
