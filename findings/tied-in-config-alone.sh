#!/usr/bin/env bash
# A folder whose config.json says tie_word_embeddings: true, and whose weights hold two different matrices.
#   guess   transformers 5.23.0 ties them, as the config says
#   found   it keeps both as they are stored, and saves two tensors again beside tie_word_embeddings: true
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" transformers==5.23.0 torch==2.13.0 numpy==2.4.6
python - <<'PYTHON'
import json

from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

sizes = dict(vocab_size=64, n_embd=32, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=None)
GPT2LMHeadModel(GPT2Config(**sizes, tie_word_embeddings=False)).save_pretrained("model")
config = json.load(open("model/config.json")) | {"tie_word_embeddings": True}
json.dump(config, open("model/config.json", "w"))
model = AutoModelForCausalLM.from_pretrained("model")
is_tied = model.lm_head.weight is model.transformer.wte.weight
model.save_pretrained("again")
stored = sorted(name for name in load_file("again/model.safetensors") if name in ("lm_head.weight", "transformer.wte.weight"))
says = json.load(open("again/config.json"))["tie_word_embeddings"]
print(f"tie_word_embeddings: {model.config.tie_word_embeddings}; tied: {is_tied}; saved again: {stored}, config says {says}")
assert model.config.tie_word_embeddings and not is_tied and len(stored) == 2 and says
PYTHON
