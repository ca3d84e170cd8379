# Everything installs into .venv; nothing else on the machine is touched.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
PYTEST_ARGS ?=
TORTURE_ARGS ?=

# Where Python may keep no bytecode, each of the thousands of processes of a test run compiles all sources anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test test-fast torture check docs results
.DEFAULT_GOAL := help

help:
	@echo 'make demo       a whole study in small: two teachers, a control, two students, a report (CPU, minutes)'
	@echo 'make test-fast  the tests that start no process and train nothing, one case of each law: a minute or two'
	@echo 'make test       all tests; make test PYTEST_ARGS="-k windows -x" for a part of them'
	@echo 'make torture    every fault of docs/reliability.md, done to the real program (root, half an hour on two cores)'
	@echo 'make check      ruff and mypy'
	@echo 'make docs       docs/configuration.md, from the schema, and the documentation as a site'
	@echo 'make results    tables and figures of results/ and README.md, from results/study/*.json'
	@echo 'make setup      what the others call first: .venv with the versions of requirements.txt'

setup: .venv/.installed
	@:

.venv/.installed: requirements.txt pyproject.toml | .venv/bin/pip
	@echo 'Installing requirements.txt into .venv (once; PyTorch is large)'
	@.venv/bin/python -m pip install --quiet -r requirements.txt
	@.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch .venv/.installed

.venv/bin/pip:
	@[ -n '$(PYTHON)' ] || { echo 'error: Python 3.11 or newer is needed, and none was found; name one: make setup PYTHON=/path/to/python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'error: Python 3.11 or newer is needed, $(PYTHON) is not' >&2; exit 1; }
	@$(PYTHON) -m venv .venv

demo: setup
	@bash scripts/demo.sh

test: setup
	@.venv/bin/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-fast: setup
	@.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --fast $(PYTEST_ARGS)

torture: setup
	@.venv/bin/python tests/torture/run.py --write $(TORTURE_ARGS)

check: setup
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m mypy

docs: setup
	@.venv/bin/python docs/configuration.py
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --quiet
	@echo 'Built: python3 -m http.server -d site, and then http://localhost:8000 (the search needs a server, no network)'

results: setup
	@.venv/bin/python results/make.py
