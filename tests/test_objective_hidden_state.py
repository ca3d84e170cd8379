"""Hidden state: chosen layers of the student match layers of each teacher through learned projections."""

from collections.abc import Sequence
from typing import Any

import pytest
import terms
import torch
from terms import PAIRS, SHARES, only_hidden, teacher_shape
from torch import Tensor

from palenka.objectives import TeacherShape


def identity(objective: Any) -> Any:
    terms.set_to_identity(objective)
    return objective


def hidden_state(shapes: Sequence[TeacherShape], width: int, **knobs: Any) -> Any:
    return terms.objective("hidden_state", terms.student_shape(width), shapes, **knobs)


EVERYWHERE = terms.counting(torch.ones(1, 1, dtype=torch.bool))


@pytest.mark.parametrize(
    ("distance", "student", "teacher", "expected"),
    [
        ("plain", [1.0, 2.0], [1.0, 4.0], 2.0),
        ("cosine", [1.0, 0.0], [0.0, 5.0], 1.0),
        ("cosine", [1.0, 0.0], [-2.0, 0.0], 2.0),
        ("cosine", [3.0, 4.0], [0.0, 7.0], 0.2),
        ("normalized", [10.0, 20.0], [500.0, -500.0], 4.0),  # (-1, 1) against (1, -1)
        ("normalized", [10.0, 20.0], [-7.0, 93.0], 0.0),
    ],
)
def test_hidden_state_by_hand(distance: str, student: list[float], teacher: list[float], expected: float) -> None:
    objective = identity(hidden_state([teacher_shape(2, 1.0, ((0, 0),))], 2, distance=distance))
    value = objective(only_hidden([torch.tensor([[student]])]), [only_hidden([torch.tensor([[teacher]])])], EVERYWHERE)
    assert value.item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("distance", ["normalized", "plain", "cosine"])
def test_hidden_state_equals_its_equation(distance: str) -> None:
    """Two teachers of other widths, pairs of their own, positions that do not count; float32 against float64."""
    generator = torch.Generator().manual_seed(2)
    shapes = [teacher_shape(5, SHARES[0], PAIRS[0], layers=3), teacher_shape(8, SHARES[1], PAIRS[1])]
    objective = hidden_state(shapes, 6, distance=distance)
    student = [torch.randn(2, 4, 6, generator=generator) * 3 for _ in range(3)]
    teachers = [[torch.randn(2, 4, width, generator=generator) * 2 for _ in range(4)] for width in (5, 8)]
    mask = torch.tensor([[True, True, False, True], [True, False, False, False]])

    def reference(a: Tensor, b: Tensor) -> float:
        if distance == "cosine":
            return (1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))).mean().item()
        if distance == "normalized":
            a, b = (
                (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() for x in (a, b)
            )
        return ((a - b) ** 2).mean().item()

    expected = 0.0
    for share, pairs, states, projections in zip(SHARES, PAIRS, teachers, objective.projections, strict=True):
        for (i, j), projection in zip(pairs, projections, strict=True):
            a = student[j][mask].double() @ projection.weight.double().T
            expected += share / len(pairs) * reference(a, states[i][mask].double())
    value = objective(only_hidden(student), [only_hidden(hidden) for hidden in teachers], terms.counting(mask))
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_every_pair_of_every_teacher_has_a_projection_of_its_own_without_bias() -> None:
    shapes = [teacher_shape(5, 0.5, PAIRS[0]), teacher_shape(8, 0.5, PAIRS[1])]
    objective = hidden_state(shapes, 6)
    sizes = [tuple(parameter.shape) for parameter in objective.parameters()]
    assert sizes == [(5, 6)] * 2 + [(8, 6)] * 3
    assert len({parameter.data_ptr() for parameter in objective.parameters()}) == 5
