"""Layers of a float32 model replaced by faster ones of the same function, for inference on a CPU.

PyTorch's own float32 products on a CPU go through MKL, which uses the full vector width on Intel's processors only:
on others, oneDNN's take less than half the time. PyTorch reaches them by an operator of its own compiler's; where
that operator is missing or does not give the product, all linear layers stay as they are. It also applies the
activation behind a product while that is still in the cache.
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
SILU: type = type(ACT2FN["silu"])
NO_ACTIVATION = ("none", "")
ACTIVATIONS: dict[type, tuple[str, str]] = {NewGELUActivation: ("gelu", "tanh"), SILU: ("swish", "")}
"""The operator's name of an activation, and of the algorithm for it."""
ACTIVATED: dict[type, tuple[str, str]] = {
    GPT2MLP: ("c_fc", "act"), GPTJMLP: ("fc_in", "act"), LlamaMLP: ("gate_proj", "act_fn"),
}  # fmt: skip
"""Attributes: a layer, and the activation that alone sees what comes from it."""


class OneDnnLinear(nn.Module):
    """The function of an `nn.Linear` or `Conv1D` on its own parameters, without gradients; `activation` follows it."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.weight: Tensor = layer.weight
        self.bias: Tensor | None = layer.bias
        self.transposed = isinstance(layer, Conv1D)
        self.activation = NO_ACTIVATION

    def forward(self, states: Tensor) -> Tensor:
        """(…, in) → (…, out)"""
        return product(states, self.weight.t() if self.transposed else self.weight, self.bias, self.activation)


def product(
    states: Tensor, weight: Tensor, bias: Tensor | None, activation: tuple[str, str] = NO_ACTIVATION
) -> Tensor:
    """states (…, in), weight (out, in), bias (out,) → (…, out), all float32."""
    name, algorithm = activation
    return torch.ops.mkldnn._linear_pointwise(states, weight, bias, name, [], algorithm)


def by_columns(layer: nn.Module) -> nn.Module:
    """A faster layer's function on a copy of its weight that lies column by column; other layers as they are.

    The wide products of a vocabulary layer take a twentieth to a tenth less time so, which is worth a copy there.
    """
    if not isinstance(layer, OneDnnLinear) or layer.transposed:
        return layer
    copy = OneDnnLinear(layer)
    copy.weight = nn.Parameter(layer.weight.detach().t().contiguous().t(), requires_grad=False)
    return copy


def use_fast_layers(model: nn.Module) -> None:
    """Replace those layers of a model that are float32 on a CPU and have a faster form. Weights stay where they are."""
    if any(weight.device.type != "cpu" or weight.dtype != torch.float32 for weight in model.parameters()):
        return
    for parent in list(model.modules()):
        if type(parent) in ACTIVATED and is_onednn_usable():
            _activate(parent, *ACTIVATED[type(parent)])
        for name, layer in list(parent.named_children()):
            if type(layer) in REPLACEMENTS:  # exactly: a subclass may compute something else
                setattr(parent, name, REPLACEMENTS[type(layer)](layer))


def _activate(parent: nn.Module, name: str, activation: str) -> None:
    """Replace a layer and its activation by one."""
    layer, kind = getattr(parent, name), type(getattr(parent, activation))
    if type(layer) in REPLACEMENTS and kind in ACTIVATIONS:
        fast = OneDnnLinear(layer)
        fast.activation = ACTIVATIONS[kind]
        setattr(parent, name, fast)
        setattr(parent, activation, nn.Identity())


def _linear(layer: nn.Module) -> nn.Module:
    return OneDnnLinear(layer) if is_onednn_usable() else layer


def _gelu(layer: nn.Module) -> nn.Module:
    """The same formula as one pass over memory instead of seven."""
    return nn.GELU(approximate="tanh")


REPLACEMENTS: dict[type, Callable[[nn.Module], nn.Module]] = {
    nn.Linear: _linear,
    Conv1D: _linear,
    NewGELUActivation: _gelu,
}


@cache
def is_onednn_usable() -> bool:
    """Whether this machine and this PyTorch have the operator, and it gives small products and activates them."""
    if torch.backends.cpu.get_cpu_capability() not in VECTOR_UNITS or not torch.backends.mkldnn.is_available():
        return False
    states, weight, bias = (torch.linspace(-1, 1, size).sin() for size in (6 * 32, 48 * 32, 48))
    states, weight = states.view(2, 3, 32), weight.view(48, 32)
    try:
        plain = [product(states, weight, bias), product(states, weight.t().contiguous().t(), None) + bias]
        activated = [product(states, weight, bias, ACTIVATIONS[kind]) for kind in (NewGELUActivation, SILU)]
    except (AttributeError, RuntimeError, TypeError):
        return False
    plainly = F.linear(states, weight, bias)
    expected = [plainly, plainly, F.gelu(plainly, approximate="tanh"), F.silu(plainly)]
    return all(torch.allclose(*pair, atol=1e-5) for pair in zip([*plain, *activated], expected, strict=True))
