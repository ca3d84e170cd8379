#!/usr/bin/env bash
# BLiMP and its supplement, as the BabyLM pipelines filter them, beside simple baselines.
#   bash scripts/eval-blimp.sh RUN [RUN...] [--data DIR] [--protocol 2024]
# RUN is a run's name or a model folder; results go to RUN/evaluation/. Cost: minutes on two cores for a small model.
# shellcheck source=scripts/preamble.sh
source "$(dirname "${BASH_SOURCE[0]}")/preamble.sh"

palenka evaluate --tasks blimp_filtered,supplement_filtered "$@"
