"""Contrastive: a token's state in the student points to its state in the teacher, and to no other's."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import terms
import torch
from terms import PAIRS, SHARES, only_hidden, teacher_shape
from torch import Tensor


def contrastive(width: int = 2, **knobs: Any) -> Any:
    """One teacher and a student of one width, both projected by the identity."""
    knobs = {"temperature": 1.0, "projection_size": width} | knobs
    objective = terms.objective("contrastive", terms.student_shape(width), [teacher_shape(width)], **knobs)
    terms.set_to_identity(objective)
    return objective


def value(objective: Any, student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> float:
    """Of last states (batch, time, width)."""
    mask = torch.ones(student.shape[:2], dtype=torch.bool) if mask is None else mask
    sides = (only_hidden([torch.zeros_like(side)] * 2 + [side]) for side in (student, teacher))
    loss: Tensor = objective(next(sides), [next(sides)], terms.counting(mask))
    return loss.item()


def rows(*vectors: Sequence[float]) -> Tensor:
    """One window."""
    return torch.tensor([vectors])


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_contrastive_by_hand(temperature: float) -> None:
    """Cosines of the first student token to the teacher's tokens: 0 and 1; of the second: 4/5 and 3/5."""
    student, teacher = rows([1.0, 0.0], [3.0, 4.0]), rows([0.0, 2.0], [5.0, 0.0])
    expected = (softplus(1 / temperature) + softplus(0.2 / temperature)) / 2
    assert value(contrastive(temperature=temperature), student, teacher) == pytest.approx(expected)


def test_a_token_alone_has_nothing_to_be_told_apart_from() -> None:
    assert value(contrastive(), torch.randn(1, 1, 2), torch.randn(1, 1, 2)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("group", [1, 2, 8])
def test_contrastive_equals_its_equation(group: int) -> None:
    """Two teachers of other widths, groups of windows, positions that do not count; float32 against float64."""
    shapes = [teacher_shape(5, SHARES[0], PAIRS[0], 3), teacher_shape(8, SHARES[1], PAIRS[1])]
    objective = terms.objective(
        "contrastive", terms.student_shape(6), shapes, temperature=0.3, projection_size=4, group=group
    )
    student = [torch.randn(5, 3, 6) for _ in range(3)]
    teachers = [[torch.randn(5, 3, width) for _ in range(4 - k)] for k, width in enumerate((5, 8))]
    mask = torch.rand(5, 3) < 0.7
    places = [(b, t) for b in range(5) for t in range(3) if mask[b, t]]

    def info_nce(a: Tensor, b: Tensor) -> float:
        a, b = (side / side.norm(dim=-1, keepdim=True) for side in (a, b))
        total = 0.0
        for window, time in places:
            scores = {p: float(a[window, time] @ b[p]) / 0.3 for p in places if p[0] // group == window // group}
            total += math.log(sum(math.exp(score) for score in scores.values())) - scores[window, time]
        return total / len(places)

    expected = 0.0
    for k, share in enumerate(SHARES):
        a = student[2].double() @ objective.student_projections[k][0].weight.detach().double().T
        b = teachers[k][3 - k].double() @ objective.teacher_projections[k][0].weight.detach().double().T
        expected += share * info_nce(a, b)
    actual = objective(only_hidden(student), [only_hidden(hidden) for hidden in teachers], terms.counting(mask))
    assert actual.item() == pytest.approx(expected, rel=1e-5)


def test_every_pair_has_a_projection_on_either_side_without_bias() -> None:
    shapes = [teacher_shape(5, SHARES[0], PAIRS[0], 3), teacher_shape(8, SHARES[1], PAIRS[1])]
    last = terms.objective("contrastive", terms.student_shape(6), shapes)
    assert [tuple(weight.shape) for weight in last.parameters()] == [(128, 6)] * 2 + [(128, 5), (128, 8)]


def test_with_temperature_2_no_student_can_do_well_and_with_the_default_it_can() -> None:
    """The figures of the docstring, and what perfect students of 1024 orthogonal tokens get."""
    n = 1024
    assert round(math.log1p((n - 1) * math.exp(-1)), 1) == 5.9
    assert round(math.log(n), 1) == 6.9
    assert round(math.log1p((n - 1) * math.exp(1)), 1) == 7.9
    assert round(math.log1p((n - 1) * math.exp(-2 / 0.1)), 6) == 0.000002
    states = torch.eye(n).reshape(8, 128, n)
    flat, sharp = contrastive(n, temperature=2.0), contrastive(n, temperature=0.1)
    assert sharp.config.temperature == terms.objective("contrastive", terms.student_shape(2), []).config.temperature
    assert 5.9 < value(flat, states, states) < value(flat, states.flip(0), states) < 7.9
    assert value(sharp, states, states) < 0.05
    assert value(sharp, states.flip(0), states) > 10


def test_a_group_in_which_nothing_counts_adds_nothing() -> None:
    student, teacher = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4)
    mask = torch.tensor([[True] * 3, [False] * 3])
    loss = contrastive(4, group=1)(only_hidden([student] * 3), [only_hidden([teacher] * 3)], terms.counting(mask))
    assert loss.item() == pytest.approx(value(contrastive(4), student[:1].detach(), teacher[:1]), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.isfinite().all()
    assert not gradient[1].any()
