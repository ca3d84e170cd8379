"""Muon against a plain reference in float64, what it makes orthogonal, and which parameters are matrices of a body."""

from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn
from toy_encoder import ToyEncoder
from transformers.pytorch_utils import Conv1D

from palenka import optimizers
from palenka.optimizers import Hyperparameters, Optimizer, muon


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any CPU."""
    monkeypatch.setattr(muon, "fast_precision", lambda device: "fp32")


def built(module: nn.Module, knobs: dict[str, Any] | None = None, **changes: Any) -> Optimizer:
    values = {"optimizer": {"name": "muon"} | (knobs or {}), "lr": 0.1, "weight_decay": 0.5} | changes
    return optimizers.build(Hyperparameters.model_validate(values), module)


def body(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Names of what is made orthogonal, with axis and number of parts."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    return {
        names[parameter]: (group["axis"], group["parts"])
        for group in built(module).param_groups if "momentum" in group
        for parameter in group["params"]
    }  # fmt: skip


def in_student(model: nn.Module) -> nn.Module:
    return nn.ModuleDict({"student": model})


class Layers(nn.Module):
    """A student without head."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)

    @property
    def student(self) -> nn.Module:
        return self

    def get_output_embeddings(self) -> None:
        return None


def with_condition(rows: int, columns: int, condition: float) -> Tensor:
    """A matrix whose singular values fall from 1 to 1 / condition."""
    generator = torch.Generator().manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(rows, columns, generator=generator), full_matrices=False)
    return 30 * u @ torch.diag(torch.logspace(0, -np.log10(condition), min(rows, columns))) @ v


# What is orthogonal


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (12, 40), (32, 64)])
def test_singular_values_come_near_1_and_directions_stay(rows: int, columns: int) -> None:
    matrix = with_condition(rows, columns, 10)
    found = muon.orthogonal(matrix[None])[0]
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.65
    assert values.max() < 1.25
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.mT @ found @ v.mT
    torch.testing.assert_close(inner, torch.diag(inner.diagonal()), rtol=0, atol=1e-4)


def test_five_iterations_of_a_number_by_hand() -> None:
    """A matrix of one row has one singular value, which becomes 1 by its norm: then p(1), p(p(1)), …"""
    a, b, c = muon.COEFFICIENTS
    value = 1.0
    for _ in range(5):
        value = a * value + b * value**3 + c * value**5
    torch.testing.assert_close(muon.orthogonal(torch.tensor([[[3.0, -4.0]]]))[0], value * torch.tensor([[0.6, -0.8]]))


def test_in_bf16_it_is_the_same_but_for_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = with_condition(16, 24, 5)[None]
    exact = muon.orthogonal(matrix)
    monkeypatch.setattr(muon, "fast_precision", lambda device: "bf16")
    rounded = muon.orthogonal(matrix)
    assert rounded.dtype == torch.float32 and 0 < (rounded - exact).norm() < 0.05 * exact.norm()


# Steps


def plain_orthogonal(matrix: Any) -> Any:
    """Of any shape, in float64."""
    a, b, c = muon.COEFFICIENTS
    x = matrix / (np.linalg.norm(matrix) + 1e-7)
    for _ in range(5):
        x = a * x + b * (x @ x.T) @ x + c * (x @ x.T) @ (x @ x.T) @ x
    return x


@pytest.mark.parametrize(("inputs", "outputs"), [(6, 6), (4, 10), (10, 4)])
def test_several_steps_are_those_of_a_plain_reference(inputs: int, outputs: int) -> None:
    """Momentum is the sum of gradients here, as Muon is mostly written: a mean is that times a number, and no other."""
    torch.manual_seed(0)
    module = Layers(linear=nn.Linear(inputs, outputs, bias=False))
    weight = module.layers["linear"].weight
    optimizer = built(module, {"momentum": 0.9}, lr=0.02, weight_decay=0.5)
    expected, total = weight.detach().double().numpy().copy(), np.zeros((outputs, inputs))
    for gradient in np.random.default_rng(0).normal(size=(5, outputs, inputs)):
        weight.grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step()
        total = 0.9 * total + gradient
        update = 0.2 * max(inputs, outputs) ** 0.5 * plain_orthogonal(gradient + 0.9 * total)
        expected = expected - 0.02 * 0.5 * expected - 0.02 * update
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_an_update_is_as_large_as_one_of_adamw() -> None:
    """The root mean square of an orthogonal matrix is 1 / sqrt(max(rows, columns))."""
    module = Layers(linear=nn.Linear(64, 128, bias=False))
    weight = module.layers["linear"].weight
    before = weight.detach().clone()
    weight.grad = with_condition(128, 64, 5)
    built(module, lr=1.0, weight_decay=0.0).step()
    assert (weight - before).pow(2).mean().sqrt().item() == pytest.approx(0.2, rel=0.25)


