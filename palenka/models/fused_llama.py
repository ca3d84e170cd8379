"""Layers of a Llama in training on a CPU, with their gradients written out by hand.

A small model's layer is hundreds of short operators, whose passes over memory and whose bookkeeping take a third of its
time; its products take the rest. Here a layer is two functions, attention and MLP, each with its norm and its sum, that
make the same products in fewer passes and keep less for the way back:

    h = x + attention(norm(x)),  y = h + mlp(norm(h))

The weights stay where they are, and so do the layers: a case that these functions were not written for goes through the
layer's own code.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer, LlamaMLP, LlamaRMSNorm

from palenka.models.onednn import SILU

CAPTURING = "transformers.utils.output_capturing"
"""Whose hooks stay on a model that was once asked for its states, and do nothing unless it is asked for them."""


def use_fused_layers(model: PreTrainedModel) -> None:
    """Let the layers of a Llama, which another model has none of, choose the faster functions where these serve."""
    for layer in model.modules():
        if type(layer) is LlamaDecoderLayer:  # exactly: a subclass may compute something else
            layer.__class__ = FusedLlamaLayer


class FusedLlamaLayer(LlamaDecoderLayer):
    """A layer that becomes one by its class alone: its modules, weights and hooks are as they were."""

    PARTS = (
        LlamaAttention, *[nn.Linear] * 4, LlamaMLP, *[nn.Linear] * 3, SILU, *[LlamaRMSNorm] * 2,
    )  # fmt: skip

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None,
        past_key_values: Any = None, use_cache: bool | None = False,
        position_embeddings: tuple[Tensor, Tensor] | None = None, **others: Any,
    ) -> Tensor:  # fmt: skip
        """States (batch, time, width) → the same, as `LlamaDecoderLayer` does it."""
        if (
            attention_mask is not None and position_embeddings is not None and past_key_values is None
            and self._is_training_plainly(others) and self._is_as_built() and _is_plain(hidden_states, attention_mask)
        ):  # fmt: skip
            return self._fused(hidden_states, attention_mask, *position_embeddings)
        output: Tensor = super().forward(
            hidden_states, attention_mask=attention_mask, position_ids=position_ids, past_key_values=past_key_values,
            use_cache=use_cache, position_embeddings=position_embeddings, **others,
        )  # fmt: skip
        return output

    def _fused(self, states: Tensor, mask: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        attention, mlp, first, second = self.self_attn, self.mlp, self.input_layernorm, self.post_attention_layernorm
        projections = attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj
        settings = _Settings(first.variance_epsilon, attention.head_dim, attention.scaling)
        weights = [layer.weight for layer in (first, *projections)]
        states = _Attention.apply(settings, states, mask, cos, sin, *weights)
        weights = [layer.weight for layer in (second, mlp.gate_proj, mlp.up_proj, mlp.down_proj)]
        output: Tensor = _Mlp.apply(second.variance_epsilon, states, *weights)
        return output

    def _is_training_plainly(self, options: dict[str, Any]) -> bool:
        """Whether it is trained step by step, with plain attention that nobody wants to see."""
        config = self.self_attn.config
        return (
            self.training and torch.is_grad_enabled()
            and not torch.compiler.is_compiling()  # a compiler fuses by itself
            and config._attn_implementation == "eager"  # a CPU's; not a recorder's
            and not self.self_attn.attention_dropout
            and not options.get("output_attentions", config.output_attentions)
        )  # fmt: skip

    def _is_as_built(self) -> bool:
        """Whether all within it is what Hugging Face built, without biases, and would not be missed if not called."""
        _, *parts = self.modules()
        return tuple(map(type, parts)) == self.PARTS and not any(
            _is_watched(part) or getattr(part, "bias", None) is not None for part in parts
        )


def _is_plain(states: Tensor, mask: Tensor) -> bool:
    """Whether states (batch, time, width) and a mask, of all heads and every position, are a CPU's in float32."""
    batch, time, _ = states.shape
    return (
        states.device.type == "cpu" and states.dtype == mask.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu") and not mask.requires_grad
        and mask.shape in ((1, 1, time, time), (batch, 1, time, time))
    )  # fmt: skip


def _is_watched(part: nn.Module) -> bool:
    """Whether a module has hooks that would miss its call."""
    hooks = (part._forward_pre_hooks, part._forward_hooks, part._backward_pre_hooks, part._backward_hooks)
    return any(getattr(hook, "__module__", None) != CAPTURING for of in hooks for hook in of.values())


class _Settings(NamedTuple):
    """The norm's epsilon, how long a head's vectors are, and the factor of its scores."""

    epsilon: float
    head_dim: int
    scaling: float


