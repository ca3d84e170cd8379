#!/usr/bin/env bash
# BabyLlama1-58M with its two teachers, on this machine: a process for each of its GPUs, or one on its CPUs.
#   bash scripts/distill-BabyLlama1-58M-strict.sh [key.path=value …]
# The teachers come first, and what is finished is not trained again. scripts/submit-study.sh --only RUN has SLURM do it.
# shellcheck source=scripts/preamble.sh
source "$(dirname "${BASH_SOURCE[0]}")/preamble.sh"

run "$root/train.py" --config "$root/config/teacher/BabyLlama1-Teacher-GPT2-705M.yaml" &&
    run "$root/train.py" --config "$root/config/teacher/BabyLlama1-Teacher-Llama-360M.yaml" &&
    run "$root/distill.py" --config "$root/config/distillation/BabyLlama1-58M.yaml" "$@"
