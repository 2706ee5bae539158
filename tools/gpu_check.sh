#!/bin/sh
# On a machine with a GPU and no package index: builds in place with the Python that holds torch, then runs one part.
#
#   tools/gpu_check.sh [all|build|tests|sanitizers|bench]
#
# Each part stays well under ten minutes. Records go to bench/results/.
set -eu
cd "$(dirname "$0")/.."

part=${1:-all}
python=${PYTHON:-python3}
export PYTHONPATH="$PWD:$PWD/python"
export AAPT_CUDA=ON

"$python" -c 'import torch; assert torch.cuda.is_available()' || {
    echo "gpu-check: torch sees no GPU; run this on a machine with an NVIDIA GPU and a CUDA build of torch" >&2
    exit 1
}

"$python" setup.py -q build_ext --inplace
"$python" -c 'from aapt_video import doctor; doctor.run(doctor.Doctor())'

tests() { "$python" -m pytest tests -m gpu -q; }

sanitizers() { "$python" -m pytest tests/gpu -m sanitizer -q; }

bench() {
    "$python" -m pytest bench -m gpu --benchmark-only -q --record "gpu-$(date -u +%Y%m%d-%H%M%S)"
}

case "$part" in
    build) ;;
    tests | sanitizers | bench) "$part" ;;
    all) tests && sanitizers && bench ;;
    *) echo "gpu-check: part is '$part'; it must be all, build, tests, sanitizers or bench" >&2; exit 2 ;;
esac
