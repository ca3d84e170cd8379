"""Logit: the student matches the softened prediction of its teachers."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import terms
import torch
from pydantic import ValidationError
from torch import Tensor

from palenka.objectives._forward_kl import forward_kl

SHARES = terms.SHARES
ZERO = torch.zeros(1, dtype=torch.long)
KNOBS = [
    {"combine": combine, "divergence": divergence, "beta": beta}
    for combine in ("logits", "probabilities")
    for divergence, beta in (
        ("forward", 0.5), ("reverse", 0.5), ("jensen_shannon", 0.5), ("jensen_shannon", 0.1), ("jensen_shannon", 0.9),
    )
]  # fmt: skip
every_knob = pytest.mark.parametrize("knobs", KNOBS, ids=lambda knobs: "-".join(map(str, knobs.values())))


def logit(shares: Sequence[float] = (1.0,), **knobs: Any) -> Any:
    """The objective, taking each teacher's logits: where it wants their mean alone, that is formed first."""
    teachers = [terms.teacher_shape(1, share) for share in shares]
    objective = terms.objective("logit", terms.student_shape(1), teachers, **knobs)
    if objective.teacher_logits == "mean":
        objective.register_forward_pre_hook(lambda _, given: (given[0], [mean(shares, given[1])], given[2]))
    return objective


def mean(shares: Sequence[float], logits: Sequence[Tensor]) -> Tensor:
    return torch.stack([share * each for share, each in zip(shares, logits, strict=True)]).sum(0)


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum(-1)


def distance(knobs: dict[str, Any], p: Tensor, q: Tensor) -> Tensor:
    """Between the teachers' probabilities p and the student's q, as the equations have it."""
    if knobs["divergence"] == "forward":
        return kl(p, q)
    if knobs["divergence"] == "reverse":
        return kl(q, p)
    beta = knobs["beta"]
    mixture = beta * p + (1 - beta) * q
    return beta * kl(p, mixture) + (1 - beta) * kl(q, mixture)


def random_logits(tokens: int = 9, count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(tokens, 13, generator=generator, dtype=torch.float64) * 4 for _ in range(count)]


@pytest.mark.parametrize(
    ("divergence", "expected"),
    [
        ("forward", 0.5 * math.log(2) + 0.5 * math.log(2 / 3)),
        ("reverse", 0.25 * math.log(1 / 2) + 0.75 * math.log(3 / 2)),
        # The mixture of (1/2, 1/2) and (1/4, 3/4) is (3/8, 5/8).
        (
            "jensen_shannon",
            0.5 * (0.5 * math.log(4 / 3) + 0.5 * math.log(4 / 5))
            + 0.5 * (0.25 * math.log(2 / 3) + 0.75 * math.log(6 / 5)),
        ),
    ],
)
def test_logit_by_hand(divergence: str, expected: float) -> None:
    # The teacher is undecided; the student, at its temperature, says 1/4 and 3/4.
    student, teacher = torch.tensor([[0.0, math.log(3)]]), torch.zeros(1, 2)
    value = logit(temperature=1, divergence=divergence)(student, [teacher], ZERO)
    assert value.item() == pytest.approx(expected)
    softened = logit(temperature=3, divergence=divergence)(3 * student, [teacher], ZERO)
    assert softened.item() == pytest.approx(9 * expected)


def test_the_defaults_are_forward_at_temperature_2() -> None:
    student, teacher = torch.randn(5, 7), torch.randn(5, 7)
    explicit = logit(temperature=2, divergence="forward", combine="logits", reduction="token")
    torch.testing.assert_close(logit()(student, [teacher], ZERO), explicit(student, [teacher], ZERO))


@every_knob
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 8.0])
def test_logit_equals_its_equation(knobs: dict[str, Any], temperature: float) -> None:
    student, *teachers = random_logits()
    if knobs["combine"] == "logits":
        target = ((SHARES[0] * teachers[0] + SHARES[1] * teachers[1]) / temperature).softmax(-1)
    else:
        first, second = (share * (z / temperature).softmax(-1) for share, z in zip(SHARES, teachers, strict=True))
        target = first + second
    expected = temperature**2 * distance(knobs, target, (student / temperature).softmax(-1))
    value = logit(SHARES, temperature=temperature, **knobs)(student, teachers, ZERO)
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("beta", [0, 1, -0.5, 2, math.nan])
def test_beta_lies_between_0_and_1(beta: float) -> None:
    with pytest.raises(ValidationError, match="beta"):
        logit(divergence="jensen_shannon", beta=beta)


@every_knob
def test_sure_teachers_do_not_make_nan(knobs: dict[str, Any]) -> None:
    sure = torch.tensor([[1e4, 0.0, -1e4]])
    student = torch.randn(1, 3, requires_grad=True)
    value = logit(SHARES, **knobs)(student, [sure, sure.flip(-1)], ZERO)
    value.sum().backward()
    assert value.isfinite().all() and student.grad is not None and student.grad.isfinite().all()


def test_sequence_sum_leaves_each_token_as_it_is_and_names_what_its_sum_is_divided_by() -> None:
    student, *teachers = random_logits()
    summed, token = logit(SHARES, reduction="sequence_sum"), logit(SHARES)
    assert (summed.reduction, token.reduction) == ("sequence_sum", "token")
    torch.testing.assert_close(summed(student, teachers, ZERO), token(student, teachers, ZERO), rtol=0, atol=0)


@pytest.mark.parametrize("gap", [0.0, 1e-3, 5.0, 200.0])
def test_the_closed_form_is_the_plain_formula_and_gradient(gap: float) -> None:
    """Also where a probability of one is 0 in the other's float32, and where both are the same."""
    teacher = torch.randn(7, 13, generator=torch.Generator().manual_seed(0))
    student = (teacher + gap * torch.randn(7, 13, generator=torch.Generator().manual_seed(1))).requires_grad_()
    exact = student.detach().double().requires_grad_()
    target = teacher.double().log_softmax(-1)
    expected = (target.exp() * (target - exact.log_softmax(-1))).sum(-1)
    weights = torch.arange(1.0, 8.0)
    found = forward_kl(teacher.clone().requires_grad_(), student)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(found.double(), expected, atol=2e-6, rtol=1e-6)
    torch.testing.assert_close(student.grad.double(), exact.grad, atol=2e-6, rtol=1e-6)


def test_a_compiler_is_given_the_plain_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, student = random_logits(count=2)
    closed = forward_kl(teacher, student)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    plain = forward_kl(teacher, student.requires_grad_())
    assert "Sum" in type(plain.grad_fn).__name__
    torch.testing.assert_close(closed, plain)
