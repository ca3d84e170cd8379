"""Causal language models of many architectures, by their type in Hugging Face's library, with keys for small ones."""

from collections.abc import Mapping
from typing import Any

SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 64,
}  # fmt: skip
OLD_SIZES = {"n_embd": 16, "n_layer": 2, "n_head": 2}
DECODER = {**SIZES, "is_decoder": True}
LINEAR: Mapping[str, Mapping[str, Any]] = {
    "gpt2": OLD_SIZES, "gptj": {**OLD_SIZES, "rotary_dim": 4}, "gpt_neox": SIZES, "llama": SIZES, "mistral": SIZES,
    "qwen2": SIZES, "qwen3": {**SIZES, "head_dim": 8}, "gemma": {**SIZES, "head_dim": 8}, "phi": SIZES, "olmo2": SIZES,
    "stablelm": SIZES, "falcon": SIZES, "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2},
    "mamba": {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
    "opt": {**SIZES, "ffn_dim": 32, "word_embed_proj_dim": 8},
}  # fmt: skip
MORE: Mapping[str, Mapping[str, Any]] = {
    "gemma2": {**SIZES, "head_dim": 8}, "granite": {**SIZES, "logits_scaling": 8.0}, "cohere": SIZES, "bert": DECODER,
    "roberta": {**DECODER, "max_position_embeddings": 66},
}  # fmt: skip
"""Those whose logits are more than a linear layer of their last states."""
ALL = {**LINEAR, **MORE}
