"""The faster layers against those they replace."""

import copy
from typing import Any

import pytest
import tiny
import torch
from torch import nn
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from palenka.evaluation import fast_layers
from palenka.evaluation.fast_layers import SILU, OneDnnLinear, by_columns, is_onednn_usable, use_fast_layers

GPTJ = {
    "architecture": "gptj", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "rotary_dim": 4,
}  # fmt: skip
needs_onednn = pytest.mark.skipif(not is_onednn_usable(), reason="this machine or PyTorch has no fast oneDNN products")


def conv1d(inputs: int, outputs: int) -> Conv1D:
    layer = Conv1D(outputs, inputs)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


@needs_onednn
@pytest.mark.parametrize("shape", [(40,), (1, 40), (3, 7, 40), (2, 2, 3, 40)], ids=str)
@pytest.mark.parametrize("layer", [nn.Linear(40, 24), nn.Linear(40, 24, bias=False), conv1d(40, 24)], ids=repr)
@torch.inference_mode()
def test_a_product_is_the_layers(layer: Any, shape: tuple[int, ...]) -> None:
    states = torch.randn(shape)
    fast = OneDnnLinear(layer)
    torch.testing.assert_close(fast(states), layer(states), atol=1e-5, rtol=1e-5)
    assert torch.equal(fast(states), fast(states))
    across = torch.randn(*shape[:-1], 80)[..., ::2]
    torch.testing.assert_close(fast(across), layer(across), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_gelu_is_the_same_formula() -> None:
    [fast] = fast_model(nn.Sequential(NewGELUActivation()))
    assert isinstance(fast, nn.GELU)
    states = torch.linspace(-12, 12, 1001)
    torch.testing.assert_close(fast(states), NewGELUActivation()(states), atol=1e-6, rtol=1e-6)


def fast_model(model: Any) -> Any:
    use_fast_layers(model)
    return model


def activations(model: nn.Module) -> list[nn.Module]:
    return [layer for name, layer in model.named_modules() if name.endswith((".act", ".act_fn"))]


def linear_layers(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear | Conv1D)]


@needs_onednn
@pytest.mark.parametrize("keys", [tiny.GPT2, tiny.LLAMA, GPTJ], ids=["gpt2", "llama", "gptj"])
@torch.inference_mode()
def test_a_model_keeps_its_function_and_its_weights(keys: Any) -> None:
    model = tiny.model(keys).eval()
    plain = copy.deepcopy(model)
    places = {name: weight.data_ptr() for name, weight in model.named_parameters()}
    fast = fast_model(model)
    tokens, _ = tiny.batch()
    torch.testing.assert_close(fast(tokens).logits, plain(tokens).logits, atol=1e-5, rtol=1e-5)
    assert linear_layers(plain) and not linear_layers(fast)
    assert {type(layer) for layer in activations(plain)} <= {NewGELUActivation, SILU}
    assert {type(layer) for layer in activations(fast)} == {nn.Identity}
    assert {name: weight.data_ptr() for name, weight in fast.named_parameters()} == places


def test_a_tied_head_stays_the_embedding() -> None:
    fast = fast_model(tiny.model(tiny.GPT2))
    assert fast.get_output_embeddings().weight is fast.get_input_embeddings().weight


@needs_onednn
@torch.inference_mode()
def test_a_layer_by_columns_is_the_same_and_leaves_the_first_alone() -> None:
    layer = OneDnnLinear(nn.Linear(40, 24))
    fast = by_columns(layer)
    states = torch.randn(3, 7, 40)
    torch.testing.assert_close(fast(states), layer(states), atol=1e-5, rtol=1e-5)
    assert fast.weight.stride() == (1, 24) and layer.weight.stride() == (40, 1)
    plain, across = nn.Linear(40, 24), OneDnnLinear(conv1d(40, 24))
    assert by_columns(plain) is plain and by_columns(across) is across


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_stay_as_they_are(dtype: torch.dtype) -> None:
    assert linear_layers(fast_model(tiny.model(tiny.LLAMA).to(dtype)))


def test_a_layer_of_another_class_stays_as_it_is() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    model = nn.Sequential(Doubled(3, 3))
    assert type(fast_model(model)[0]) is Doubled


@pytest.mark.parametrize("fault", [AttributeError("no such operator"), RuntimeError("not on this machine"), None])
def test_without_a_working_operator_linear_layers_stay_as_they_are(
    fault: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if fault:
            raise fault
        return torch.zeros(*states.shape[:-1], len(weight))

    monkeypatch.setattr(fast_layers, "product", broken)
    monkeypatch.setattr(fast_layers, "is_onednn_usable", is_onednn_usable.__wrapped__)
    assert linear_layers(fast_model(tiny.model(tiny.LLAMA)))
