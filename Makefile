# `make demo` and `make test` work on a machine that has only make and Python 3.11, 3.12 or 3.13.
SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c "$(SUPPORTED)" 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: demo test lint ui bundle clean env up down backup restore user
.DEFAULT_GOAL := demo

demo: .venv/run  ## train four models on handwritten digits, offline, and show their results
	$(BIN)/python -m cifar_exp -m model=large,bn optimizer=sgd,adam data=digits training.epochs=5 training.batch_size=16

test: .venv/dev  ## run the tests, four at once; those on CIFAR-10 need its folder in CIFAR_EXP_DATA
	$(BIN)/python -m pytest -n 4 --no-loadscope-reorder

lint: .venv/dev  ## check style, types and which package imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

ui: .venv/run  ## show what was logged, on http://127.0.0.1:5000
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db

bundle: .venv/run  ## pack build/bundle for a machine without a package index: HAS=FILE, its pip freeze; FOR=3.12, its Python
	$(BIN)/python offline/bundle.py $(if $(HAS),--has $(HAS)) $(if $(FOR),--python $(FOR))

env:  ## write .env, the settings and secrets of the team's server
	@docker/env

up:  ## start the team's server and wait until it answers; needs Docker with Compose
	@docker/up

down:  ## stop the server; its data is kept
	@docker/compose down

backup:  ## back up its database and artifacts to a file in backups/, or FILE=..., while it runs
	@docker/backup $(FILE)

restore:  ## restore a backup to an empty server: FILE=...
	@docker/restore $(FILE)

DO ?= add
user:  ## add a team member: NAME=...; DO=reset, remove, approver (may promote models), member (no more)
	@docker/user $(DO) $(NAME)

clean:  ## remove the virtual environment; runs and results stay
	rm -rf .venv

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.13 with venv found; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/run: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/dev: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch .venv/run $@  # includes everything that a run needs
