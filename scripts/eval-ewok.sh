#!/usr/bin/env bash
# EWoK, as the BabyLM pipelines filter it, beside its floors.
#   bash scripts/eval-ewok.sh RUN [RUN...] [--data DIR] [--convention 2024]
# RUN is a run's name or a model folder; results go to RUN/evaluation/. Cost: minutes on two cores for a small model.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python="$root/.venv/bin/python"
[ -x "$python" ] || python=python3
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

exec "$python" -m palenka evaluate --tasks ewok_filtered "$@"
