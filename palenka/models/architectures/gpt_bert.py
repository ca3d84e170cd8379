"""GPT-BERT: Charpentier and Samuel 2024, "GPT or BERT: why not both?" (arXiv 2410.24159), and its code."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palenka.models.architectures import Architecture
from palenka.models.architectures._relative import (
    RelativeAttention,
    RelativeBody,
    RelativeConfig,
    RelativeModel,
    at_places,
    plain_norm,
)


class GptBertConfig(RelativeConfig):
    """`attention_gate` and `dense_weights`: the paper's model has both, its repository's smaller variant neither."""

    intermediate_size: int = 1280
    layer_norm_eps: float = 1e-5
    attention_gate: bool = True
    dense_weights: bool = True


class GptBertAttention(RelativeAttention):
    """What each position makes of those that it sees is gated by its own states."""

    def __init__(self, config: GptBertConfig) -> None:
        super().__init__(config)
        self.parts = 2 if config.attention_gate else 1
        self.values_gate = nn.Linear(config.hidden_size, self.parts * config.hidden_size)
        self.values_gate.parts = self.parts  # type: ignore[assignment]
        self.context_norm = plain_norm(config.hidden_size, config)

    def forward(
        self, states: Tensor, relative: Tensor, index: Tensor, hidden: Tensor, places: Tensor | None = None
    ) -> Tensor:
        states = self.norm(states)
        values, *gate = self.values_gate(states).chunk(self.parts, dim=-1)
        context = self.attend(states, values, relative, index, hidden, places)
        if gate:
            context = context * F.gelu(gate[0] if places is None else at_places(gate[0], places))
        output: Tensor = self.dropout(self.output(self.context_norm(context)))
        return output


class DenseWeights(nn.Module):
    """What a sublayer's follower starts from: a learned sum of the embeddings and of what stands after each sublayer.

    DenseFormer (Pagliardini et al. 2024, arXiv 2402.02622), after each sublayer instead of each layer.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.0] * (count - 1) + [1.0]))  # the last alone, at first

    def forward(self, states: list[Tensor]) -> Tensor:
        """`count` states (batch, time, width) → their weighted sum."""
        total = self.weight[0] * states[0]
        for weight, each in zip(self.weight[1:], states[1:], strict=True):
            total = torch.addcmul(total, weight, each)
        return total


class GptBertBody(RelativeBody):
    Attention = GptBertAttention

    def __init__(self, config: GptBertConfig) -> None:
        super().__init__(config)
        count = len(self.sublayers) if config.dense_weights else 0
        self.dense = nn.ModuleList(DenseWeights(number + 2) for number in range(count))

    def next_states(self, number: int, states: Tensor, earlier: list[Tensor]) -> Tensor:
        if not self.dense:
            return states
        earlier.append(states)
        mixed: Tensor = self.dense[number](earlier)
        return mixed


class GptBert(RelativeModel, Architecture):
    Config = GptBertConfig
    Body = GptBertBody
