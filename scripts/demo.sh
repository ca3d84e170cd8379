#!/usr/bin/env bash
# A whole study in small, on this machine's CPU: text, two teachers, an undistilled control, two students, a report.
# Every command is printed before it runs. What is done already is not done again. `make demo` calls this.
set -euo pipefail

VOCABULARY=2000 # entries of the tokenizer: the demo's language has fewer words than English

# Relative folders are meant from where the demo was called, everything else from the repository.
for folder in PALENKA_DATA PALENKA_EVAL PALENKA_RUNS; do
    if [ -n "${!folder:-}" ] && [[ ${!folder} != /* ]]; then
        export "$folder=$PWD/${!folder}"
    fi
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."
data=${PALENKA_DATA:-data}
pairs=${PALENKA_EVAL:-evaluation_data}
runs=${PALENKA_RUNS:-runs}

if [ ! -x .venv/bin/palenka ]; then
    echo "There is no .venv yet: run make setup, or make demo, which does." >&2
    exit 1
fi
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1 CUDA_VISIBLE_DEVICES=

cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)

say() { printf '\n%s\n' "$*"; }

show() { # prints a command, then runs it
    printf '$'
    for word; do
        [[ $word = *[[:space:]]* ]] && word="'$word'"
        printf ' %s' "$word"
    done
    printf '\n'
    "$@"
}

# The same for several commands, each one word here. Side by side, even more than there are cores, small trainings
# take less time than one after the other on all cores, and none is left alone at the end.
together() {
    local at_once=$((cores > 1 ? $# : 1))
    local threads=$((cores / at_once))
    threads=$((threads > 4 ? 4 : threads > 0 ? threads : 1))
    # shellcheck disable=SC2016 # $1 is the inner bash's
    printf '%s\0' "$@" |
        OMP_NUM_THREADS=$threads TOKENIZERS_PARALLELISM=false xargs -0 -n 1 -P "$at_once" \
            bash -c 'echo "\$ $1"; exec $1' command 2>&1 | cat # lines instead of progress bars, which would overwrite each other
}

say "1. A little language: text to learn from, minimal pairs to be asked"
show palenka demo-text --out "$data/demo-text" --pairs "$pairs/demo_pairs"

say "2. Clean it, train a tokenizer, write the tokens"
show palenka prepare --train "$data/demo-text/train" --dev "$data/demo-text/dev" --test "$data/demo-text/test" \
    --name demo --vocab-size "$VOCABULARY"

say "3. Two teachers"
together "python train.py --config config/demo/teacher-gpt2.yaml" \
    "python train.py --config config/demo/teacher-llama.yaml"

say "4. One small model three times: by itself, with its teachers' logits (KD), with their hidden states too (DSKD)"
together "python dskd_noaux.py --config config/demo/student-dskd.yaml" \
    "python distill.py --config config/demo/student-kd.yaml" \
    "python train.py --config config/demo/control.yaml"

say "5. Which of two sentences is the likelier one?"
show palenka evaluate demo/teacher-gpt2 demo/teacher-llama demo/control demo/student-kd demo/student-dskd \
    --tasks demo_pairs,cross_entropy

say "6. The study on one page"
show palenka report demo --out "$runs/demo/report.html"