class _Attention(torch.autograd.Function):
    """x + softmax(s · q kᵀ + mask) v · Woᵀ, with q, k and v from norm(x); several query heads may share a key head.

    A position turns the pairs (i, i + head_dim / 2) of queries and keys (RoPE, arXiv 2104.09864): one product, if a
    pair is a complex number. To be that it has to lie side by side, and so the weights' rows are put; scores are the
    same in any order.
    """

    @staticmethod
    def forward(
        ctx: Any, settings: _Settings, states: Tensor, mask: Tensor, cos: Tensor, sin: Tensor, *weights: Tensor
    ) -> Tensor:
        """States (batch, time, width), an additive mask (batch or 1, 1, time, time), cos and sin (batch or 1, time,
        head_dim), and weights of the norm, of queries, keys, values and output → (batch, time, width)."""
        (batch, time, width), head_dim = states.shape, settings.head_dim
        scale, *inward, outward = weights
        rows = states.reshape(-1, width)
        normed, inverse = _normalised(rows, settings.epsilon)
        turns = torch.complex(cos[:, None, :, : head_dim // 2], sin[:, None, :, : head_dim // 2])
        queries, keys, values = (
            (normed @ (weight * scale).t()).view(batch, time, -1, head_dim) for weight in _paired(inward, head_dim)
        )
        heads, groups = queries.shape[2], batch * keys.shape[2]
        queries, keys = (_turned(each, turns).view(groups, -1, head_dim) for each in (queries, keys))
        values = values.transpose(1, 2).reshape(keys.shape)
        shares = mask.new_empty(batch, heads, time, time).copy_(mask).view(groups, -1, time)
        torch.baddbmm(shares, queries, keys.transpose(1, 2), alpha=settings.scaling, out=shares)
        torch.softmax(shares, dim=-1, out=shares)
        attended = (shares @ values).view(batch, heads, time, head_dim).transpose(1, 2).reshape(len(rows), -1)
        ctx.save_for_backward(normed, inverse, turns, queries, keys, values, shares, attended, *weights)
        ctx.settings, ctx.shape = settings, states.shape
        return torch.addmm(rows, attended, outward.t()).view(states.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """That of the output → those of what `forward` was given."""
        normed, inverse, turns, queries, keys, values, shares, attended, *weights = ctx.saved_tensors
        (batch, time, width), head_dim, wanted = ctx.shape, ctx.settings.head_dim, ctx.needs_input_grad
        scale, *inward, outward = weights
        grad = grad.reshape(-1, width)
        of_attended = (grad @ outward).view(batch, time, -1, head_dim).transpose(1, 2).reshape(queries.shape)
        of_values = (shares.transpose(1, 2) @ of_attended).view(batch, -1, time, head_dim).transpose(1, 2)
        of_scores = of_attended @ values.transpose(1, 2)
        torch.ops.aten._softmax_backward_data.out(of_scores, shares, -1, shares.dtype, grad_input=of_scores)
        back = turns.transpose(1, 2).conj() * ctx.settings.scaling
        of_queries, of_keys = (
            _turned(each.view(batch, -1, time, head_dim), back)
            for each in (of_scores @ keys, of_scores.transpose(1, 2) @ queries)
        )
        of_projected = [each.reshape(len(grad), -1) for each in (of_queries, of_keys, of_values)]
        products = _Products(normed, inverse, scale, _paired(inward, head_dim))
        of_scale, of_inward = products.of_weights(of_projected, wanted[5:9])
        of_states = products.of_input(of_projected, grad).view(ctx.shape) if wanted[1] else None
        of_outward = grad.t() @ attended if wanted[9] else None
        return None, of_states, None, None, None, of_scale, *_unpaired(of_inward, head_dim), of_outward


class _Mlp(torch.autograd.Function):
    """x + (silu(g) ⊙ u) · Wdᵀ, with g and u from norm(x) (SwiGLU, arXiv 2002.05202)."""

    @staticmethod
    def forward(ctx: Any, epsilon: float, states: Tensor, *weights: Tensor) -> Tensor:
        """States (batch, time, width), and weights of the norm, of gate, up and down → (batch, time, width)."""
        scale, *inward, down = weights
        rows = states.reshape(-1, states.shape[-1])
        normed, inverse = _normalised(rows, epsilon)
        gate, up = (normed @ (weight * scale).t() for weight in inward)
        sigmoid = gate.sigmoid()  # kept: no other pass over memory takes as long as one with an exponential function
        activated = (gate * sigmoid).mul_(up)
        ctx.save_for_backward(normed, inverse, gate, up, sigmoid, activated, *weights)
        return torch.addmm(rows, activated, down.t()).view(states.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """That of the output → those of what `forward` was given."""
        normed, inverse, gate, up, sigmoid, activated, scale, *inward, down = ctx.saved_tensors
        shape, wanted = grad.shape, ctx.needs_input_grad
        grad = grad.reshape(-1, shape[-1])
        of_activated, silu = grad @ down, gate * sigmoid
        of_up = of_activated * silu
        slope = silu.lerp_(torch.ones_like(silu[:1, :1]), sigmoid)  # silu' = silu + (1 - silu) · sigmoid
        of_projected = [of_activated.mul_(up).mul_(slope), of_up]
        products = _Products(normed, inverse, scale, inward)
        of_scale, of_inward = products.of_weights(of_projected, wanted[2:5])
        of_states = products.of_input(of_projected, grad).view(shape) if wanted[1] else None
        of_down = grad.t() @ activated if wanted[5] else None
        return None, of_states, of_scale, *of_inward, of_down


class _Products(NamedTuple):
    """A norm and the products with its output, as their gradients need them.

    normed: (rows, width), the input times `inverse` (rows, 1), both without gradient.
    scale: the norm's weights (width,). They are multiplied into those of the products, which are fewer numbers.
    weights: each (out, width).
    """

    normed: Tensor
    inverse: Tensor
    scale: Tensor
    weights: Sequence[Tensor]

    def of_weights(
        self, of_products: Sequence[Tensor], wanted: Sequence[bool]
    ) -> tuple[Tensor | None, list[Tensor | None]]:
        """Gradients of `scale` and of each of `weights`, those `wanted`, from each product's (rows, out)."""
        if not any(wanted):
            return None, [None] * len(self.weights)
        scaled = [of.t() @ self.normed for of in of_products]
        of_scale = torch.stack([(of * weight).sum(dim=0) for of, weight in zip(scaled, self.weights, strict=True)])
        of_weights = [of.mul_(self.scale) if wants else None for of, wants in zip(scaled, wanted[1:], strict=True)]
        return of_scale.sum(dim=0) if wanted[0] else None, of_weights

    def of_input(self, of_products: Sequence[Tensor], of_sum: Tensor) -> Tensor:
        """The gradient of the input (rows, width), which also is a part of a sum with the gradient `of_sum`."""
        of_normed = torch.zeros_like(self.normed)
        for of_product, weight in zip(of_products, self.weights, strict=True):
            torch.addmm(of_normed, of_product, weight * self.scale, out=of_normed)
        along = (of_normed * self.normed).sum(dim=-1, keepdim=True)
        of_normed.addcmul_(self.normed, along, value=-1 / self.normed.shape[-1])
        return torch.addcmul(of_sum, of_normed, self.inverse)


def _normalised(rows: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Rows (rows, width) over their root mean squares (RMSNorm, arXiv 1910.07467), and the factors (rows, 1)."""
    inverse = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).square_().div_(rows.shape[-1]).add_(epsilon).rsqrt_()
    return rows * inverse, inverse


def _turned(vectors: Tensor, turns: Tensor) -> Tensor:
    """Vectors of pairs (batch, n, m, head_dim), laid out as (batch, m, n, head_dim), each pair times its complex
    number of `turns`, which has that shape but for half the length, or 1 for a size."""
    turned = torch.empty_like(vectors.transpose(1, 2), memory_format=torch.contiguous_format)
    torch.mul(_as_complex(vectors).transpose(1, 2), turns, out=_as_complex(turned))
    return turned


def _as_complex(vectors: Tensor) -> Tensor:
    """(…, 2 n) → complex (…, n), of the same memory."""
    return torch.view_as_complex(vectors.unflatten(-1, (-1, 2)))


def _paired(weights: Sequence[Tensor], head_dim: int) -> list[Tensor]:
    """Weights (out, width) of queries, keys and values; rows that make a pair of the first two lie side by side."""
    queries, keys, values = weights
    return [_swapped(queries, 2, head_dim // 2), _swapped(keys, 2, head_dim // 2), values]


def _unpaired(weights: Sequence[Tensor | None], head_dim: int) -> list[Tensor | None]:
    """The inverse of `_paired`, of those that there are."""
    queries, keys, values = weights
    return [*(None if each is None else _swapped(each, head_dim // 2, 2) for each in (queries, keys)), values]


def _swapped(weight: Tensor, outer: int, inner: int) -> Tensor:
    """A weight (… · outer · inner, width) with its rows in the order … · inner · outer."""
    return weight.unflatten(0, (-1, outer, inner)).transpose(1, 2).reshape(weight.shape)
