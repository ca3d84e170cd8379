#!/usr/bin/env bash
# A Llama with yarn, factor 4 and original_max_position_embeddings equal to max_position_embeddings, read by transformers
# 4.51.3 and by 5.23.0 from one config.json that has the keys of both.
#   guess   the factor is the one that is given
#   found   4.51.3 takes max_position_embeddings / original_max_position_embeddings for it, 1 here: other frequencies
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" transformers==5.23.0 torch==2.13.0 numpy==2.4.6
cat > frequencies.py <<'PYTHON'
import sys

import torch
import transformers
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
release = int(transformers.__version__[0])
keys = {"rope_scaling": yarn, "rope_theta": 10000.0} if release == 4 else {"rope_parameters": {**yarn, "rope_theta": 10000.0}}
config = LlamaConfig(hidden_size=32, num_attention_heads=2, num_hidden_layers=1, max_position_embeddings=64, **keys)
found = LlamaRotaryEmbedding(config).inv_freq
plain = 10000.0 ** -(torch.arange(0, 16, 2) / 16)
print(transformers.__version__, "lowest frequency:", found[-1].item(), "unscaled:", plain[-1].item())
assert torch.allclose(found, plain) == (release == 4)
PYTHON
python frequencies.py
python -m pip install --quiet --disable-pip-version-check transformers==4.51.3
python frequencies.py
