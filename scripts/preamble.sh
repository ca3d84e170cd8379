# shellcheck shell=bash
# What every script here begins with: where the repository is, which Python, this cluster's own settings (cluster.env,
# which git ignores), and in a job its log and what runs where. It offers `run` and `palenka`. Nothing here knows a site.
STARTS=3 # how often a job may start without a checkpoint in between
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
    given=$(export -p | grep '^declare -x SBATCH_') # what the shell says goes before the file
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

# run ARGUMENT…: Python on a program of the repository, one process for each GPU of each node, or one on a node's CPUs.
#
# Short of time (USR1, see --signal) or told to end (TERM), the training leaves a checkpoint, and the job goes back to
# the queue: unless it was cancelled, or has started three times without getting any further.
run() {
    local processes threads launch pid code
    processes=$(count_gpus)
    processes=$((processes > 0 ? processes : 1))
    threads=$((${SLURM_CPUS_ON_NODE:-$(nproc)} / processes))
    export OMP_NUM_THREADS=$((threads > 1 ? threads : 1))
    may_start || return 1
    prepare_launch "$processes"
    echo "command  ${*#"$root/"}"
    "${launch[@]}" "$@" &
    pid=$!
    trap 'interrupted=1; kill -USR1 "$pid"' USR1 TERM
    [ "$interrupted" = 0 ] || kill -USR1 "$pid"
    while kill -0 "$pid" 2> /dev/null; do
        wait "$pid" # returns early when a signal has been handled
    done
    wait "$pid"
    code=$?
    trap - USR1 TERM
    if [ "$interrupted" = 1 ] && [ "$code" != 0 ] && [ "$(squeue --noheader --job="$job" --format=%T)" = RUNNING ]; then
        echo "interrupted: back to the queue"
        scontrol requeue "$job" && sleep 60 # SLURM ends this script meanwhile
    fi
    rm -f "${PALENKA_STARTS:-}"
    return "$code"
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
    export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=110 # seconds that a signalled process has for its checkpoint
    launch+=(-m torch.distributed.run --nproc_per_node="$1" --signals_to_handle="SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1")
    if [ "$nodes" = 1 ]; then
        launch+=(--standalone)
        return
    fi
    # The processes meet at this node, the job's first, at a port that is free now.
    address=$(scontrol show node "$SLURMD_NODENAME" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
    port=$("$python" -c 'import socket; here = socket.socket(); here.bind(("", 0)); print(here.getsockname()[1])')
    launch=(srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --kill-on-bad-exit=1 "${launch[@]}"
        --nnodes="$nodes" --rdzv_backend=c10d --rdzv_id="$job" --rdzv_endpoint="$address:$port")
}
