# shellcheck shell=bash
# What every .slurm file calls: `source job.sh JOB ARGUMENT…` does one job of those below, keeps its log, and has an
# interrupted training go back to the queue. SLURM runs a copy of the .slurm file, which has found the repository
# (`$root`) by the job's record, or was told by who submits a study.
STARTS=3 # how often a job may start without a checkpoint in between

do_job() { # JOB ARGUMENT…
    local job_name=$1 program=$1.py baselines=("$root"/config/baseline/*.yaml) grid=$root/config/grid/PalenkaLlama1-58M.yaml
    local task=${SLURM_ARRAY_TASK_ID:-}
    shift
    if [[ $job_name = *baselines ]] && [ "$task" -ge "${#baselines[@]}" ]; then
        echo "task $task has no baseline: config/baseline/ has ${#baselines[@]}, the first is for task 0"
        return 2
    fi
    if [[ $job_name = train_baselines && ${1:-=} != *=* ]]; then
        echo "train_baselines.slurm trains config/baseline/ and takes key.path=value; your own config: sbatch scripts/train.slurm $1"
        return 2
    elif [[ $job_name = *grid* && ${1:-=} != *=* && ${1:-} != -* ]]; then # overrides alone are meant for the study's grid
        grid=$1
        shift
    fi
    case $job_name in
        train | distill)
            choose_config "$@" || return
            run "$root/$program" --config "${chosen[@]}"
            ;;
        train_baselines) run "$root/train.py" --config "${baselines[task]}" "$@" ;;
        eval-all_baselines) palenka evaluate "$(name_in "${baselines[task]}")" "$@" ;;
        eval-blimp_baselines)
            palenka evaluate "$(name_in "${baselines[task]}")" --tasks blimp_filtered,supplement_filtered "$@"
            ;;
        search) run -m palenka search --config "$@" ;;
        grid) run -m palenka grid --config "$grid" --part "$task/$SLURM_ARRAY_TASK_COUNT" "$@" ;;
        train_gridsearch_finalist)
            palenka grid --config "$grid" --select "$@" &&
                run -m palenka grid --config "$grid" --finalist "$task" "$@"
            ;;
        eval-all_gridsearch_finalist)
            local results=("${PALENKA_RUNS:-$root/runs}/$(name_in "$grid")"/finalists/*/result.json)
            local finalist=${results[task - 1]:-}
            [ -r "$finalist" ] || { echo "there is no finalist $task that is trained: looked for ${results[0]}"; return 1; }
            palenka evaluate "$(dirname "$finalist")" "$@"
            ;;
        slurm-eval) palenka evaluate "$@" ;;
        eval-glue) palenka finetune "$@" ;;
        study) palenka study "${1:-}" --step "${2:-}" ;;
    esac
}

name_in() { sed -n 's/^name: *//p' "$1"; } # of a run, in its config

# choose_config ARGUMENT…: the arguments of a task, as `chosen`. Of `CONFIG… [key.path=value …]` an array gives each task
# one CONFIG, and all of them what is overridden.
choose_config() {
    local configs=() overrides=() argument
    for argument in "$@"; do
        if [[ $argument = *=* ]]; then
            overrides+=("$argument")
        else
            configs+=("$argument")
        fi
    done
    if [ "${#configs[@]}" = 0 ]; then
        echo "no CONFIG was given: sbatch scripts/$job_name.slurm CONFIG [key.path=value …]"
        return 2
    elif [ -n "$task" ] && [ "$task" -ge "${#configs[@]}" ]; then
        echo "task $task has no CONFIG: ${#configs[@]} were given, the first is for task 0"
        return 2
    fi
    chosen=("${configs[@]}" "${overrides[@]}")
    [ -z "$task" ] || chosen=("${configs[task]}" "${overrides[@]}")
}

# SLURM itself would look for logs/ in the folder of submission, and lose the job without a word where it is missing.
# A log chosen with sbatch --output stays.
open_log() {
    local logs=$root/logs
    if ! { mkdir -p "$logs" && [ -w "$logs" ]; }; then
        logs=$PWD
    fi
    if [ "$(readlink /proc/$$/fd/1)" = /dev/null ]; then
        exec >> "$logs/${SLURM_JOB_NAME//\//-}-$job.out" 2>&1
    fi
    PALENKA_LOG=$(readlink /proc/$$/fd/1)
    export PALENKA_LOG PALENKA_STARTS="$logs/.starts-$job"
}