def moved(module: nn.Module, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights after two steps along a gradient and its double."""
    optimizer = built(module)
    for factor in (1, 2):
        for name, parameter in module.named_parameters():
            parameter.grad = factor * gradients[name]
        optimizer.step()
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def three() -> list[Tensor]:
    return list(torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(3)))


def test_fused_projections_move_as_separate_ones() -> None:
    """A transposed one of GPT-2, and one that says how many parts it has."""
    weights, slopes = three(), [matrix.flip(0) for matrix in three()]
    separate = Layers(**{name: nn.Linear(6, 6, bias=False) for name in "qkv"})
    fused = Layers(qkv=nn.Linear(6, 18, bias=False))
    fused.layers["qkv"].parts = 3
    gpt2 = Layers(c_attn=Conv1D(18, 6))
    with torch.no_grad():
        for name, weight in zip("qkv", weights, strict=True):
            separate.layers[name].weight.copy_(weight)
        fused.layers["qkv"].weight.copy_(torch.cat(weights))
        gpt2.layers["c_attn"].weight.copy_(torch.cat(weights).mT)
    alone = moved(separate, {f"layers.{name}.weight": slope for name, slope in zip("qkv", slopes, strict=True)})
    expected = torch.cat([alone[f"layers.{name}.weight"] for name in "qkv"])
    torch.testing.assert_close(moved(fused, {"layers.qkv.weight": torch.cat(slopes)})["layers.qkv.weight"], expected)
    both = {"layers.c_attn.weight": torch.cat(slopes).mT, "layers.c_attn.bias": torch.zeros(18)}
    torch.testing.assert_close(moved(gpt2, both)["layers.c_attn.weight"].mT, expected)


def test_many_matrices_move_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether all of a shape are made orthogonal together, or two at a time."""
    slopes = {f"layers.{number}.weight": torch.randn(4, 6) for number in range(5)}

    def result() -> dict[str, Tensor]:
        torch.manual_seed(5)
        return moved(Layers(**{str(number): nn.Linear(6, 4, bias=False) for number in range(5)}), slopes)

    together = result()
    monkeypatch.setattr(muon, "AT_ONCE", 2 * 24)
    torch.testing.assert_close(result(), together)


# Whose matrices


def test_what_is_not_a_matrix_of_the_body_moves_by_adamw() -> None:
    module = ToyEncoder()
    assert body(module) == {"in_proj_qk.weight": (0, 2), "out_proj.weight": (0, 1)}
    by_adamw = [group for group in built(module, {"adam_lr": 0.03}).param_groups if "momentum" not in group]
    assert [(group["lr"], group["weight_decay"]) for group in by_adamw] == [(0.03, 0.5), (0.03, 0.0)]
    assert {p.ndim for p in by_adamw[0]["params"]} == {2} and {p.ndim for p in by_adamw[1]["params"]} == {1}


@pytest.mark.parametrize("tied", [False, True])
def test_the_body_of_llama(tied: bool) -> None:
    names = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
             "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip
    found = body(in_student(tiny.model({**tiny.LLAMA, "tie_word_embeddings": tied})))
    assert found == {f"student.model.layers.{i}.{name}.weight": (0, 1) for i in range(2) for name in names}


def test_the_body_of_gpt2() -> None:
    parts = {"attn.c_attn": 3, "attn.c_proj": 1, "mlp.c_fc": 1, "mlp.c_proj": 1}
    found = body(in_student(tiny.model(tiny.GPT2)))
    assert found == {f"student.transformer.h.{i}.{name}.weight": (1, n) for i in range(3) for name, n in parts.items()}


@pytest.mark.parametrize("name", ["ltg_bert", "gpt_bert"])
def test_the_body_of_encoders(name: str) -> None:
    """Queries and keys, the two halves of GEGLU, and GPT-BERT's values and gate are matrices beside each other."""
    keys = {"architecture": name, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
            "num_attention_heads": 2}  # fmt: skip
    found = body(in_student(tiny.model(keys)))
    values = {"ltg_bert": {"values": 1}, "gpt_bert": {"values_gate": 2}}[name]
    sublayers = {0: {"queries_keys": 2, "output": 1, **values}, 1: {"inner": 2, "output": 1}}
    parts = {f"sublayers.{i}.{layer}": n for i, layers in sublayers.items() for layer, n in layers.items()}
    expected = {"transform.1": 1, **parts}
    assert found == {f"student.body.{layer}.weight": (0, n) for layer, n in expected.items()}


def test_adamw_moves_the_rest_as_it_does_alone() -> None:
    module, other = ToyEncoder(), ToyEncoder()
    other.load_state_dict(module.state_dict())
    values = {"optimizer": {"name": "adamw"}, "lr": 0.1, "weight_decay": 0.5}
    for each, optimizer in ((module, built(module)), (other, optimizers.build(
        Hyperparameters.model_validate(values), other
    ))):  # fmt: skip
        for number in range(3):
            torch.manual_seed(number)
            for parameter in each.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, dict(other.named_parameters())[name]) == (name not in body(module)), name
