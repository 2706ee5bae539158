#!/bin/sh
# Makes the virtual environment VENV and installs the project into it, editable, with its test and lint tools.
# A machine without an NVIDIA driver gets the CPU build of torch where the package index serves one.
set -eu

"$PYTHON" -m venv "$VENV"
pip="$VENV/bin/python -m pip --disable-pip-version-check"

if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1; then
    $pip install -q "torch>=2.6"
else
    $pip install -q "torch==2.13.0+cpu" 2>/dev/null || $pip install -q -r constraints-cpu.txt
    export PIP_CONSTRAINT="$PWD/constraints-cpu.txt"
fi

$pip install -q "setuptools>=77" "pybind11>=2.12" "cmake>=3.24" ninja wheel
if ! command -v nvcc >/dev/null 2>&1 && [ ! -x /usr/local/cuda/bin/nvcc ] && [ "${AAPT_CUDA:-AUTO}" != OFF ]; then
    extras=test,lint,cuda-compiler,cuda-inspect
else
    extras=test,lint,cuda-inspect
fi
PATH="$PWD/$VENV/bin:$PATH" $pip install -q --no-build-isolation -e ".[$extras]"
