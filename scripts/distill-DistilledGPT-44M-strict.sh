#!/usr/bin/env bash
# DistilledGPT-44M with its two teachers, on this machine: a process for each of its GPUs, or one on its CPUs.
#   bash scripts/distill-DistilledGPT-44M-strict.sh [key.path=value …]
# The teachers come first, and what is finished is not trained again. scripts/submit-study.sh --only RUN has SLURM do it.
# shellcheck source=scripts/preamble.sh
source "$(dirname "${BASH_SOURCE[0]}")/preamble.sh"

run "$root/train.py" --config "$root/config/teacher/DistilledGPT-Teacher-GPT2-44M.yaml" &&
    run "$root/train.py" --config "$root/config/teacher/DistilledGPT-Teacher-Llama-60M.yaml" &&
    run "$root/distill.py" --config "$root/config/distillation/DistilledGPT-44M.yaml" "$@"
