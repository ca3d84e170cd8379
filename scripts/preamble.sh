# shellcheck shell=bash
# What every job script sources first, inside a SLURM job: it finds the repository, opens the job's log, writes down what
# runs where, and offers `run`. Nothing here knows a site: partition, account, GPUs, memory and time are given to sbatch.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python="$root/.venv/bin/python"

# A task of an array goes by ARRAY_TASK: the bare id of the last task means the whole array to scontrol and scancel.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}

# SLURM itself would look for logs/ in the folder of submission, and lose the job without a word where it is missing.
# A log chosen with sbatch --output stays.
if [ "$(readlink /proc/$$/fd/1)" = /dev/null ]; then
    logs=$root/logs
    if ! { mkdir -p "$logs" && [ -w "$logs" ]; }; then
        logs=$PWD
    fi
    exec >> "$logs/${SLURM_JOB_NAME//\//-}-$job.out" 2>&1
fi

if [ ! -x "$python" ]; then
    echo "no .venv in $root: run make setup there first"
    exit 1
fi

processes=${SLURM_GPUS_ON_NODE:-1}
threads=$((${SLURM_CPUS_ON_NODE:-1} / processes))
export OMP_NUM_THREADS=$((threads > 1 ? threads : 1)) TOKENIZERS_PARALLELISM=false

# run SCRIPT ARGUMENT…: a script of the repository, one process for each GPU of the job, or one on its CPUs.
# Short of time or preempted (USR1, see --signal), the job goes back to the queue; training then resumes.
run() {
    echo "job      $job, start $((${SLURM_RESTART_COUNT:-0} + 1)), $(date '+%Y-%m-%d %H:%M:%S')"
    echo "commit   $(git -C "$root" describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)"
    echo "command  $*"
    echo "node     ${SLURMD_NODENAME:-$(hostname)}"
    echo "devices  ${SLURM_GPUS_ON_NODE:-no} GPUs, ${SLURM_CPUS_ON_NODE:-1} CPUs"
    local script=$1 interrupted=0 pid code launch=("$python")
    shift
    if [ "$processes" -gt 1 ]; then
        launch+=(-m torch.distributed.run --standalone --nproc_per_node="$processes")
    fi
    trap 'interrupted=1; kill -TERM "$pid"' USR1
    "${launch[@]}" "$root/$script" "$@" &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        wait "$pid" # returns early when a signal has been handled
    done
    wait "$pid"
    code=$?
    if [ "$interrupted" = 1 ] && [ "$code" != 0 ]; then
        echo "interrupted: back to the queue"
        scontrol requeue "$job" && sleep 60 # SLURM ends this script meanwhile
    fi
    return "$code"
}
