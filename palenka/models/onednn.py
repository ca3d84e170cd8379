"""Layers of a frozen model replaced by faster ones of the same function, on a CPU above all.

PyTorch's own float32 products on a CPU go through MKL, which uses the full vector width of Intel's processors; on
others, oneDNN's take as little as half the time, or as much (results/README.md). In either precision, a weight that is
laid out once as oneDNN reads it need not be in every product, and the activation after a product costs almost nothing
while that is still in the cache. PyTorch reaches all this by operators of its own compiler's; where they are missing
or do not give the product, linear layers stay as they are.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.activations import ACT2FN, NewGELUActivation
from transformers.pytorch_utils import Conv1D

from palenka.models.probing import is_close, probe_tokens

VECTOR_UNITS = ("AVX2", "AVX512")
PRECISIONS = (torch.float32, torch.bfloat16)
SILU: type = type(ACT2FN["silu"])
NO_ACTIVATION = ("none", "")
ACTIVATIONS: dict[type, tuple[str, str]] = {NewGELUActivation: ("gelu", "tanh"), SILU: ("swish", "")}
"""The operator's name of an activation, and of the algorithm for it."""
SAME_MODEL = 1e-3, 0.1
"""How far logits may be apart, of the largest, in float32 and in lower precisions, through rounding in all layers."""
PutBack = Callable[[], None]


class PackedLinear(nn.Module):
    """The function of an `nn.Linear` or `Conv1D` with a copy of its weight as oneDNN reads it; without gradients.

    `activation` follows the product.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        weight = layer.weight.detach().t() if isinstance(layer, Conv1D) else layer.weight.detach()
        self.kind = type(layer)
        self.out_features, self.in_features = weight.shape
        self.weight = packed(weight)
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.activation = NO_ACTIVATION

    def forward(self, states: Tensor) -> Tensor:
        """(…, in) → (…, out)"""
        return product(states, self.weight, self.bias, self.activation)

    def unpacked(self) -> nn.Module:
        """The layer that it replaced, whose memory was freed."""
        with torch.device("meta"):
            layer = self.kind(*((self.out_features, self.in_features)[:: 1 if self.kind is Conv1D else -1]))
        weight = self.weight.to_dense()
        layer.weight = nn.Parameter(weight.t() if self.kind is Conv1D else weight, requires_grad=False)
        layer.bias = None if self.bias is None else nn.Parameter(self.bias, requires_grad=False)
        return layer


def packed(weight: Tensor) -> Tensor:
    """A copy of a weight (out, in) in the layout that `product` is fastest with; opaque to other operators."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)


def product(
    states: Tensor, weight: Tensor, bias: Tensor | None, activation: tuple[str, str] = NO_ACTIVATION
) -> Tensor:
    """states (…, in), a packed weight (out, in), bias (out,) → (…, out), all of one precision."""
    name, algorithm = activation
    return torch.ops.mkldnn._linear_pointwise(states, weight, bias, name, [], algorithm)


@torch.no_grad()
def use_onednn(model: PreTrainedModel, part: nn.Module | None = None) -> None:
    """Replace those layers of a frozen model, or of a part of it, that have a faster form.

    An architecture may also use a layer's weight by hand, as Mamba does, or an activation's input: the model is tried
    on a few tokens before and after, and left as it was where that goes wrong.
    """
    part, tokens = part or model, probe_tokens(model)
    with _activations_noted(part) as noted:
        plain = model(tokens, use_cache=False).logits
    put_back = [*replace_layers(part), *_fuse(part, noted)]
    if not _gives(model, tokens, plain):
        for undo in reversed(put_back):
            undo()
        model.tie_weights()


def _gives(model: PreTrainedModel, tokens: Tensor, expected: Tensor) -> bool:
    try:
        return is_close(model(tokens, use_cache=False).logits, expected, SAME_MODEL)
    except Exception:  # architectures fail in different ways
        return False


