# shellcheck shell=bash
# What every script here begins with: where the repository is, which Python, this cluster's own settings (cluster.env,
# which git ignores), and in a job its log and what runs where. It offers `run` and `palenka`. Nothing here knows a site.
STARTS=3 # how often a job may start without a checkpoint in between
GRACE=110 # seconds that a training has for its checkpoint once it is signalled, of the 120 of --signal
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Until `run` has something to pass it on to, the signal of a job that is to end is only noted.
interrupted=0
trap 'interrupted=1' USR1

# A task of an array goes by ARRAY_TASK: the bare id of the last task means the whole array to scontrol and scancel.
job=
if [[ ${BASH_SOURCE[1]} = */slurm_script ]]; then
    job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
    job=${job:-$SLURM_JOB_ID}
fi

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

if [ -n "$job" ]; then
    open_log
    header "$SLURM_JOB_NAME" "$@"
fi

if [ -r "$root/scripts/cluster.env" ]; then
    given=$(export -p | grep -E '^declare -x (SBATCH|PALENKA)_') # what the shell says goes before the file
    # shellcheck source=scripts/cluster.example.env
    source "$root/scripts/cluster.env"
    eval "$given"
fi
set -uo pipefail # only now: modules and conda know nothing of it

python=$root/.venv/bin/python
if [ ! -x "$python" ]; then
    echo "there is no .venv in $root (make setup makes it); this is the python3 of the PATH" >&2
    python=python3
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" TOKENIZERS_PARALLELISM=false

# palenka COMMAND ARGUMENT…: python -m palenka, in one process.
palenka() {
    [ -z "$job" ] || echo "command  palenka $*"
    "$python" -m palenka "$@"
}

# choose_config ARGUMENT…: the arguments of a task, as `chosen`. Of `CONFIG… [key.path=value …]` an array gives each task
# one CONFIG, and all of them what is overridden.
# shellcheck disable=SC2154,SC2034 # `usage` is the script's, and `chosen` is for it
choose_config() {
    local configs=() overrides=() argument task=${SLURM_ARRAY_TASK_ID:-}
    for argument in "$@"; do
        if [[ $argument = *=* ]]; then
            overrides+=("$argument")
        else
            configs+=("$argument")
        fi
    done
    if [ "${#configs[@]}" = 0 ]; then
        echo "no CONFIG was given: $usage"
        exit 2
    elif [ -n "$task" ] && [ "$task" -ge "${#configs[@]}" ]; then
        echo "task $task has no CONFIG: ${#configs[@]} were given, the first is for task 0; $usage"
        exit 2
    fi
    chosen=("${configs[@]}" "${overrides[@]}")
    [ -z "$task" ] || chosen=("${configs[task]}" "${overrides[@]}")
}

# run ARGUMENT…: Python on a program of the repository, one process for each GPU of each node, or one on a node's CPUs.
#
# Short of time (USR1, see --signal) or told to end (TERM), the training leaves a checkpoint, and the job goes back to
# the queue: unless it was cancelled, or has started three times without getting any further. One that takes too long
# over its checkpoint is killed, as a job that reaches its limit would not go back.
run() {
    local processes threads launch pid code watch=
    processes=$(count_gpus)
    processes=$((processes > 0 ? processes : 1))
    threads=$((${SLURM_CPUS_ON_NODE:-$(nproc)} / processes))
    export OMP_NUM_THREADS=$((threads > 1 ? threads : 1))
    may_start || return 1
    prepare_launch "$processes"
    echo "command  ${*#"$root/"}"
    if [ -z "$job" ]; then # in the foreground, where Ctrl-C reaches it
        "${launch[@]}" "$@"
        return
    fi
    "${launch[@]}" "$@" &
    pid=$!
    trap 'interrupt "$pid"' USR1 TERM
    [ "$interrupted" = 0 ] || interrupt "$pid"
    while kill -0 "$pid" 2> /dev/null; do
        wait "$pid" # returns early when a signal has been handled
    done
    wait "$pid"
    code=$?
    trap - USR1 TERM
    [ -z "$watch" ] || kill "$watch" 2> /dev/null
    if [ "$interrupted" = 1 ] && [ "$code" != 0 ] && [ "$(job_state)" = RUNNING ]; then
        echo "interrupted: back to the queue"
        scontrol requeue "$job" && sleep 60 # SLURM ends this script meanwhile
    fi
    rm -f "${PALENKA_STARTS:-}"
    return "$code"
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

count_gpus() { # of each node
    if [ -n "$job" ]; then
        echo "${SLURM_GPUS_ON_NODE:-0}"
    else
        "$python" -c 'import torch; print(torch.cuda.device_count())'
    fi
}

# Whether this job has got further since it started last; training removes the file with each checkpoint.
may_start() {
    local starts=0
    [ -n "$job" ] || return 0
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

# prepare_launch PROCESSES: what starts so many processes on each node, as `launch`.
prepare_launch() {
    local nodes=1 address port
    launch=("$python")
    [ -z "$job" ] || nodes=$SLURM_JOB_NUM_NODES
    if [ "$nodes" = 1 ] && [ "$1" = 1 ]; then
        return
    fi
    export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=$((GRACE - 10))
    launch+=(-m torch.distributed.run --nproc_per_node="$1" --signals_to_handle="SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1")
    if [ "$nodes" = 1 ]; then
        launch+=(--standalone)
        return
    fi
    # The processes meet at this node, the job's first, at a port that is free now. A node cannot always tell from the
    # address that it is its own, so torchrun is told (its options come from PET_…, too); and srun does not pass the
    # job's --cpus-per-task on.
    address=$(scontrol show node "$SLURMD_NODENAME" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
    port=$("$python" -c 'import socket; here = socket.socket(); here.bind(("", 0)); print(here.getsockname()[1])')
    # shellcheck disable=SC2016 # for the shell of each node
    launch=(srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --kill-on-bad-exit=1 --cpu-bind=none
        ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"}
        bash -c 'PET_RDZV_CONF="is_host=$((SLURM_NODEID == 0))" exec "$@"' torchrun "${launch[@]}"
        --nnodes="$nodes" --rdzv_backend=c10d --rdzv_id="$job" --rdzv_endpoint="$address:$port")
}
