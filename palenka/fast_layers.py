"""Layers of a frozen model replaced by faster ones of the same function, on a CPU above all.

PyTorch's own float32 products on a CPU go through MKL, which uses the full vector width on Intel's processors only:
on others, oneDNN's take as little as half the time. In either precision, a weight that is laid out once as oneDNN
reads it need not be in every product, and the activation behind a product costs almost nothing while that is still in
the cache. PyTorch reaches all this by operators of its own compiler's; where they are missing or do not give the
product, linear layers stay as they are.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN, NewGELUActivation
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
from transformers.models.gptj.modeling_gptj import GPTJMLP
from transformers.models.llama.modeling_llama import LlamaMLP
from transformers.pytorch_utils import Conv1D

VECTOR_UNITS = ("AVX2", "AVX512")
PRECISIONS = (torch.float32, torch.bfloat16)
SILU: type = type(ACT2FN["silu"])
NO_ACTIVATION = ("none", "")
ACTIVATIONS: dict[type, tuple[str, str]] = {NewGELUActivation: ("gelu", "tanh"), SILU: ("swish", "")}
"""The operator's name of an activation, and of the algorithm for it."""
ACTIVATED: dict[type, tuple[str, str]] = {
    GPT2MLP: ("c_fc", "act"), GPTJMLP: ("fc_in", "act"), LlamaMLP: ("gate_proj", "act_fn"),
}  # fmt: skip
"""Attributes: a layer, and the activation that alone sees what comes from it."""


class PackedLinear(nn.Module):
    """The function of an `nn.Linear` or `Conv1D` with a copy of its weight as oneDNN reads it; without gradients.

    `activation` follows the product.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        weight = layer.weight.detach().t() if isinstance(layer, Conv1D) else layer.weight.detach()
        self.weight = packed(weight)
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.activation = NO_ACTIVATION

    def forward(self, states: Tensor) -> Tensor:
        """(…, in) → (…, out)"""
        return product(states, self.weight, self.bias, self.activation)


def packed(weight: Tensor) -> Tensor:
    """A copy of a weight (out, in) in the layout that `product` is fastest with; opaque to other operators."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)


def product(
    states: Tensor, weight: Tensor, bias: Tensor | None, activation: tuple[str, str] = NO_ACTIVATION
) -> Tensor:
    """states (…, in), a packed weight (out, in), bias (out,) → (…, out), all of one precision."""
    name, algorithm = activation
    return torch.ops.mkldnn._linear_pointwise(states, weight, bias, name, [], algorithm)


def use_fast_layers(model: nn.Module) -> None:
    """Replace those layers of a frozen model that have a faster form on its device and in its precision."""
    for parent in list(model.modules()):
        if type(parent) in ACTIVATED:
            _activate(parent, *ACTIVATED[type(parent)])
        for name, layer in list(parent.named_children()):
            if type(layer) in REPLACEMENTS:  # exactly: a subclass may compute something else
                setattr(parent, name, REPLACEMENTS[type(layer)](layer))


def _activate(parent: nn.Module, name: str, activation: str) -> None:
    """Replace a layer and its activation by one."""
    layer, kind = getattr(parent, name), type(getattr(parent, activation))
    if kind in ACTIVATIONS and isinstance(fast := _linear(layer), PackedLinear):
        fast.activation = ACTIVATIONS[kind]
        setattr(parent, name, fast)
        setattr(parent, activation, nn.Identity())


def _linear(layer: nn.Module) -> nn.Module:
    if type(layer) not in (nn.Linear, Conv1D) or layer.weight.device.type != "cpu":
        return layer
    return PackedLinear(layer) if is_onednn_usable(layer.weight.dtype) else layer


def _gelu(layer: nn.Module) -> nn.Module:
    """The same formula as one pass over memory instead of seven."""
    return nn.GELU(approximate="tanh")


REPLACEMENTS: dict[type, Callable[[nn.Module], nn.Module]] = {
    nn.Linear: _linear,
    Conv1D: _linear,
    NewGELUActivation: _gelu,
}


@cache
def is_onednn_usable(dtype: torch.dtype) -> bool:
    """Whether this machine and this PyTorch have the operators, and they give small products and activate them."""
    has_vectors = torch.backends.cpu.get_cpu_capability() in VECTOR_UNITS
    if dtype not in PRECISIONS or not has_vectors or not torch.backends.mkldnn.is_available():
        return False
    states, weight, bias = (torch.linspace(-1, 1, size).sin() for size in (6 * 32, 48 * 32, 48))
    states, weight, bias = states.view(2, 3, 32).to(dtype), (weight.view(48, 32) / 8).to(dtype), bias.to(dtype)
    try:
        plain = [product(states, packed(weight), bias), product(states, packed(weight), None) + bias]
        activated = [product(states, packed(weight), bias, ACTIVATIONS[kind]) for kind in (NewGELUActivation, SILU)]
    except (AttributeError, RuntimeError, TypeError):
        return False
    plainly = F.linear(states.float(), weight.float(), bias.float())
    expected = [plainly, plainly, F.gelu(plainly, approximate="tanh"), F.silu(plainly)]
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    return all(
        torch.allclose(ours.float(), plain, atol=tolerance)
        for ours, plain in zip([*plain, *activated], expected, strict=True)
    )
