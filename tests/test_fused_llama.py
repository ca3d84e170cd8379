"""Llama's layers as two hand-written functions: what the layers compute, and only where that is what they would."""

import copy
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import terms
import tiny
import torch
from torch import Tensor, nn
from trainings import plan_for
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from palenka.models import fused_llama
from palenka.models.attention import AttentionRecorder
from palenka.models.fused_llama import FusedLlamaLayer, use_fused_layers
from palenka.training.build import build_student

LLAMA = {**tiny.LLAMA, **terms.SPREAD}
GROUPED = {**LLAMA, "num_attention_heads": 4, "num_key_value_heads": 2}
SHAPES = {
    "plain": LLAMA,
    "one head": {**LLAMA, "num_attention_heads": 1},
    "grouped": GROUPED,
    "wide heads": {**GROUPED, "head_dim": 12},
    "another epsilon": {**LLAMA, "rms_norm_eps": 0.3},
}
SEQUENCES, LENGTH = 3, 12
LEAST = torch.finfo(torch.float32).min
SEEN = torch.arange(9, 9 + SEQUENCES)[:, None, None, None]
CAUSAL = torch.full((LENGTH, LENGTH), LEAST).triu(1)[None, None]
MASKS = {
    "causal": CAUSAL,
    "full": torch.zeros(SEQUENCES, 1, LENGTH, LENGTH),
    "of each sequence": torch.where(torch.arange(LENGTH) < SEEN, 0.0, LEAST).expand(-1, -1, LENGTH, -1),
    "graded": torch.arange(float(LENGTH * LENGTH)).sin().view(1, 1, LENGTH, LENGTH),
    "nothing visible": torch.full((1, 1, LENGTH, LENGTH), LEAST),
}
"""Those that palenka makes, and more."""


def plain_model(keys: Any = LLAMA) -> PreTrainedModel:
    """One in training whose norms do something."""
    model = tiny.model(keys)
    torch.manual_seed(2)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model.train()


def fused(model: PreTrainedModel) -> PreTrainedModel:
    """The same, with the layers under test."""
    model = copy.deepcopy(model)
    use_fused_layers(model)
    return model


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[FusedLlamaLayer]:
    """The layers that took the hand-written way, one after the other."""
    taken: list[FusedLlamaLayer] = []
    way = FusedLlamaLayer._fused

    def noting(layer: FusedLlamaLayer, *arguments: Any) -> Tensor:
        taken.append(layer)
        return way(layer, *arguments)

    monkeypatch.setattr(FusedLlamaLayer, "_fused", noting)
    return taken


def layer_of(model: PreTrainedModel) -> Any:
    return model.base_model.layers[0]


def states_of(model: PreTrainedModel) -> Tensor:
    shape = SEQUENCES, LENGTH, model.config.hidden_size
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(model.dtype).requires_grad_()


def inputs_of(model: PreTrainedModel, mask: Tensor | None = CAUSAL, positions: int = 1) -> dict[str, Any]:
    """What a model gives its layers: rotations of one row of positions, or of `positions` unlike each other."""
    rows = torch.arange(LENGTH) + 5 * torch.arange(positions)[:, None]
    embeddings = model.base_model.rotary_emb(states_of(model), rows)
    return {"attention_mask": None if mask is None else mask.to(model.dtype), "position_embeddings": embeddings}


