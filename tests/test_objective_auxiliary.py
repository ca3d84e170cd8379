"""Auxiliary classifiers: heads on shallow student layers learn what the teachers predict, and their last states."""

from collections.abc import Sequence
from typing import Any

import pytest
import terms
import torch
from pydantic import ValidationError
from terms import SHARES, teacher_shape
from torch import Tensor, nn

from palenka.objectives import States
from palenka.objectives.auxiliary import adaptive_weights
from palenka.util.errors import UserError

MASK = torch.tensor([[True, True, False, True], [True, False, False, True]])
KNOBS: list[dict[str, Any]] = [
    {},
    {"own_heads": True},
    {"temperature": 1.0, "feature_weight": 0.3},
    {"feature_weight": 0.0, "layers": [2]},
]
every_knob = pytest.mark.parametrize("knobs", KNOBS, ids=str)


def auxiliary(width: int = 6, depth: int = 4, **knobs: Any) -> Any:
    """For two teachers, of widths 5 and 8, over a vocabulary of 11."""
    shapes = [teacher_shape(5, SHARES[0]), teacher_shape(8, SHARES[1])]
    return terms.objective("auxiliary", terms.student_shape(width, layers=depth), shapes, **knobs)


def states(width: int, layers: int, trained: bool = False) -> States:
    """Random states, two windows of four tokens, and a random head with clear opinions."""
    hidden = [torch.randn(2, 4, width, requires_grad=trained) for _ in range(layers + 1)]
    head = nn.Linear(width, 11, bias=False)
    nn.init.normal_(head.weight)
    return States(hidden, {}, head)


def reference(objective: Any, student: States, teachers: Sequence[States], mask: Tensor) -> Tensor:
    """The equation in float64, on the objective's own parameters; weights held fixed, a lent head without gradient."""
    temperature = objective.config.temperature
    logits = [teacher.hidden[-1][mask].double() @ teacher.head.weight.double().T for teacher in teachers]
    target = ((SHARES[0] * logits[0] + SHARES[1] * logits[1]) / temperature).softmax(-1)
    losses, features = [], [torch.zeros(())]
    for n, layer in enumerate(objective.layers):
        x = student.hidden[layer][mask].double() @ objective.adapters[n].weight.double().T
        g = objective.norms[n].weight.double() * x / x.square().mean(-1, keepdim=True).sqrt()
        head = objective.heads[n].weight if objective.config.own_heads else student.head.weight.detach()
        own = (g @ head.double().T / temperature).softmax(-1)
        losses.append(temperature**2 * (target * (target / own).log()).sum(-1))
        for share, teacher, projections in zip(SHARES, teachers, objective.projections, strict=True):
            if objective.config.feature_weight:
                a, b = normalized(g @ projections[n].weight.double().T), normalized(teacher.hidden[-1][mask].double())
                features.append(share / len(objective.layers) * (a - b).square().mean(-1).mean())
    c = torch.stack(losses)
    total = (c * (c / c.sum(0)).detach()).sum(0).mean()
    return total + objective.config.feature_weight * torch.stack(features).sum()


def normalized(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()


@every_knob
def test_auxiliary_equals_its_equation_in_value_and_gradients(knobs: dict[str, Any]) -> None:
    objective = auxiliary(**knobs)
    for norm in objective.norms:
        nn.init.uniform_(norm.weight, 0.5, 2.0)
    student, teachers = states(6, 4, trained=True), [states(5, 3), states(8, 2)]
    trained = {str(layer): student.hidden[layer] for layer in objective.layers} | dict(objective.named_parameters())
    ours, expected = objective(student, teachers, terms.counting(MASK)), reference(objective, student, teachers, MASK)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = [torch.autograd.grad(loss, list(trained.values())) for loss in (ours, expected)]
    for name, mine, theirs in zip(trained, *gradients, strict=True):
        difference = (mine - theirs).abs()
        assert (difference <= 1e-4 * theirs.abs() + 1e-6).all(), f"{name}: off by {difference.max():g}"


@pytest.mark.parametrize("own_heads", [False, True])
def test_a_lent_head_gets_no_gradient_and_heads_of_its_own_do(own_heads: bool) -> None:
    objective = auxiliary(own_heads=own_heads)
    student = states(6, 4, trained=True)
    objective(student, [states(5, 3), states(8, 2)], terms.counting(MASK)).backward()
    assert student.head.weight.grad is None
    assert [tuple(head.weight.shape) for head in objective.heads] == [(11, 6)] * (3 if own_heads else 0)
    assert all(head.weight.grad is not None and head.weight.grad.any() for head in objective.heads)
    reached = [layer for layer, hidden in enumerate(student.hidden) if hidden.grad is not None]
    assert reached == [1, 2, 3]


# Adaptive weights


def test_weights_of_a_token_sum_to_one_and_are_proportional_to_its_losses() -> None:
    losses = torch.rand(3, 50) * 5
    weights = adaptive_weights(losses.requires_grad_())
    assert not weights.requires_grad
    torch.testing.assert_close(weights.sum(0), torch.ones(50))
    torch.testing.assert_close(weights[0] / weights[1], (losses[0] / losses[1]).detach())
    by_hand = adaptive_weights(torch.tensor([[1.0, 0.0], [3.0, 2.0]]))
    torch.testing.assert_close(by_hand, torch.tensor([[0.25, 0.0], [0.75, 1.0]]))


def test_heads_without_any_loss_weigh_the_same() -> None:
    rounded = torch.tensor([[0.0, -1e-8], [0.0, -1e-9]])
    assert adaptive_weights(rounded).tolist() == [[0.5, 0.5], [0.5, 0.5]]


# Knobs


@pytest.mark.parametrize(
    ("depth", "layers"), [(12, (3, 6, 9)), (8, (2, 4, 6)), (4, (1, 2, 3)), (3, (1, 2)), (2, (1,)), (1, (1,))]
)
def test_default_layers_stand_at_the_quarters_of_the_depth_below_the_last(depth: int, layers: tuple[int, ...]) -> None:
    assert auxiliary(depth=depth).layers == layers


def test_feature_weight_0_owns_no_projections() -> None:
    with_features, without = auxiliary(), auxiliary(feature_weight=0)
    assert [tuple(weight.shape) for weight in with_features.projections.parameters()] == [(5, 6)] * 3 + [(8, 6)] * 3
    assert list(without.projections.parameters()) == []


@pytest.mark.parametrize("layers", [[0], [5], [2, 9], [-1]])
def test_layers_that_the_student_does_not_have_are_named(layers: list[int]) -> None:
    with pytest.raises(UserError, match=rf"auxiliary.layers: the student has layers 1 to 4, there is no {layers[-1]}$"):
        auxiliary(layers=layers)


def test_some_layer_has_to_be_chosen() -> None:
    with pytest.raises(ValidationError, match="layers"):
        auxiliary(layers=[])


def test_gradients_of_many_tokens_fit_into_float16() -> None:
    objective = terms.objective("auxiliary", terms.student_shape(8, layers=1), [teacher_shape(8)], own_heads=True)
    student, teacher = (States([torch.randn(256, 128, 8)] * 2, {}, nn.Linear(8, 11)) for _ in range(2))
    with torch.no_grad():
        teacher.head.bias[0] = 20.0  # sure of one token, so that all gradients point one way
    student.hidden[1][..., 0] = 8.0
    mask = torch.ones(256, 128, dtype=torch.bool)
    with torch.autocast("cpu", torch.float16):
        value = objective(student, [teacher], terms.counting(mask))
    value.backward()
    assert all(weight.grad.isfinite().all() for weight in objective.parameters())
