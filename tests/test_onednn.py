"""The faster layers against those they replace."""

import copy
from typing import Any

import pytest
import tiny
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from palenka.models import onednn
from palenka.models.onednn import SILU, PackedLinear, TanhGelu, is_onednn_usable, replace_layers, use_onednn

GPTJ = {
    "architecture": "gptj", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "rotary_dim": 4,
}  # fmt: skip


HAS_FAST_TANH = torch.backends.cpu.get_cpu_capability() == "AVX512"
FUSED = {"llama": nn.Identity} | dict.fromkeys(("gpt2", "gptj"), nn.Identity if HAS_FAST_TANH else TanhGelu)
"""What is left of activations after a product."""


def skipped_without(*dtypes: torch.dtype) -> pytest.MarkDecorator:
    usable = all(map(is_onednn_usable, dtypes))
    return pytest.mark.skipif(not usable, reason="this machine or PyTorch has no fast oneDNN products")


needs_onednn = skipped_without(torch.float32)
SAME_GELU = {torch.float32: {"atol": 1e-6, "rtol": 1e-6}, torch.bfloat16: {"atol": 1e-3, "rtol": 2**-8}}
CLOSE = {torch.float32: {"atol": 1e-5, "rtol": 1e-5}, torch.bfloat16: {"atol": 0.05, "rtol": 0.02}}
precisions = pytest.mark.parametrize(
    "dtype", [pytest.param(dtype, marks=skipped_without(dtype), id=str(dtype)) for dtype in CLOSE]
)


def conv1d(inputs: int, outputs: int) -> Conv1D:
    layer = Conv1D(outputs, inputs)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


@precisions
@pytest.mark.parametrize("shape", [(40,), (1, 40), (3, 7, 40), (2, 2, 3, 40)], ids=str)
@pytest.mark.parametrize("layer", [nn.Linear(40, 24), nn.Linear(40, 24, bias=False), conv1d(40, 24)], ids=repr)
@torch.inference_mode()
def test_a_product_is_the_layers(layer: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    layer = copy.deepcopy(layer).to(dtype)
    states = torch.randn(shape).to(dtype)
    fast = PackedLinear(layer)
    torch.testing.assert_close(fast(states), layer(states), **CLOSE[dtype])
    assert torch.equal(fast(states), fast(states))
    across = torch.randn(*shape[:-1], 80).to(dtype)[..., ::2]
    torch.testing.assert_close(fast(across), layer(across), **CLOSE[dtype])


@pytest.mark.parametrize("gelu", [NewGELUActivation(), nn.GELU(approximate="tanh")], ids=["transformers", "torch"])
@pytest.mark.parametrize("dtype", CLOSE)
@torch.inference_mode()
def test_gelu_is_the_same_formula(gelu: nn.Module, dtype: torch.dtype) -> None:
    [fast] = fast_model(nn.Sequential(gelu))
    assert type(fast) is TanhGelu
    states = torch.linspace(-12, 12, 1001).to(dtype)
    given = states.clone()
    exact = NewGELUActivation()(states.double())
    torch.testing.assert_close(fast(states).double(), exact, **SAME_GELU[dtype])
    assert torch.equal(states, given)
    assert type(fast_model(nn.Sequential(nn.GELU()))[0]) is nn.GELU, "another formula"


def fast_model(model: Any) -> Any:
    (use_onednn if isinstance(model, PreTrainedModel) else replace_layers)(model)
    return model


def activations(model: nn.Module) -> list[nn.Module]:
    return [layer for name, layer in model.named_modules() if name.endswith((".act", ".act_fn"))]


def linear_layers(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear | Conv1D)]


@precisions
@pytest.mark.parametrize("keys", [tiny.GPT2, tiny.LLAMA, GPTJ], ids=["gpt2", "llama", "gptj"])
@torch.inference_mode()
def test_a_model_keeps_its_function(keys: Any, dtype: torch.dtype) -> None:
    model = tiny.model(keys).eval().to(dtype)
    plain = copy.deepcopy(model)
    fast = fast_model(model)
    tokens, _ = tiny.batch()
    torch.testing.assert_close(fast(tokens).logits, plain(tokens).logits, **CLOSE[dtype])
    assert linear_layers(plain) and not linear_layers(fast)
    assert {type(layer) for layer in activations(plain)} <= {NewGELUActivation, SILU}
    assert {type(layer) for layer in activations(fast)} == {FUSED[keys["architecture"]]}


@needs_onednn
@torch.inference_mode()
def test_the_embedding_of_a_tied_head_stays() -> None:
    model = tiny.model(tiny.GPT2)
    embedding = model.get_input_embeddings().weight
    fast = fast_model(model)
    assert fast.get_input_embeddings().weight is embedding
    states = torch.randn(3, 24)
    torch.testing.assert_close(fast.get_output_embeddings()(states), states @ embedding.T, atol=1e-5, rtol=1e-5)


def mamba(**keys: Any) -> Any:
    config = AutoConfig.for_model("mamba", hidden_size=16, num_hidden_layers=2, state_size=4, vocab_size=320, **keys)
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


@pytest.mark.parametrize("tied", [True, False])
@torch.inference_mode()
def test_a_model_that_multiplies_a_layers_weight_by_hand_is_left_as_it_is(tied: bool) -> None:
    plain = mamba(tie_word_embeddings=tied)
    fast = fast_model(copy.deepcopy(plain))
    assert list(map(repr, fast.modules())) == list(map(repr, plain.modules()))
    assert fast.state_dict().keys() == plain.state_dict().keys()
    assert all(torch.equal(weight, plain.state_dict()[name]) for name, weight in fast.state_dict().items())
    assert (fast.get_input_embeddings().weight is fast.get_output_embeddings().weight) == tied
    assert torch.equal(fast(tiny.batch()[0]).logits, plain(tiny.batch()[0]).logits)


@needs_onednn
def test_a_packed_layer_gives_its_weight_back() -> None:
    for layer in (nn.Linear(40, 24), nn.Linear(40, 24, bias=False), conv1d(40, 24)):
        unpacked = PackedLinear(layer).unpacked()
        assert repr(unpacked) == repr(layer)
        assert unpacked.state_dict().keys() == layer.state_dict().keys()
        assert all(torch.equal(weight, layer.state_dict()[name]) for name, weight in unpacked.state_dict().items())


@needs_onednn
@torch.inference_mode()
def test_an_activation_is_fused_only_where_nothing_else_sees_its_input() -> None:
    class Peeking(type(tiny.model(tiny.LLAMA).model.layers[0].mlp)):  # type: ignore[misc]
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            gate = self.gate_proj(states)
            return self.down_proj((self.act_fn(gate) + gate) * self.up_proj(states))

    model = tiny.model(tiny.LLAMA).eval()
    for layer in model.model.layers:
        layer.mlp.__class__ = Peeking
    plain = copy.deepcopy(model)
    torch.testing.assert_close(fast_model(model)(tiny.batch()[0]).logits, plain(tiny.batch()[0]).logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
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
    product = onednn.product
    called = []

    def broken(*arguments: Any, **options: Any) -> torch.Tensor:
        called.append(arguments)
        if fault:
            raise fault
        return product(*arguments, **options) + 0.1

    monkeypatch.setattr(onednn, "product", broken)
    monkeypatch.setattr(onednn, "is_onednn_usable", is_onednn_usable.__wrapped__)
    assert linear_layers(fast_model(tiny.model(tiny.LLAMA)))
    assert called
