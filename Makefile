# Every target makes or completes .venv by itself: see tools/setup_env.py.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test setup lint clean clean-venv

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo:  ## a synthetic drive through the live node: trajectory, map and report in out/demo
	@$(PYTHON) tools/setup_env.py demo
	@$(BIN)/longrecon demo $(ARGS)

test:  ## run the test suite; make test ARGS='-k node' for a part of it
	@$(PYTHON) tools/setup_env.py test
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

setup:  ## install everything for development, torch included
	@$(PYTHON) tools/setup_env.py dev
	@echo 'Ready: source $(BIN)/activate'

lint:  ## style and static checks
	@$(PYTHON) tools/setup_env.py test
	@$(BIN)/ruff check .

clean:  ## remove what builds, tests and runs leave (not .venv)
	rm -rf build install log out .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

clean-venv:  ## remove .venv
	rm -rf .venv .venv.lock
