# The only commands to remember. Each works on a fresh machine: it makes .venv, picks the build of torch that fits the
# machine, installs, runs.
#
#   make test    install and test (CPU; the tests marked gpu run where there is one)
#   make lint    ruff, mypy, clang-format
#   make bench   every benchmark, ours beside the alternatives
#   make gpu-check   on a machine with a GPU and no package index: GPU tests, sanitizers, benchmarks -> bench/results/

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: install test lint format bench clean

install: $(STAMP)

$(STAMP): pyproject.toml setup.py tools/install.sh
	PYTHON="$(PYTHON)" VENV="$(VENV)" sh tools/install.sh
	touch $@

build: $(STAMP)
	$(BIN)/python setup.py -q build_ext --inplace

.PHONY: build

test: build
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | xargs $(BIN)/clang-format --dry-run -Werror

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | xargs $(BIN)/clang-format -i

bench: build
	$(BIN)/python -m pytest bench --benchmark-only $(PYTEST_ARGS)

clean:
	rm -rf build $(VENV) aapt_ext/*.so
