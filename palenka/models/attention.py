"""What chosen layers attend with, noted while a model runs: queries, keys and values as they enter the products."""

import sys
from collections.abc import Callable, Collection
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from palenka.models.outputs import Attention

PREFIX = "recorded_"
_recorders: "WeakKeyDictionary[nn.Module, AttentionRecorder]" = WeakKeyDictionary()


class AttentionRecorder:
    """Notes queries, keys and values of chosen layers, 1 to the last, of one model.

    The model computes what it did before: its attention function is replaced by one that notes what it is given.
    """

    def __init__(self, model: PreTrainedModel, layers: Collection[int]) -> None:
        self.layers = frozenset(layers)
        self.noted: dict[int, Attention] = {}
        implementation = model.config._attn_implementation
        if model._can_set_attn_implementation() and not implementation.startswith(PREFIX):
            model.set_attn_implementation(PREFIX + implementation)
        for module in model.modules():
            if hasattr(module, "layer_idx") and module.layer_idx + 1 in self.layers:
                _recorders[module] = self
                if hasattr(module, "_attn"):  # GPT-J computes its attention in its own method
                    module._attn = _noting(module, module._attn)

    def note(self, module: Any, queries: Tensor, keys: Tensor, values: Tensor) -> None:
        groups = queries.shape[1] // keys.shape[1]  # query heads that share a key head
        keys, values = (tensor.repeat_interleave(groups, dim=1) if groups > 1 else tensor for tensor in (keys, values))
        self.noted[module.layer_idx + 1] = Attention(queries, keys, values)

    def take(self) -> dict[int, Attention]:
        """What was noted since the last call, by layer."""
        noted, self.noted = self.noted, {}
        return noted


def _noting(module: nn.Module, attend: Callable[..., Any]) -> Callable[..., Any]:
    def noting(queries: Tensor, keys: Tensor, values: Tensor, *rest: Any, **options: Any) -> Any:
        _recorders[module].note(module, queries, keys, values)
        return attend(queries, keys, values, *rest, **options)

    return noting


def _recorded(implementation: str) -> Callable[..., Any]:
    def attend(module: nn.Module, queries: Tensor, keys: Tensor, values: Tensor, *rest: Any, **options: Any) -> Any:
        if module in _recorders:
            _recorders[module].note(module, queries, keys, values)
        eager = sys.modules[type(module).__module__].eager_attention_forward
        function = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager)
        return function(module, queries, keys, values, *rest, **options)

    return attend


for _name in ("eager", "sdpa"):
    ALL_ATTENTION_FUNCTIONS.register(PREFIX + _name, _recorded(_name))
    ALL_MASK_ATTENTION_FUNCTIONS.register(PREFIX + _name, ALL_MASK_ATTENTION_FUNCTIONS[_name])
