#!/usr/bin/env bash
# BLiMP and its supplement, as the BabyLM pipelines filter them, beside their floors.
#   bash scripts/eval-blimp.sh RUN [RUN...] [--data DIR] [--convention 2024]
# RUN is a run's name or a model folder; results go to RUN/evaluation/. Cost: minutes on two cores for a small model.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python="$root/.venv/bin/python"
[ -x "$python" ] || python=python3
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

exec "$python" -m palenka evaluate --tasks blimp_filtered,supplement_filtered "$@"
