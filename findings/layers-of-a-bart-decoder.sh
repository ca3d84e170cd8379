#!/usr/bin/env bash
# transformers 5.23.0, BartForCausalLM: a decoder alone, of 2 layers, in a config whose encoder has 5.
#   guess   config.num_hidden_layers is the number of layers that run
#   found   it is the encoder's: 5, where the model returns 3 hidden states (embeddings and 2 layers)
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" transformers==5.23.0 torch==2.13.0 numpy==2.4.6
python - <<'PYTHON'
import torch
from transformers import BartConfig, BartForCausalLM

config = BartConfig(vocab_size=64, d_model=16, encoder_layers=5, decoder_layers=2, decoder_attention_heads=2,
                    encoder_attention_heads=2, decoder_ffn_dim=16, encoder_ffn_dim=16, is_decoder=True)
states = BartForCausalLM(config).eval()(torch.arange(4)[None], output_hidden_states=True).hidden_states
print(f"num_hidden_layers {config.num_hidden_layers}, hidden states returned: {len(states)}")
assert config.num_hidden_layers == 5 and len(states) == 3
PYTHON
