#!/usr/bin/env bash
# Builds the wheel, installs it in a new environment and runs the tests: `backends/python/test.sh`.
# Tests of PyTorch run if `PYTHON` names an interpreter that has it among its own packages, not in a virtual environment.
# Otherwise they are skipped.
set -euo pipefail
cd "$(dirname "$0")"
target=$(realpath ..)/target/python
rm -rf "$target"
mkdir -p "$target"
"${PYTHON:-python3}" -m venv --system-site-packages "$target/venv"
python=$target/venv/bin/python

# The lock file decides the versions of the crates (`locked` in pyproject.toml). The crates are compiled in
# backends/target, with what other steps have compiled there.
"$python" -m pip wheel -q . --no-deps -w "$target/wheels"
# Wheels only: nothing is compiled here but ours.
"$python" -m pip install -q --only-binary :all: numpy scipy opencv-python-headless onnx pytest hypothesis mypy
"$python" -m pip install -q --force-reinstall --no-deps "$target"/wheels/convkernels-*.whl

# From elsewhere, so that the installed package is the one that is tested.
tests=$PWD/tests
cd "$target"
CONVKERNELS_FUZZ=${CONVKERNELS_FUZZ:-10000} "$python" -m pytest -q -p no:cacheprovider "$tests"
"$python" -m mypy.stubtest convkernels._convkernels
"$python" -m mypy --strict -p convkernels --ignore-missing-imports --exclude '_torch|/torch'
