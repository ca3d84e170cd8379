#!/usr/bin/env bash
# A Llama with RoPE base 500, saved by transformers 5.23.0 and read by 4.51.3.
#   guess   the same model
#   found   5.23.0 writes the base into rope_parameters alone, which 4.51.3 does not know: it takes 10,000 without a
#           warning, and gives other logits
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" transformers==5.23.0 torch==2.13.0 numpy==2.4.6
cat > logits.py <<'PYTHON'
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("model", attn_implementation="eager").eval()
with torch.no_grad():
    torch.save(model(torch.arange(60)[None]).logits, sys.argv[1])
print(transformers.__version__, "reads rope_theta", getattr(model.config, "rope_theta", None),
      "rope_parameters", getattr(model.config, "rope_parameters", None))
PYTHON
python - <<'PYTHON'
import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                     rope_parameters={"rope_type": "default", "rope_theta": 500.0}, initializer_range=0.3)
LlamaForCausalLM(config).save_pretrained("model")
PYTHON
python logits.py five.pt
python -m pip install --quiet --disable-pip-version-check transformers==4.51.3
python -W error logits.py four.pt
python - <<'PYTHON'
import json

import torch

difference = (torch.load("five.pt") - torch.load("four.pt")).abs().max().item()
written = json.load(open("model/config.json"))
print(f"config.json: rope_theta {written.get('rope_theta')}, rope_parameters {written['rope_parameters']}; "
      f"logits differ by up to {difference:.3f}")
assert "rope_theta" not in written and difference > 0.01
PYTHON
