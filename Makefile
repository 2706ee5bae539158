# The only commands to remember. Each works on a fresh machine: it makes .venv, picks the build of torch that fits the
# machine, installs, runs.
#
#   make demo    install and run the main job: a minute of the shipped world, in demo.mp4
#   make test    install and test (tests marked gpu run where there is one)
#   make lint    ruff, mypy, clang-format
#   make play    serve the shipped world to the browser (WORLD=name or folder for another)
#   make bench   every benchmark, ours beside the alternatives; RECORD=name keeps it in bench/results/name.json
#   make report  docs/benchmarks.md from the records
#   make gpu-check [PART=build|tests|sanitizers|bench]
#                on a machine with a GPU and no package index: GPU tests, sanitizers, benchmarks -> bench/results/

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PART   ?= all
# Every C++ and CUDA source, for clang-format.
CXX_SOURCES = find csrc tests \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print

.PHONY: install build demo play test lint format bench report gpu-check clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints-cpu.txt tools/install.sh
	PYTHON="$(PYTHON)" VENV="$(VENV)" sh tools/install.sh
	touch $@

build: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python setup.py -q build_ext --inplace

demo: build
	$(BIN)/aapt-video generate doom --path-file examples/tour.txt --frames 1440 --seed 7 --out demo.mp4

play: build
	$(BIN)/aapt-video play $(WORLD)

test: build
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest tests $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(CXX_SOURCES) | xargs $(BIN)/clang-format --dry-run -Werror

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(CXX_SOURCES) | xargs $(BIN)/clang-format -i

bench: build
	$(BIN)/python -m pytest bench --benchmark-only $(if $(RECORD),--record $(RECORD)) $(PYTEST_ARGS)

report: build
	$(BIN)/aapt-video bench report

gpu-check:
	PYTHON="$(PYTHON)" sh tools/gpu_check.sh $(PART)

clean:
	rm -rf build $(VENV) aapt_ext/*.so
