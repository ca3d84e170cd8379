"""What a layer of a model keeps for its backward pass and starts on a device, counted, whatever its architecture.

A model of few layers runs without memory on a CPU that is none (fake tensors), and what it does is looked at: tensors
that autograd saves, operations that are not just another view. A GPU differs by what its autocast takes in float32.
"""

import copy
import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PretrainedConfig

from palenka.models.huggingface import attention_implementation, model_shape

DEPTHS = 1, 2
"""Layers of the models that are compared: what they have in common besides layers drops out."""
SEQUENCES = 4  # among which a layer's masks and angles are shared
BACKWARD = 1.6  # kernels of a backward pass for each of the forward one, counted of a Llama and a GPT-2
VIEWS = {torch.ops.aten._unsafe_view.default, torch.ops.aten.detach.default}
FLOAT32_ON_GPUS = {torch.pow, Tensor.pow, Tensor.__pow__, torch.rsqrt, torch.exp, Tensor.exp}


@dataclass(frozen=True)
class Layer:
    """Of one layer, by the mean.

    kept: bytes that autograd keeps of each token.
    inference, training: kernels of a forward pass without gradients, and of a forward and a backward pass.
    """

    kept: float
    inference: float
    training: float


def count_layer(config: PretrainedConfig, context: int, low: bool, kind: str) -> Layer:
    """Count a layer of a model in windows of `context` tokens, in float32 or low precision, on a "cpu" or "cuda".

    An architecture that cannot run without data, as one that sends tokens to experts, is taken for a Llama of its size.
    """
    try:
        return _count(config.to_json_string(), context, low, kind)
    except Exception:  # architectures refuse in many ways
        return _count(_llama_like(config).to_json_string(), context, low, kind)


def inner_size(config: PretrainedConfig) -> int:
    """Width of a layer's inner part, four times its own where the architecture does not say."""
    text = config.get_text_config()
    given = (getattr(text, name, None) for name in ("intermediate_size", "n_inner", "ffn_dim"))
    return next((size for size in given if isinstance(size, int)), 4 * text.hidden_size)


def _llama_like(config: PretrainedConfig) -> LlamaConfig:
    shape = model_shape(config)
    heads = shape.num_attention_heads if shape.hidden_size % max(1, shape.num_attention_heads) == 0 else 1
    return LlamaConfig(
        hidden_size=shape.hidden_size, intermediate_size=inner_size(config), num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=max(1, heads),
    )  # fmt: skip


@functools.cache
def _count(config: str, context: int, low: bool, kind: str) -> Layer:
    few, more = (_run(_of_depth(config, depth), context, low, kind) for depth in DEPTHS)
    layers = DEPTHS[1] - DEPTHS[0]
    return Layer(*((b - a) / layers for a, b in zip(few, more, strict=True)))


def _of_depth(written: str, depth: int) -> PretrainedConfig:
    """A config cut to fewer layers, with all lists that have a value for each."""
    config: PretrainedConfig = AutoConfig.for_model(**json.loads(written))
    text = config.get_text_config()
    layers = text.num_hidden_layers
    cut = copy.deepcopy(text)
    for key, value in vars(text).items():
        if isinstance(value, list | tuple) and len(value) == layers:
            setattr(cut, key, (list(value) * depth)[:depth])
    cut.num_hidden_layers = depth
    return cut


def _run(config: PretrainedConfig, context: int, low: bool, kind: str) -> tuple[float, float, float]:
    """Bytes kept of each token, kernels of inference, kernels of training."""
    attention = attention_implementation(config, torch.device(kind))
    precision = torch.autocast("cpu", torch.bfloat16) if low else nullcontext()
    casts = _GpuCasts() if low and kind == "cuda" else nullcontext()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).train()
        counter = _Counter([*model.parameters(), *model.buffers()])
        with counter, precision, casts, counter.keeping():
            model.base_model(torch.zeros(SEQUENCES, context, dtype=torch.long), use_cache=False)
    return counter.kept / (SEQUENCES * context), counter.kernels - counter.casts, counter.kernels * (1 + BACKWARD)


class _Counter(TorchDispatchMode):
    """Counts kernels, and bytes saved for a backward pass besides weights and their copies in low precision."""

    def __init__(self, weights: list[Tensor]) -> None:
        super().__init__()
        self.kernels = self.casts = self.kept = 0
        self._weights = {_storage(weight) for weight in weights}
        self._saved: dict[int, Tensor] = {}  # so that their storages are not reused

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.kernels += func.namespace == "aten" and not func.is_view and func not in VIEWS
        if func is torch.ops.aten._to_copy.default and _storage(args[0]) in self._weights:
            self.casts += 1
            self._weights.add(_storage(result))
            self._saved[-len(self._saved) - 1] = result
        return result

    @contextmanager
    def keeping(self) -> Iterator[None]:
        with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor):
            yield

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = _storage(tensor)
        if storage not in self._weights and storage not in self._saved:
            self.kept += tensor.untyped_storage().nbytes()
            self._saved[storage] = tensor
        return tensor


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class _GpuCasts(TorchFunctionMode):
    """What autocast takes in float32 on a GPU, and not on a CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in FLOAT32_ON_GPUS:
            args = [each.float() if isinstance(each, Tensor) and each.is_floating_point() else each for each in args]
        return func(*args, **(kwargs or {}))
