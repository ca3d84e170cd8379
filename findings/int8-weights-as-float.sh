#!/usr/bin/env bash
# transformers 5.23.0, a model folder whose tensors are int8 (as some quantising tools leave them), asked for in float32.
#   guess   an error, or a word in the loading report
#   found   the integers are taken for the weights; nothing is missing, unexpected, mismatched or in error
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" transformers==5.23.0 torch==2.13.0 numpy==2.4.6
python - <<'PYTHON'
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

sizes = dict(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained("model")
weights = {name: (100 * tensor).to(torch.int8) for name, tensor in load_file("model/model.safetensors").items()}
save_file(weights, "model/model.safetensors", {"format": "pt"})
model, report = AutoModelForCausalLM.from_pretrained("model", dtype=torch.float32, output_loading_info=True)
head = model.lm_head.weight
print(f"the head: {head.dtype}, all whole numbers: {bool((head == head.round()).all())}; report: {report}")
assert head.dtype == torch.float32 and bool((head == head.round()).all()) and not any(report.values())
PYTHON
