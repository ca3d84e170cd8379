#!/usr/bin/env bash
# (Super)GLUE: models fine-tuned by the recipe of a year, one training for each task and seed.
#   bash scripts/eval-glue.sh RUN [RUN...] [--recipe config/finetuning/2025.yaml] [--tasks rte,mrpc] [--seeds 0,1,2]
# RUN is a run's name or a model folder; results go to RUN/evaluation/finetuning/. Called again, it goes on where it stopped.
# Cost: hours on two cores for a small model, minutes on a GPU.
# shellcheck source=scripts/preamble.sh
source "$(dirname "${BASH_SOURCE[0]}")/preamble.sh"

palenka finetune "$@"
