#!/usr/bin/env bash
# A whole study as SLURM jobs: data, teachers, students, grid, finalists, evaluation, report, each when what it needs is
# done. Only what is missing is submitted: run it again after a failure, or when something was deleted.
#   bash scripts/submit-study.sh [STUDY] [--only RUN…] [--dry-run]
# STUDY is a file of config/study/, strict-small unless told otherwise. What sbatch is told: scripts/cluster.example.env.
# shellcheck source=scripts/preamble.sh
source "$(dirname "${BASH_SOURCE[0]}")/preamble.sh"

palenka study "$@"
