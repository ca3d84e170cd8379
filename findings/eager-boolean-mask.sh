#!/usr/bin/env bash
# transformers 5.23.0, eager attention of Llama and GPT-2, a 4-D boolean mask (True: may be seen).
#   guess   positions that are False are hidden, as fused attention (sdpa) hides them
#   found   the mask is added to the scores as 0 and 1: with a causal triangle, a later token changes an earlier logit
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" transformers==5.23.0 torch==2.13.0 numpy==2.4.6
python - <<'PYTHON'
import torch
from transformers import AutoConfig, AutoModelForCausalLM

sizes = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
triangle = torch.ones(8, 8, dtype=torch.bool).tril()[None, None]
additive = torch.zeros(1, 1, 8, 8).masked_fill(~triangle, torch.finfo(torch.float32).min)
for kind in ("llama", "gpt2"):
    for attention in ("eager", "sdpa"):
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, **sizes, bos_token_id=None, eos_token_id=None, pad_token_id=None)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
        tokens = torch.arange(8)[None]
        changed = tokens.clone()
        changed[0, -1] = 63
        for name, mask in (("boolean", triangle), ("additive", additive)):
            with torch.no_grad():
                one, other = (model(ids, attention_mask=mask).logits[0, 0] for ids in (tokens, changed))
            moved = (one - other).abs().max().item()
            print(f"{kind}, {attention}, {name} mask: the last token moves the first logits by {moved:.1e}")
            assert (moved > 1e-6) == (attention == "eager" and name == "boolean")
PYTHON
