# shellcheck shell=bash
# What every script here begins with: where the repository is, which Python, and this cluster's own settings
# (cluster.env, which git ignores). It offers `palenka` and `run`. Nothing here knows a site.
GRACE=110 # seconds that a training has for its checkpoint once it is signalled, of the 120 of --signal
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

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

palenka() { # in one process
    [ -z "${job:-}" ] || echo "command  palenka $*"
    "$python" -m palenka "$@"
}

# run PROGRAM ARGUMENT…: one process for each GPU of this machine, or one on its CPUs.
run() {
    local processes
    prepare_launch "$("$python" -c 'import torch; print(torch.cuda.device_count())')" "$(nproc)"
    echo "command  ${*#"$root/"}"
    "${launch[@]}" "$@"
}

# prepare_launch GPUS CPUS: what starts so many `processes` on one machine, as `launch`.
prepare_launch() {
    processes=$(($1 > 0 ? $1 : 1))
    export OMP_NUM_THREADS=$(($2 > processes ? $2 / processes : 1))
    launch=("$python")
    [ "$processes" = 1 ] || distribute --standalone
}

# distribute OPTION…: have `launch` start torchrun. Its processes leave a checkpoint when it is signalled.
distribute() {
    export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=$((GRACE - 10))
    launch+=(-m torch.distributed.run --nproc_per_node="$processes" "$@"
        --signals_to_handle="SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1")
}
