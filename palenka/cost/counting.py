"""What a model multiplies, keeps for its backward pass and starts on a device, counted, whatever its architecture.

A model of few layers runs on fake tensors, without memory, and what it does is looked at: matrix
products and convolutions, tensors that autograd saves, operations that are not just another view. A GPU differs by what
its autocast takes in float32. What is no matrix product is no FLOP here: Mamba's scan of states is none.
"""

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PretrainedConfig
from transformers.initialization import no_init_weights

from palenka.models.config import of_depth
from palenka.models.huggingface import attention_implementation
from palenka.models.outputs import model_shape

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
    """Count a layer of a model in windows of `context` tokens, in float32 or low precision, on a "cpu" or "cuda"."""
    few, more = _counts(config, context, low, kind)
    return Layer(more.kept - few.kept, more.inference - few.inference, more.training - few.training)


def count_forward(config: PretrainedConfig, context: int) -> tuple[float, float]:
    """FLOPs of a token in windows of `context` tokens: in all of a model but its head, and in the head."""
    few, more = _counts(config, context, False, "cpu")
    layers = config.get_text_config().num_hidden_layers
    return few.flops + (more.flops - few.flops) * (layers - 1), few.head


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
        num_attention_heads=max(1, heads), vocab_size=shape.vocab_size,
    )  # fmt: skip


class _Counts(NamedTuple):
    """Of a whole model but its head: of a token, FLOPs and bytes kept; of a pass, kernels. And the head's FLOPs."""

    flops: float
    head: float
    kept: float
    inference: float
    training: float


def _counts(config: PretrainedConfig, context: int, low: bool, kind: str) -> list[_Counts]:
    """Of a model of one layer, and of one of two.

    An architecture that cannot run without data, as one that sends tokens to experts, is taken for a Llama of its size.
    """
    try:
        return _counted(config.to_json_string(), context, low, kind)
    except Exception:  # architectures fail in different ways
        return _counted(_llama_like(config).to_json_string(), context, low, kind)


@functools.cache
def _counted(written: str, context: int, low: bool, kind: str) -> list[_Counts]:
    config = AutoConfig.for_model(**json.loads(written))
    return [_run(of_depth(config, depth), context, low, kind) for depth in (1, 2)]


def _run(config: PretrainedConfig, context: int, low: bool, kind: str) -> _Counts:
    attention = attention_implementation(config, torch.device(kind))
    precision = torch.autocast("cpu", torch.bfloat16) if low else nullcontext()
    casts = _GpuCasts() if low and kind == "cuda" else nullcontext()
    with FakeTensorMode(allow_non_fake_inputs=True):
        with no_init_weights():  # some are drawn until they fit, which only data can tell
            model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).train()
        counter = _Counter([*model.parameters(), *model.buffers()])
        with counter, precision, casts, counter.keeping():
            model.base_model(torch.zeros(SEQUENCES, context, dtype=torch.long), use_cache=False)
    tokens, head = SEQUENCES * context, 2 * model.get_output_embeddings().weight.numel()
    inference, training = counter.kernels - counter.casts, counter.kernels * (1 + BACKWARD)
    return _Counts(counter.flops / tokens, head, counter.kept / tokens, inference, training)


class _Counter(TorchDispatchMode):
    """Counts FLOPs, kernels, and bytes saved for backward besides weights and their copies in low precision."""

    def __init__(self, weights: list[Tensor]) -> None:
        super().__init__()
        self.flops = self.kernels = self.casts = self.kept = 0
        self._weights = {_storage(weight) for weight in weights}
        self._saved: dict[int, Tensor] = {}  # so that their storages are not reused

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func._overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
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