header() {
    local gpus
    gpus=$(nvidia-smi --query-gpu=name --format=csv,noheader 2> /dev/null | sort | uniq -c | xargs)
    echo "job      $job, start $((${SLURM_RESTART_COUNT:-0} + 1)), $(date '+%Y-%m-%d %H:%M:%S')"
    echo "commit   $(git -C "$root" describe --always --dirty --abbrev=12 2> /dev/null || echo unknown)"
    echo "config   $*, from $PWD"
    echo "node     ${SLURM_JOB_NODELIST:-$(hostname)}"
    echo "devices  ${SLURM_GPUS_ON_NODE:-no} GPUs${gpus:+ ($gpus)}, ${SLURM_CPUS_ON_NODE:-1} CPUs a node"
}

# Until `run` has something to pass it on to, the signal of a job that is to end is only noted.
interrupted=0
trap 'interrupted=1' USR1

# A task of an array goes by ARRAY_TASK: the bare id of the last task means the whole array to scontrol and scancel.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}
open_log
header "$SLURM_JOB_NAME" "${@:2}"
# shellcheck source=scripts/preamble.sh
source "$root/scripts/preamble.sh"

# run PROGRAM ARGUMENT…: one process for each GPU of each node of the job, or one on a node's CPUs.
#
# Short of time (USR1, see --signal) or told to end (TERM), the training leaves a checkpoint, and the job goes back to
# the queue: unless it was cancelled, or has started three times without getting any further. One that takes too long
# over its checkpoint is killed, as a job that reaches its limit would not go back.
run() {
    local processes pid code watch=
    may_start || return 1
    prepare_launch "${SLURM_GPUS_ON_NODE:-0}" "${SLURM_CPUS_ON_NODE:-$(nproc)}"
    [ "$SLURM_JOB_NUM_NODES" = 1 ] || prepare_nodes
    echo "command  ${*#"$root/"}"
    "${launch[@]}" "$@" &
    pid=$!
    # Until it is the program, the new process is this shell, which would take a signal for its own and lose it.
    while cmp -s "/proc/$pid/cmdline" "/proc/$$/cmdline"; do sleep 0.05; done
    trap 'interrupt "$pid"' USR1 TERM
    [ "$interrupted" = 0 ] || interrupt "$pid"
    while kill -0 "$pid" 2> /dev/null; do
        wait "$pid" # returns early when a signal has been handled
    done
    wait "$pid"
    code=$?
    trap '' USR1 # a second one is not to end this before the job is back in the queue
    trap - TERM
    [ -z "$watch" ] || kill "$watch" 2> /dev/null
    if [ "$interrupted" = 1 ] && [ "$code" != 0 ] && [ "$(job_state)" = RUNNING ]; then
        echo "interrupted: back to the queue"
        # SLURM ends this script meanwhile, and perhaps the sleep first: the count of starts must outlive both.
        scontrol requeue "$job" && { sleep 60; exit "$code"; }
    fi
    rm -f "$PALENKA_STARTS"
    return "$code"
}

# Whether this job has got further since it started last; training removes the file with each checkpoint.
may_start() {
    local starts=0
    if [ "${SLURM_RESTART_COUNT:-0}" != 0 ] && [ -r "$PALENKA_STARTS" ]; then
        starts=$(< "$PALENKA_STARTS")
    fi
    if [ "$starts" -ge "$STARTS" ]; then
        echo "$starts starts of this job have left no checkpoint: it stops here. Give it more time, or look for the cause above."
        rm "$PALENKA_STARTS"
        return 1
    fi
    echo $((starts + 1)) > "$PALENKA_STARTS"
}

# What starts so many `processes` on each node, as `launch`.
#
# They meet at this node, the job's first, at a port that is free now. A node cannot always tell from the address that
# it is its own, so torchrun is told (its options come from PET_…, too); and srun does not pass on --cpus-per-task.
prepare_nodes() {
    local nodes=$SLURM_JOB_NUM_NODES address port
    address=$(scontrol show node "$SLURMD_NODENAME" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
    port=$("$python" -c 'import socket; here = socket.socket(); here.bind(("", 0)); print(here.getsockname()[1])')
    # shellcheck disable=SC2016 # for the shell of each node
    launch=(srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --kill-on-bad-exit=1 --cpu-bind=none
        ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"}
        bash -c 'PET_RDZV_CONF="is_host=$((SLURM_NODEID == 0))" exec "$@"' torchrun "$python")
    distribute --nnodes="$nodes" --rdzv_backend=c10d --rdzv_id="$job" --rdzv_endpoint="$address:$port"
}

# interrupt PROCESS: have it leave a checkpoint, and see to it that it ends.
interrupt() {
    interrupted=1
    kill -USR1 "$1"
    [ -n "$watch" ] || { (trap 'kill $!' TERM; sleep "$GRACE" & wait $! && kill -KILL "$1") & watch=$!; }
}

job_state() { # asked again where the controller is busy
    local state='' attempt
    for attempt in 1 2 3; do
        state=$(squeue --noheader --job="$job" --format=%T) && [ -n "$state" ] && break
        sleep "$attempt"
    done
    echo "$state"
}

do_job "$@"
exit
