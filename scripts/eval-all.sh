#!/usr/bin/env bash
# BLiMP, its supplement, EWoK and cross-entropy on held-out text, as far as their data is there.
#   bash scripts/eval-all.sh RUN [RUN...] [--data DIR] [--convention 2024|2025]
#   bash scripts/eval-all.sh RUN [RUN...] --pipeline 2024|2025      an official pipeline itself: docs/pipelines.md
# RUN is a run's name or a model folder; results go to RUN/evaluation/. Cost: minutes on two cores for a small model.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python="$root/.venv/bin/python"
[ -x "$python" ] || python=python3
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

exec "$python" -m palenka evaluate "$@"
