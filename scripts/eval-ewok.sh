#!/usr/bin/env bash
# EWoK, as the BabyLM pipelines filter it, beside simple baselines.
#   bash scripts/eval-ewok.sh RUN [RUN...] [--data DIR] [--protocol 2024]
# RUN is a run's name or a model folder; results go to RUN/evaluation/. Cost: minutes on two cores for a small model.
# shellcheck source=scripts/preamble.sh
source "$(dirname "${BASH_SOURCE[0]}")/preamble.sh"

palenka evaluate --tasks ewok_filtered "$@"
