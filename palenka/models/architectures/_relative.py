"""What LTG-BERT and GPT-BERT share: attention with relative positions, gated inner layers, head, initialisation.

Samuel et al. 2023, "Trained on 100 million words and still in shape" (arXiv 2303.09859), and its code.
"""

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from palenka.models.architectures import ArchitectureConfig, BaseModelOutput


class RelativeConfig(ArchitectureConfig):
    """`initializer_range` is √(2 / (5 hidden_size)) unless it is given. Distances are told apart as far as below
    `max_position_embeddings`; a training's windows are no longer, as with every architecture."""

    hidden_size: int = 384
    intermediate_size: int = 1024
    num_hidden_layers: int = 12
    num_attention_heads: int = 6
    max_position_embeddings: int = 512
    position_bucket_size: int = 32
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    layer_norm_eps: float = 1e-7
    initializer_range: float | None = None  # type: ignore[assignment]
    tie_word_embeddings: bool = True


def bucket(distance: int, buckets: int, longest: int) -> int:
    """The bucket, 0 to buckets - 1, of a distance from 0: exact up to half of them, then in steps of its logarithm."""
    exact = buckets // 2
    distance = min(distance, longest - 1)
    if distance <= exact:
        return distance
    return exact + math.ceil(math.log(distance / exact) / math.log((longest - 1) / exact) * (exact - 1))


@cache
def _buckets(time: int, buckets: int, longest: int) -> tuple[int, ...]:
    return tuple(bucket(distance, buckets, longest) for distance in range(time))


def bucket_index(time: int, buckets: int, longest: int, device: torch.device) -> Tensor:
    """Int64 (time, time): the signed bucket of i - j, counted from the lowest of them, at (i, j)."""
    of_distance = torch.tensor(_buckets(time, buckets, longest), device=device)
    position = torch.arange(time, device=device)
    distance = position[:, None] - position
    return of_distance[distance.abs()] * distance.sign() + of_distance[-1]


def plain_norm(width: int, config: RelativeConfig) -> nn.LayerNorm:
    """Normalised, without a gain and a bias."""
    return nn.LayerNorm(width, config.layer_norm_eps, elementwise_affine=False)


def at_places(states: Tensor, places: Tensor) -> Tensor:
    """(batch, time, width) at (batch, places) → (batch, places, width)."""
    return states.gather(1, places[..., None].expand(-1, -1, states.shape[-1]))


