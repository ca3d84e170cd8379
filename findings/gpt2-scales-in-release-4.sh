#!/usr/bin/env bash
# transformers 4.51.3, a GPT-2 with scale_attn_weights: false, in eager and in fused attention (sdpa, the default).
#   guess   the same logits
#   found   fused attention ignores the key, without a warning: other logits
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" transformers==4.51.3 torch==2.13.0 numpy==2.4.6
python - <<'PYTHON'
import torch
from transformers import GPT2Config, GPT2LMHeadModel

sizes = dict(vocab_size=50, n_embd=24, n_head=2, n_layer=2, n_positions=32, initializer_range=0.5)
for scaled in (True, False):
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(**sizes, scale_attn_weights=scaled)).save_pretrained("model")
    models = [GPT2LMHeadModel.from_pretrained("model", attn_implementation=name).eval() for name in ("eager", "sdpa")]
    with torch.no_grad():
        one, other = (model(torch.arange(8)[None]).logits for model in models)
    difference = (one - other).abs().max().item()
    print(f"scale_attn_weights {scaled}: eager and fused logits differ by up to {difference:.1e}")
    assert (difference > 1e-2) == (not scaled)
PYTHON
