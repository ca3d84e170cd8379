#!/usr/bin/env bash
# What a GPU makes of the published BabyLlama1-58M: its step beside plain ones in fp16 and bf16, compiled and not, in
# seconds, tokens/s, share of the peak and memory; evaluation of a 58M Llama; what was predicted. A table: OUT/gpu.md.
#   bash benchmarks/gpu.sh OUT                         ten minutes on a machine with a GPU
#   bash benchmarks/gpu.sh OUT cpu                     the same commands on a CPU with a small student, to try the script:
#                                                      what they measure there says nothing
# Each part writes its file before the next begins, so that a machine that is taken away leaves what it has measured.
set -euo pipefail
out=$(realpath -m "${1:?usage: bash benchmarks/gpu.sh OUT [cpu]}")
on=${2:-cuda}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1
mkdir -p "$out"

case $on in
cuda)
    python -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "error: PyTorch finds no GPU here; to try the script: bash benchmarks/gpu.sh OUT cpu")'
    config=config/distillation/BabyLlama1-58M.yaml rounds=10 model=llama-58M items=1000
    peers=("plain fp16" "plain bf16" palenka "palenka, compiled")
    ;;
cpu)
    export CUDA_VISIBLE_DEVICES=
    config=config/demo/student-kd.yaml rounds=1 model=gpt2-5.8M items=5
    peers=("plain float32" palenka)
    ;;
*)
    echo "error: $on: expected cpu, or nothing" >&2
    exit 2
    ;;
esac

python -m palenka cost --config "$config" --json "$out/cost.json" > "$out/cost.txt"
python benchmarks/step.py "$config" --rounds "$rounds" --peers "${peers[@]}" --out "$out/step.json" | tee "$out/step.txt"
python benchmarks/gpu_table.py "$out" > "$out/gpu.md"

# Items of BLiMP where there are any (PALENKA_EVAL), of the demo's language otherwise.
if [ ! -d "${PALENKA_EVAL:-evaluation_data}/blimp_filtered" ]; then
    python -m palenka demo-text --out "$out/text" --pairs "$out/items/blimp_filtered"
    export PALENKA_EVAL=$out/items
fi
rm -f "$out/evaluate.jsonl"
python benchmarks/evaluate.py "$model" --rounds 2 --subset "$items" --search 5 --out "$out/evaluate.jsonl" | tee "$out/evaluate.txt"
python benchmarks/gpu_table.py "$out" | tee "$out/gpu.md"