def run_layer(model: PreTrainedModel, **given: Any) -> dict[str, Tensor]:
    """The output of the first layer and the gradients of all that goes into it, of a loss that weighs each number."""
    layer, states = layer_of(model), states_of(model)
    output = layer(states, **given)
    (output * torch.arange(output.numel(), dtype=output.dtype).cos().view_as(output)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {"output": output.detach(), "states": states.grad, **gradients}


def assert_close(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    """All of one but for a share of the largest."""
    assert found.keys() == expected.keys()
    for name, exact in expected.items():
        off = (found[name].double() - exact.double()).abs().max() / exact.double().abs().max()
        assert off < tolerance, (name, off)


@pytest.mark.parametrize("keys", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("positions", [1, SEQUENCES])
def test_output_and_gradients_are_the_layers(
    keys: Any, mask: Tensor, positions: int, calls: list[FusedLlamaLayer]
) -> None:
    """As close to the exact ones as the layer's own are."""
    plain = plain_model(keys)
    exact = copy.deepcopy(plain).double()
    found = run_layer(fused(plain), **inputs_of(plain, mask, positions))
    assert len(calls) == 1
    assert_close(found, run_layer(plain, **inputs_of(plain, mask, positions)), 3e-6)
    assert_close(found, run_layer(exact, **inputs_of(exact, mask, positions)), 3e-6)


def test_the_functions_are_differentiated_right() -> None:
    """In float64, against differences; four query heads on two key heads, two rows of positions, a graded mask."""
    torch.manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64)

    def trained(*shapes: tuple[int, ...]) -> list[Tensor]:
        return [random(*shape).requires_grad_() for shape in shapes]

    angles = random(2, 3, 2).repeat(1, 1, 2)
    settings, given = fused_llama._Settings(0.1, 4, 0.5), (random(2, 1, 3, 3), angles.cos(), angles.sin())
    states, *weights = trained((2, 3, 5), (5,), (16, 5), (8, 5), (8, 5), (5, 16))
    attention = functools.partial(fused_llama._Attention.apply, settings)
    assert torch.autograd.gradcheck(attention, (states, *given, *weights))
    states, *weights = trained((2, 3, 5), (5,), (7, 5), (7, 5), (5, 7))
    assert torch.autograd.gradcheck(functools.partial(fused_llama._Mlp.apply, 0.1), (states, *weights))


NAMES = [name for name, _ in layer_of(tiny.model(LLAMA)).named_parameters()]


@pytest.mark.parametrize("trained", [[], *([name] for name in NAMES), NAMES[:4], NAMES], ids=len)
@pytest.mark.parametrize("from_below", [False, True])
def test_what_is_frozen_gets_no_gradient_and_the_rest_gets_its_own(
    trained: list[str], from_below: bool, calls: list[FusedLlamaLayer]
) -> None:
    model = fused(plain_model())
    expected = run_layer(fused(plain_model()), **inputs_of(model))
    for name, parameter in layer_of(model).named_parameters():
        parameter.requires_grad_(name in trained)
    states = states_of(model).requires_grad_(from_below)
    output = layer_of(model)(states, **inputs_of(model))
    assert output.requires_grad == bool(trained or from_below)
    if output.requires_grad:
        (output * torch.arange(output.numel()).cos().view_as(output)).sum().backward()
    found = {"states": states.grad, **{name: each.grad for name, each in layer_of(model).named_parameters()}}
    assert {name for name, each in found.items() if each is not None} == {*trained, *["states"] * from_below}
    assert all(torch.equal(each, expected[name]) for name, each in found.items() if each is not None)
    assert len(calls) == 2


def loss_and_gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    tokens, labels = tiny.batch()
    loss = model(tokens, labels=labels, use_cache=False).loss
    loss.backward()
    return {"loss": loss.detach(), **{name: each.grad for name, each in model.named_parameters()}}


@pytest.mark.parametrize("keys", [LLAMA, GROUPED, {**LLAMA, "tie_word_embeddings": True}], ids=str)
def test_a_whole_models_loss_and_gradients(keys: Any, calls: list[FusedLlamaLayer]) -> None:
    plain = plain_model(keys)
    assert_close(loss_and_gradients(fused(plain)), loss_and_gradients(plain), 1e-5)
    assert len(calls) == plain.config.num_hidden_layers


def test_every_bit_is_the_same_again() -> None:
    once, again = (loss_and_gradients(fused(plain_model())) for _ in range(2))
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_what_it_is_given_stays() -> None:
    """One sequence and one head, whose mask has the shape of the scores; and gradients are added to."""
    model = fused(plain_model(SHAPES["one head"]))
    states, mask, grad = states_of(model).detach()[:1].requires_grad_(), CAUSAL.clone(), torch.ones(1, LENGTH, 16)
    given, before = inputs_of(model, mask), states.detach().clone()
    output = layer_of(model)(states, **given)
    output.backward(grad, retain_graph=True)
    first = states.grad.clone()
    output.backward(grad)
    assert torch.equal(states.grad, 2 * first)
    assert torch.equal(mask, CAUSAL)
    assert torch.equal(grad, torch.ones_like(grad))
    assert torch.equal(states, before)


class Doubled(nn.Linear):
    def forward(self, states: Tensor) -> Tensor:
        return 2 * super().forward(states)


def replace_a_linear(layer: Any) -> None:
    layer.mlp.up_proj = Doubled(16, 32, bias=False)


def add_a_module(layer: Any) -> None:
    layer.self_attn.o_proj.extra = nn.Identity()


def add_a_bias(layer: Any) -> None:
    layer.self_attn.k_proj.bias = nn.Parameter(torch.ones(16))


def drop_out(layer: Any) -> None:
    layer.self_attn.attention_dropout = 0.5


def let_a_hook_double(layer: Any) -> None:
    layer.mlp.down_proj.register_forward_hook(lambda _, given, output: 2 * output)


def let_a_hook_halve(layer: Any) -> None:
    layer.input_layernorm.register_forward_pre_hook(lambda _, given: (given[0] / 2,))


def let_a_hook_see_gradients(layer: Any) -> None:
    layer.self_attn.v_proj.register_full_backward_hook(lambda _, inputs, outputs: None)


LAYERS_CHANGES: dict[str, Callable[[Any], object]] = {
    "evaluation": lambda layer: layer.eval(),
    "fused attention": lambda layer: setattr(layer.self_attn.config, "_attn_implementation", "sdpa"),
    "a recorder": lambda layer: setattr(layer.self_attn.config, "_attn_implementation", "recorded_eager"),
    "seen attention": lambda layer: setattr(layer.self_attn.config, "output_attentions", True),
    "another activation": lambda layer: setattr(layer.mlp, "act_fn", nn.GELU()),
    "dropout": drop_out,
    "another linear layer": replace_a_linear,
    "one module more": add_a_module,
    "a bias": add_a_bias,
    "a hook": let_a_hook_double,
    "a hook before": let_a_hook_halve,
    "a hook of gradients": let_a_hook_see_gradients,
}


def outputs_of_both(plain: PreTrainedModel, fast: PreTrainedModel, **given: Any) -> tuple[Tensor, Tensor]:
    """With the same random numbers."""
    outputs = []
    for model in (plain, fast):
        torch.manual_seed(1)
        outputs.append(layer_of(model)(states_of(model), **given))
    return outputs[0], outputs[1]


@pytest.mark.parametrize("change", LAYERS_CHANGES.values(), ids=LAYERS_CHANGES)
def test_another_layer_goes_its_own_way(change: Callable[[Any], object], calls: list[FusedLlamaLayer]) -> None:
    plain, fast = plain_model(), fused(plain_model())
    for model in (plain, fast):
        torch.manual_seed(0)
        change(layer_of(model))
    expected, found = outputs_of_both(plain, fast, **inputs_of(plain))
    assert torch.equal(found, expected)
    assert calls == []


CALLS: dict[str, dict[str, Any]] = {
    "no mask": {"attention_mask": None},
    "a mask of each head": {"attention_mask": CAUSAL.expand(1, 2, -1, -1)},
    "a mask of keys alone": {"attention_mask": CAUSAL[:, :, -1:]},
    "a mask that learns": {"attention_mask": CAUSAL.clone().requires_grad_()},
    "seen attention": {"output_attentions": True},
}


@pytest.mark.parametrize("changes", CALLS.values(), ids=CALLS)
def test_another_call_goes_its_own_way(changes: dict[str, Any], calls: list[FusedLlamaLayer]) -> None:
    plain = plain_model()
    expected, found = outputs_of_both(plain, fused(plain), **inputs_of(plain) | changes)
    assert torch.equal(found, expected)
    assert calls == []


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_precision_goes_its_own_way(dtype: torch.dtype, calls: list[FusedLlamaLayer]) -> None:
    plain = plain_model().to(dtype)
    expected, found = outputs_of_both(plain, fused(plain), **inputs_of(plain))
    assert torch.equal(found, expected)
    assert calls == []


def test_a_cache_is_filled(calls: list[FusedLlamaLayer]) -> None:
    model = fused(plain_model())
    cache = DynamicCache(config=model.config)
    layer_of(model)(states_of(model), past_key_values=cache, **inputs_of(model))
    assert cache.get_seq_length() == LENGTH
    assert calls == []


def test_autocast_and_no_gradient_go_their_own_way(calls: list[FusedLlamaLayer]) -> None:
    plain = plain_model()
    given = inputs_of(plain)
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = outputs_of_both(plain, fused(plain), **given)
    assert torch.equal(found, expected)
    with torch.no_grad():
        expected, found = outputs_of_both(plain, fused(plain), **given)
    assert torch.equal(found, expected)
    assert calls == []


def test_a_compiler_sees_the_layers_own_operators(
    calls: list[FusedLlamaLayer], monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph

    plain, fast = plain_model(), fused(plain_model())
    layer_of(fast).compile(backend=backend, fullgraph=True)
    expected, found = outputs_of_both(plain, fast, **inputs_of(plain))
    assert torch.equal(found, expected)
    assert len(graphs) == 1
    assert calls == []


def test_a_recorder_notes_what_it_noted(calls: list[FusedLlamaLayer]) -> None:
    model, tokens = fused(plain_model()), tiny.batch()[0]
    recorder = AttentionRecorder(model, {1})
    model(tokens, use_cache=False)
    assert recorder.take().keys() == {1}
    assert calls == []


def test_gradient_checkpointing_gives_the_same(calls: list[FusedLlamaLayer]) -> None:
    expected, model = loss_and_gradients(fused(plain_model())), fused(plain_model())
    model.activation_checkpointing_enable()
    found = loss_and_gradients(model)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert len(calls) == 3 * model.config.num_hidden_layers, "computed again on the way back"


def test_a_model_is_saved_as_before(tmp_path: Path) -> None:
    plain = plain_model()
    files = []
    for name, model in {"plain": plain, "fused": fused(plain)}.items():
        model.save_pretrained(tmp_path / name)
        saved = sorted((tmp_path / name).iterdir())
        files.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in saved})
    assert files[0] == files[1]
    assert fused(plain).state_dict().keys() == plain.state_dict().keys()


def test_states_are_shown_and_the_next_step_is_as_fast(calls: list[FusedLlamaLayer]) -> None:
    plain, tokens = plain_model(), tiny.batch()[0]
    fast = fused(plain)
    for _ in range(2):
        expected, found = (model(tokens, use_cache=False, output_hidden_states=True).hidden_states
                           for model in (plain, fast))  # fmt: skip
        assert len(found) == len(expected) == 3
        for states, others in zip(found, expected, strict=True):
            torch.testing.assert_close(states, others)
    assert len(calls) == 4
    seen = fast(tokens, use_cache=False, output_attentions=True).attentions
    assert len(seen) == 2
    assert all(each is not None for each in seen)


def test_hooks_of_the_layer_itself_are_called(calls: list[FusedLlamaLayer]) -> None:
    model, seen = fused(plain_model()), []
    layer = layer_of(model)
    layer.register_forward_hook(lambda _, given, output: seen.append("forward") or 2 * output)
    layer.register_full_backward_hook(lambda _, inputs, outputs: seen.append("backward"))
    doubled = run_layer(model, **inputs_of(model))["output"]
    assert torch.equal(doubled, 2 * run_layer(fused(plain_model()), **inputs_of(model))["output"])
    assert seen == ["forward", "backward"]
    assert len(calls) == 2


def test_another_architecture_stays_as_it_is() -> None:
    model = tiny.model(tiny.GPT2)
    before = [type(module) for module in model.modules()]
    use_fused_layers(model)
    assert [type(module) for module in model.modules()] == before


def test_a_student_has_them(prepared: Path, runs_folder: Path, calls: list[FusedLlamaLayer]) -> None:
    student = build_student(plan_for(tiny.train_values()), tiny.CPU)
    student(tiny.batch()[0], use_cache=False)
    assert len(calls) == student.config.num_hidden_layers