def replace_layers(part: nn.Module) -> list[PutBack]:
    """Replace all layers below a module that have a faster form on its device and in its precision."""
    return [
        _replace(parent, name, layer, REPLACEMENTS[type(layer)](layer))
        for parent in list(part.modules())
        for name, layer in list(parent.named_children())
        if type(layer) in REPLACEMENTS  # exactly: a subclass may compute something else
    ]


def _replace(parent: nn.Module, name: str, layer: nn.Module, fast: nn.Module) -> PutBack:
    setattr(parent, name, fast)
    if isinstance(fast, PackedLinear):  # which is to hold the only copy of the weight
        return lambda: setattr(parent, name, fast.unpacked())
    return lambda: setattr(parent, name, layer)


class _Activated(NamedTuple):
    """An activation that was called, and the linear layer whose output it was given, if it was one's, by name."""

    layer: str | None
    activation: str
    kind: type


@contextmanager
def _activations_noted(part: nn.Module) -> Iterator[list[_Activated]]:
    """Fill the list with the activations that are called within."""
    given: dict[int, tuple[str, Tensor]] = {}  # by identity, which holds as long as the tensor is kept
    noted: list[_Activated] = []

    def note_layer(name: str, output: Tensor) -> None:
        given[id(output)] = name, output

    def note_activation(name: str, kind: type, states: Tensor) -> None:
        noted.append(_Activated(given.get(id(states), (None,))[0], name, kind))

    hooks = [
        layer.register_forward_hook(lambda _, inputs, output, name=name: note_layer(name, output))
        for name, layer in part.named_modules()
        if type(layer) in (nn.Linear, Conv1D)
    ] + [
        layer.register_forward_pre_hook(lambda layer, inputs, name=name: note_activation(name, type(layer), inputs[0]))
        for name, layer in part.named_modules()
        if type(layer) in ACTIVATIONS
    ]
    yield noted
    for hook in hooks:
        hook.remove()


def _fuse(part: nn.Module, noted: list[_Activated]) -> Iterator[PutBack]:
    """Fuse each linear layer with the activation after it, unless that is slower within: a tanh is, without AVX512."""
    kinds = {kind for kind in ACTIVATIONS if kind is not NewGELUActivation or _has_fast_tanh()}
    calls = Counter(each.activation for each in noted)
    for name, activation, kind in noted:
        layer = part.get_submodule(name) if name else None
        if kind in kinds and isinstance(layer, PackedLinear) and calls[activation] == 1:
            layer.activation = ACTIVATIONS[kind]
            parent, _, child = activation.rpartition(".")
            holder = part.get_submodule(parent)
            yield _replace(holder, child, holder.get_submodule(child), nn.Identity())


def _has_fast_tanh() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def _linear(layer: nn.Module) -> nn.Module:
    if type(layer) not in (nn.Linear, Conv1D) or layer.weight.device.type != "cpu":
        return layer
    return PackedLinear(layer) if is_onednn_usable(layer.weight.dtype) else layer


class TanhGelu(nn.Module):
    """The tanh formula of GELU in few passes over memory; without gradients.

    In float32 on a CPU it is x · sigmoid(√(8/π) (x + 0.044715 x³)), the same, as 1 + tanh(z) = 2 sigmoid(2z): a tanh
    takes as long as four sigmoids.
    """

    def forward(self, states: Tensor) -> Tensor:
        if states.device.type != "cpu" or states.dtype != torch.float32:
            return F.gelu(states, approximate="tanh")
        scale = math.sqrt(8 / math.pi)
        return states.square().mul_(scale * 0.044715).add_(scale).mul_(states).sigmoid_().mul_(states)


def _gelu(layer: nn.Module) -> nn.Module:
    is_tanh = not isinstance(layer, nn.GELU) or layer.approximate == "tanh"
    return TanhGelu() if is_tanh else layer


REPLACEMENTS: dict[type, Callable[[nn.Module], nn.Module]] = {
    nn.Linear: _linear,
    Conv1D: _linear,
    NewGELUActivation: _gelu,
    nn.GELU: _gelu,
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
