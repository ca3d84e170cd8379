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
logs=$runs/demo/logs
mkdir -p "$logs"

say() { printf '\n%s\n' "$*"; }

log_of() { # of a command, by the name of its config, or else by its second word
    local word name=${1#* }
    for word in $1; do [[ $word = *.yaml ]] && name=$(basename "$word" .yaml); done
    printf '%s/%s.log' "$logs" "${name%% *}"
}

watch() { # shows on one line what logs say last, until it is stopped
    local log line width
    width=$(tput cols 2>/dev/null || echo 80)
    while sleep 1; do
        printf '\r\033[K'
        for log; do
            line=$(tail -n 1 "$log" 2>/dev/null)
            printf '%-*.*s ' $((width / $# - 2)) $((width / $# - 2)) "${line#demo/}"
        done
    done
}

# Prints commands, each one word here, and runs them, each into a log of its own. Side by side, even more than there are
# cores, small trainings take less time than one after the other on all cores, and none is left alone at the end.
run() {
    local command watcher='' failed='' began=$SECONDS at_once=$((cores > 1 ? $# : 1)) told=()
    local threads=$((cores / at_once))
    threads=$((threads > 4 ? 4 : threads > 0 ? threads : 1))
    for command; do
        printf '$ %s\n' "$command"
        told+=("$(log_of "$command")")
    done
    if [ -t 1 ]; then
        watch "${told[@]}" &
        watcher=$!
    fi
    [ $# -eq 1 ] || export TOKENIZERS_PARALLELISM=false
    # shellcheck disable=SC2016 # $1 and $2 are the inner bash's
    for command; do printf '%s\0%s\0' "exec $command" "$(log_of "$command")"; done |
        OMP_NUM_THREADS=$threads xargs -0 -n 2 -P "$at_once" bash -c 'eval "$1" > "$2" 2>&1' command || failed=yes
    if [ -n "$watcher" ]; then
        kill "$watcher"
        printf '\r\033[K'
    fi
    if [ -n "$failed" ]; then
        tail -n 20 "${told[@]}" >&2
        exit 1
    fi
    printf '  %d s\n' $((SECONDS - began))
}

say "1. A little language: text to learn from, minimal pairs to be asked"
run "palenka demo-text --out $(printf '%q' "$data/demo-text") --pairs $(printf '%q' "$pairs/demo_pairs")"

say "2. Clean it, train a tokenizer, write the tokens"
text=$(printf '%q' "$data/demo-text")
run "palenka prepare --train $text/train --dev $text/dev --test $text/test --name demo --vocab-size $VOCABULARY"

say "3. Two teachers"
run "python train.py --config config/demo/teacher-gpt2.yaml" \
    "python train.py --config config/demo/teacher-llama.yaml"

say "4. One small model three times: by itself, with its teachers' logits (KD), with their hidden states too (DSKD)"
run "python train.py --config config/demo/control.yaml" \
    "python distill.py --config config/demo/student-kd.yaml" \
    "python dskd_noaux.py --config config/demo/student-dskd.yaml"

say "5. Which of two sentences is the likelier one?"
run "palenka evaluate demo/teacher-gpt2 demo/teacher-llama demo/control demo/student-kd demo/student-dskd \
--tasks demo_pairs,cross_entropy,samples"

say "6. The study on one page"
report=$(printf '%q' "$runs/demo/report.html")
run "palenka report demo --out $report"
say
cat "$logs/report.log"

cat <<END

$((SECONDS / 60)) min $((SECONDS % 60)) s. What each command said is in $logs. To try next:

  source .venv/bin/activate
  palenka compare demo/control demo/student-dskd    # on which sentences the two differ
  palenka grid --config config/demo/grid.yaml       # how much of each term? eight students on one teacher pass
  python dskd_noaux.py --config config/demo/student-dskd.yaml objective.hidden_state.weight=2 name=demo/closer
END
