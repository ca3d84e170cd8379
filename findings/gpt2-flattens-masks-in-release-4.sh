#!/usr/bin/env bash
# transformers 4.51.3, an attention mask of a row for each token (batch × 1 × tokens × tokens), given to Llama and GPT-2.
#   guess   both take it: documented for decoders, and both do in 5.23.0
#   found   GPT-2 flattens it to a row for each sequence, and its shapes no longer fit: a RuntimeError that names no mask
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" transformers==4.51.3 torch==2.13.0 numpy==2.4.6
python - <<'PYTHON'
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

sizes = dict(vocab_size=50, num_attention_heads=2, num_hidden_layers=2, hidden_size=24)
configs = {
    GPT2LMHeadModel: GPT2Config(**sizes, n_positions=32),
    LlamaForCausalLM: LlamaConfig(**sizes, intermediate_size=48, max_position_embeddings=32),
}
ids, mask = torch.arange(8)[None], torch.zeros(1, 1, 8, 8)  # nothing is hidden: each token sees all
for kind, config in configs.items():
    for attention in ("eager", "sdpa"):
        config._attn_implementation = attention
        model = kind(config).eval()
        try:
            with torch.no_grad():
                moved = (model(ids, attention_mask=mask).logits - model(ids).logits).abs().max().item()
            found = f"the first tokens see the later ones: logits move by up to {moved:.1e}"
        except RuntimeError as error:
            moved, found = 0.0, f"RuntimeError: {error}"
        print(f"{kind.__name__}, {attention}: {found}")
        assert (moved > 1e-4) == (kind is LlamaForCausalLM)
PYTHON
