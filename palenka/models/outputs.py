"""What a model is to those who train it or learn from it: its sizes, and what it computed on its way to the logits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn
from transformers import PretrainedConfig


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a model that objectives need to know; no attention heads where the architecture has none."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    vocab_size: int
    head_dim: int | None = field(default=None, kw_only=True)

    @property
    def attention_size(self) -> int:
        """Width of queries, keys and values, all heads together: the hidden size, unless heads have their own."""
        if not self.num_attention_heads:
            return 0
        return self.num_attention_heads * self.head_dim if self.head_dim else self.hidden_size


def model_shape(config: PretrainedConfig) -> ModelShape:
    """The sizes that objectives need."""
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None) or 0
    return ModelShape(
        text.hidden_size, text.num_hidden_layers, heads, text.vocab_size, head_dim=getattr(text, "head_dim", None),
    )  # fmt: skip


class Attention(NamedTuple):
    """What one layer attends with, as it enters the products, rotated where positions are: (batch, heads, time, d)."""

    queries: Tensor
    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class States:
    """What a model computed on its way to the logits.

    hidden: (batch, time, width) of each layer, numbered as Hugging Face does: 0 = embeddings, last = after the final
        norm; empty where nothing needs them.
    attention: by layer, 1 to the last, those that an objective asked for.
    head: what makes logits of the last of them; a student's is linear, (vocabulary, width).
    """

    hidden: Sequence[Tensor]
    attention: Mapping[int, Attention]
    head: nn.Module