class RelativeAttention(GradientCheckpointingLayer):
    """What a layer's attention is made of; each architecture has its own gates and norms around it."""

    def __init__(self, config: RelativeConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.scale = (3 * width // self.heads) ** -0.5
        self.norm = plain_norm(width, config)
        self.queries_keys = nn.Linear(width, 2 * width)
        self.queries_keys.parts = 2  # type: ignore[assignment]  # for optimizers that look at matrices
        self.output = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def attend(
        self, states: Tensor, values: Tensor, relative: Tensor, index: Tensor, hidden: Tensor,
        places: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The weighted mean of the values that each position sees, all heads beside each other; 0 where it sees none.

            score(i, j) = (q_i · k_j + q_i · k_{b(i-j)} + q_{b(i-j)} · k_j) / √(3 d)

        Args:
            states, values: (batch, time, width).
            relative: (buckets, width), the table of relative positions, as far as inputs of this length reach.
            index: (time, time), the row b(i-j) of that table.
            hidden: bool (batch or 1, 1, time, time): what the position of a row does not see.
            places: (batch, places), the positions of each sequence that look; None: all.
        """
        queries, keys = self.queries_keys(states).chunk(2, -1)
        if places is not None:
            batch, time, _ = states.shape
            queries, index = at_places(queries, places), index[places][:, None]
            hidden = at_places(hidden.expand(batch, 1, time, time)[:, 0], places)[:, None]
        queries, keys, values = map(self._by_head, (queries, keys, values))
        relative_queries, relative_keys = map(self._by_head, self.queries_keys(self.dropout(relative)).chunk(2, -1))
        scores = self._to_relative(queries, relative_keys, index)
        scores = scores + self._to_relative(keys, relative_queries, index.mT).mT
        scores = scores.flatten(0, 1).baddbmm(queries.flatten(0, 1), keys.flatten(0, 1).mT, alpha=self.scale)
        scores = scores.unflatten(0, queries.shape[:2])
        # A row that sees nothing would be even after the softmax, as all its scores are the same.
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(hidden, 0)
        context = self.dropout(scores).to(values.dtype) @ values
        return context.transpose(1, 2).flatten(-2)

    def _by_head(self, states: Tensor) -> Tensor:
        """(…, time, width) → (…, heads, time, width / heads)."""
        return states.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def _to_relative(self, states: Tensor, relative: Tensor, index: Tensor) -> Tensor:
        """Scores of (batch, heads, time, size) with those of (heads, buckets, size) that `index` says: its shape.

        One product for a head, whatever the number of sequences.
        """
        scores = torch.einsum("bhtd,hrd->bhtr", states, relative * self.scale)
        return scores.gather(-1, index.expand(*states.shape[:2], *index.shape[-2:]))


class GatedFeedForward(GradientCheckpointingLayer):
    """GEGLU (Shazeer 2020, arXiv 2002.05202), with a norm before each of its products."""

    def __init__(self, config: RelativeConfig, layer: int) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.norm = plain_norm(width, config)
        self.inner = nn.Linear(width, 2 * inner, bias=False)
        self.inner.parts = 2  # type: ignore[assignment]
        self.activation = nn.GELU(approximate="tanh")
        self.inner_norm = plain_norm(inner, config)
        self.output = nn.Linear(inner, width, bias=False)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        for matrix in (self.inner, self.output):  # of first values: the deeper, the smaller
            matrix.initial_scale = (2 * (1 + layer)) ** -0.5

    def forward(self, states: Tensor, *positions: Tensor, places: Tensor | None = None) -> Tensor:
        """(batch, time, width) → the same; positions are none of its business."""
        states, gate = self.inner(self.norm(states)).chunk(2, dim=-1)
        states = self.inner_norm(states * self.activation(gate))
        output: Tensor = self.dropout(self.output(states))
        return output


class RelativeBody(nn.Module):
    """Embeddings, sublayers, and the head's layers up to the last, which is the model's `head`."""

    Attention: type[RelativeAttention]

    def __init__(self, config: Any) -> None:
        super().__init__()
        width, dropout = config.hidden_size, config.hidden_dropout_prob
        self.buckets, self.longest = config.position_bucket_size, config.max_position_embeddings
        self.embedding = nn.Embedding(config.vocab_size, width)
        self.embedding_norm = plain_norm(width, config)
        self.relative_embedding = nn.Embedding(2 * self.buckets - 1, width)
        self.relative_norm = nn.LayerNorm(width, config.layer_norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.sublayers = nn.ModuleList(
            sublayer
            for layer in range(config.num_hidden_layers)
            for sublayer in (self.Attention(config), GatedFeedForward(config, layer))
        )
        self.transform = nn.Sequential(
            plain_norm(width, config), nn.Linear(width, width), nn.GELU(), plain_norm(width, config),
            nn.Dropout(dropout),
        )  # fmt: skip

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, output_hidden_states: bool = False,
        places: Tensor | None = None, **_: object,
    ) -> BaseModelOutput:  # fmt: skip
        positions = self._positions(input_ids.shape[1], attention_mask, input_ids.device)
        states = self.dropout(self.embedding_norm(self.embedding(input_ids)))
        hidden, earlier = [states], [states]
        for number, sublayer in enumerate(self.sublayers):
            looking = places if number == len(self.sublayers) - 2 else None  # after it, no position sees others
            added = sublayer(states, *positions, places=looking)
            if looking is not None:
                states, *earlier = (at_places(each, looking) for each in (states, *earlier))
            states = self.next_states(number, states + added, earlier)
            if output_hidden_states and number % 2:
                hidden.append(states)
        last = self.transform(states)
        return BaseModelOutput(last, (*hidden[:-1], last) if output_hidden_states else None)

    def next_states(self, number: int, states: Tensor, earlier: list[Tensor]) -> Tensor:
        """What follows after a sublayer of such a number.

        Args:
            number: of the sublayer, from 0; each layer has two.
            states: the residual stream with what the sublayer added, (batch, time, width).
            earlier: the embeddings; for a body that looks back, to note its states in.
        """
        return states

    def _positions(self, time: int, mask: Tensor | None, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        index = bucket_index(time, self.buckets, self.longest, device)
        centre, reach = self.buckets - 1, bucket(time - 1, self.buckets, self.longest)
        relative = self.relative_norm(self.relative_embedding.weight[centre - reach : centre + reach + 1])
        causal = torch.ones(1, 1, time, time, dtype=torch.bool, device=device).triu(1)
        return relative, index, causal if mask is None else mask < 0


class RelativeModel:
    """What makes an `Architecture` of such a body: a bias in the head, and first values."""

    config: Any
    head_bias = True

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            std = self.config.initializer_range or (2 / (5 * self.config.hidden_size)) ** 0.5
            std *= getattr(module, "initial_scale", 1.0)
            init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm) and module.elementwise_affine:
            init.ones_(module.weight)
            init.zeros_(module.bias)

