#!/usr/bin/env bash
# BLiMP, its supplement, EWoK and cross-entropy on held-out text, as far as their data is there.
#   bash scripts/eval-all.sh RUN [RUN...] [--data DIR] [--protocol 2024|2025|2026]
#   bash scripts/eval-all.sh RUN [RUN...] --pipeline 2024|2025|2026      an official pipeline itself: docs/pipelines.md
# RUN is a run's name or a model folder; results go to RUN/evaluation/. Cost: minutes on two cores for a small model.
# shellcheck source=scripts/preamble.sh
source "$(dirname "${BASH_SOURCE[0]}")/preamble.sh"

palenka evaluate "$@"
