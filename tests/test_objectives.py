"""Every objective that exists keeps its contract; those we have are checked against figures worked out by hand.

The tests of the first half run over `objectives.available()`: a new file in `palenka/objectives/` is tested by them as
it stands.
"""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import tiny
import torch
from pydantic import ValidationError
from torch import Tensor

from palenka import objectives
from palenka.config import UserError
from palenka.distiller import Distiller, StepSize
from palenka.models import model_shape
from palenka.objectives import ModelShape, Objective, StateObjective, TeacherShape, TokenObjective
from palenka.objectives.hard_target import HardTarget
from palenka.objectives.hidden_state import HiddenState
from palenka.objectives.logit import Logit

ALL = objectives.available()
SHARES = (0.25, 0.75)
PAIRS = (((1, 1), (3, 2)), ((0, 0), (1, 1), (2, 2)))  # for a GPT-2 of three layers and a Llama of two


def teacher_shape(width: int, share: float, pairs: tuple[tuple[int, int], ...], layers: int = 3) -> TeacherShape:
    return TeacherShape(width, layers, share, pairs)


def distiller(name: str, weight: float = 1.0) -> Distiller:
    """A Llama student that learns from a GPT-2 and a wider Llama by one objective alone."""
    student = tiny.model(tiny.LLAMA, seed=1)
    teachers = [tiny.model(tiny.GPT2, seed=2), tiny.model({**tiny.LLAMA, "hidden_size": 32}, seed=3)]
    shapes = [
        TeacherShape(teacher.config.hidden_size, teacher.config.num_hidden_layers, share, pairs)
        for teacher, share, pairs in zip(teachers, SHARES, PAIRS, strict=True)
    ]
    objective = objectives.find(name)
    torch.manual_seed(0)
    term = objective(objective.Config(weight=weight), model_shape(student.config), shapes)
    return Distiller(student, teachers, {name: term}).train()


def run(model: Distiller, inputs: Tensor, labels: Tensor) -> Tensor:
    loss: Tensor = model(inputs, labels, StepSize(int((labels != -100).sum()), len(labels)))[0]
    return loss


@pytest.mark.parametrize("name", ALL)
def test_a_gradient_reaches_the_student_and_all_that_the_objective_owns_and_no_teacher(name: str) -> None:
    model = distiller(name)
    run(model, *tiny.batch()).backward()
    missing = [key for key, value in model.objectives.named_parameters() if value.grad is None or not value.grad.any()]
    assert not missing
    reached = {key for key, value in model.student.named_parameters() if value.grad is not None and value.grad.any()}
    assert "model.embed_tokens.weight" in reached
    assert "model.layers.0.mlp.up_proj.weight" in reached
    for teacher in model._teachers:
        assert all(parameter.requires_grad and parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("name", ALL)
def test_ignored_positions_do_not_count(name: str) -> None:
    model = distiller(name).eval()
    inputs, labels = tiny.batch(ignored=3)
    changed = inputs.clone()
    changed[0, -3:] = (changed[0, -3:] + 7) % tiny.VOCABULARY
    with torch.no_grad():
        torch.testing.assert_close(run(model, changed, labels), run(model, inputs, labels), rtol=1e-6, atol=0)
        counted = changed.clone()
        counted[1, -3:] = inputs[0, -3:]
        assert run(model, counted, labels) != run(model, inputs, labels)


@pytest.mark.parametrize("name", ALL)
def test_the_value_is_finite_and_close_in_bf16(name: str) -> None:
    model = distiller(name).eval()
    batch = tiny.batch()
    full = run(model, *batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = run(model, *batch)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, full, rtol=0.03, atol=1e-3)
    rounded.backward()
    assert all(value.grad.isfinite().all() for value in model.parameters() if value.grad is not None)


@pytest.mark.parametrize("name", ALL)
def test_the_returned_value_is_not_weighted(name: str) -> None:
    student = ModelShape(6, 2)
    shapes = [teacher_shape(5, 1.0, ((3, 2),))]
    inputs: Any
    if issubclass(objective := objectives.find(name), TokenObjective):
        inputs = (torch.randn(7, 11), [torch.randn(7, 11)], torch.randint(11, (7,)))
    else:
        inputs = ([torch.randn(2, 4, 6)] * 3, [[torch.randn(2, 4, 5)] * 4], torch.ones(2, 4, dtype=torch.bool))
    values = []
    for weight in (1.0, 10.0):
        torch.manual_seed(0)
        values.append(objective(objective.Config(weight=weight), student, shapes)(*inputs))
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=0)


@pytest.mark.parametrize("name", ALL)
def test_an_objective_is_of_one_kind_and_its_knobs_are_checked(name: str) -> None:
    objective = objectives.find(name)
    assert issubclass(objective, TokenObjective) != issubclass(objective, StateObjective)
    for bad in ({"weight": -1}, {"weight": math.nan}, {}, {"weight": 1, "no_such_knob": 1}):
        with pytest.raises(ValidationError):
            objective.Config(**bad)


def test_a_file_is_found_by_its_name() -> None:
    assert {"hard_target", "logit", "hidden_state"} <= set(ALL)
    assert objectives.find("hidden_state") is HiddenState
    with pytest.raises(UserError, match="unknown objective 'hiden_state'; did you mean 'hidden_state'"):
        objectives.find("hiden_state")


# Hard target


def test_hard_target_by_hand() -> None:
    objective = HardTarget(HardTarget.Config(weight=1), ModelShape(1, 1), [])
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])  # probabilities 1/4 and 3/4, then 1/2 and 1/2
    expected = torch.tensor([math.log(4), math.log(2)])
    torch.testing.assert_close(objective(logits, [], torch.tensor([0, 1])), expected)


# Logit


def logit(shares: Sequence[float] = (1.0,), **knobs: Any) -> Objective:
    shapes = [teacher_shape(1, share, ()) for share in shares]
    return Logit(Logit.Config(weight=1, **knobs), ModelShape(1, 1), shapes)


ZERO = torch.zeros(1, dtype=torch.long)


def test_logit_by_hand() -> None:
    # The teacher is undecided; the student, at its temperature, says 1/4 and 3/4.
    student, teacher = torch.tensor([[0.0, math.log(3)]]), torch.zeros(1, 2)
    kl = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert logit(temperature=1)(student, [teacher], ZERO).item() == pytest.approx(kl)
    assert logit(temperature=3)(3 * student, [teacher], ZERO).item() == pytest.approx(9 * kl)


def test_the_default_temperature_is_2() -> None:
    student, teacher = torch.randn(5, 7), torch.randn(5, 7)
    torch.testing.assert_close(logit()(student, [teacher], ZERO), logit(temperature=2)(student, [teacher], ZERO))


def test_teachers_are_combined_by_hand_in_both_ways() -> None:
    # Probabilities (1/2, 1/2) and (1/10, 9/10) with shares 1/4 and 3/4 have the mean (1/5, 4/5), the student's own.
    student = torch.tensor([[0.2, 0.8]]).log()
    teachers = [torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.1, 0.9]]).log()]
    mean = logit((0.25, 0.75), temperature=1, combine="probabilities")(student, teachers, ZERO)
    assert mean.item() == pytest.approx(0, abs=1e-6)
    # Mean of logits: log-odds 3/4 · ln 9, so that p = 9^(3/4) / (1 + 9^(3/4)).
    p = 9**0.75 / (1 + 9**0.75)
    expected = p * math.log(p / 0.8) + (1 - p) * math.log((1 - p) / 0.2)
    product = logit((0.25, 0.75), temperature=1, combine="logits")(student, teachers, ZERO)
    assert product.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("combine", ["logits", "probabilities"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 8.0])
def test_logit_equals_its_equation(combine: str, temperature: float) -> None:
    generator = torch.Generator().manual_seed(1)
    student, *teachers = (torch.randn(9, 13, generator=generator, dtype=torch.float64) * 4 for _ in range(3))
    if combine == "logits":
        target = ((SHARES[0] * teachers[0] + SHARES[1] * teachers[1]) / temperature).softmax(-1)
    else:
        target = sum(share * (z / temperature).softmax(-1) for share, z in zip(SHARES, teachers, strict=True))  # type: ignore[assignment]
    expected = temperature**2 * (target * (target.log() - (student / temperature).softmax(-1).log())).sum(-1)
    value = logit(SHARES, combine=combine, temperature=temperature)(student, teachers, ZERO)
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("combine", ["logits", "probabilities"])
def test_logit_is_zero_where_the_student_equals_the_teachers_and_positive_elsewhere(combine: str) -> None:
    logits = torch.randn(6, 10)
    objective = logit(SHARES, combine=combine)
    torch.testing.assert_close(objective(logits, [logits, logits], ZERO), torch.zeros(6), rtol=0, atol=1e-5)
    torch.testing.assert_close(objective(logits + 3, [logits, logits - 2], ZERO), torch.zeros(6), rtol=0, atol=1e-5)
    assert (objective(torch.randn(6, 10), [logits, logits], ZERO) > 1e-3).all()


def test_t_squared_keeps_the_size_of_the_gradient() -> None:
    """For high temperatures the gradient tends to (z_S - z_T) / V, whatever they are (Hinton et al., equation 4)."""
    student, teacher = torch.randn(1, 10, requires_grad=True), torch.randn(1, 10)
    for temperature in (100.0, 1000.0):
        (gradient,) = torch.autograd.grad(logit(temperature=temperature)(student, [teacher], ZERO).sum(), student)
        difference = (student - student.mean() - teacher + teacher.mean()).detach()
        torch.testing.assert_close(gradient, difference / 10, rtol=0.1, atol=5e-3)


def test_sure_teachers_do_not_make_nan() -> None:
    sure = torch.tensor([[1e4, 0.0, -1e4]])
    for combine in ("logits", "probabilities"):
        student = torch.randn(1, 3, requires_grad=True)
        value = logit(SHARES, combine=combine)(student, [sure, sure.flip(-1)], ZERO)
        value.sum().backward()
        assert value.isfinite().all() and student.grad is not None and student.grad.isfinite().all()


# Hidden state


def identity(objective: HiddenState) -> HiddenState:
    for projection in objective.projections.modules():
        if isinstance(projection, torch.nn.Linear):
            torch.nn.init.eye_(projection.weight)
    return objective


def hidden_state(shapes: Sequence[TeacherShape], width: int, **knobs: Any) -> HiddenState:
    return HiddenState(HiddenState.Config(weight=1, **knobs), ModelShape(width, 2), shapes)


EVERYWHERE = torch.ones(1, 1, dtype=torch.bool)


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
    value = objective([torch.tensor([[student]])], [[torch.tensor([[teacher]])]], EVERYWHERE)
    assert value.item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("distance", ["normalized", "plain", "cosine"])
def test_hidden_state_equals_its_equation(distance: str) -> None:
    """Two teachers of other widths, pairs of their own, positions that do not count; float32 against float64."""
    generator = torch.Generator().manual_seed(2)
    shapes = [teacher_shape(5, SHARES[0], PAIRS[0]), teacher_shape(8, SHARES[1], PAIRS[1], layers=2)]
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
        for (i, j), projection in zip(pairs, projections, strict=True):  # type: ignore[call-overload]
            a = student[j][mask].double() @ projection.weight.double().T
            expected += share / len(pairs) * reference(a, states[i][mask].double())
    assert objective(student, teachers, mask).item() == pytest.approx(expected, rel=1e-5)


def test_every_pair_of_every_teacher_has_a_projection_of_its_own_without_bias() -> None:
    shapes = [teacher_shape(5, 0.5, PAIRS[0]), teacher_shape(8, 0.5, PAIRS[1])]
    objective = hidden_state(shapes, 6)
    sizes = [tuple(parameter.shape) for parameter in objective.parameters()]
    assert sizes == [(5, 6)] * 2 + [(8, 6)] * 3
    assert len({parameter.data_ptr() for parameter in objective.parameters()}) == 5


@pytest.mark.parametrize("distance", ["normalized", "plain", "cosine"])
def test_hidden_state_is_zero_where_the_projected_student_equals_the_teacher(distance: str) -> None:
    objective = identity(hidden_state([teacher_shape(6, 1.0, ((1, 1), (2, 2)))], 6, distance=distance))
    states = [torch.randn(2, 3, 6) for _ in range(3)]
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert objective(states, [states], mask).item() == pytest.approx(0, abs=1e-6)


def test_the_default_distance_does_not_depend_on_the_scale_of_states_and_no_dimension_dominates() -> None:
    objective = hidden_state([teacher_shape(64, 1.0, ((0, 0),))], 64)
    assert objective.config.distance == "normalized"
    student, teacher = torch.randn(1, 50, 64), torch.randn(1, 50, 64)
    mask = torch.ones(1, 50, dtype=torch.bool)
    value = objective([student], [[teacher]], mask).item()
    assert objective([student * 1000], [[teacher * 0.5 + 3]], mask).item() == pytest.approx(value, rel=1e-3)
    assert 1.8 < value < 2.2  # unrelated states: the variances, 1 and 1, add up


def test_hidden_state_is_a_mean_over_positions_layers_and_teachers() -> None:
    """Its size, and so the meaning of its weight, does not grow with any of them."""
    state, target = torch.randn(1, 4, 3), torch.randn(1, 4, 3)
    one = identity(hidden_state([teacher_shape(3, 1.0, ((0, 0),))], 3, distance="plain"))
    many = identity(hidden_state([teacher_shape(3, 0.5, ((0, 0), (1, 1), (2, 2)))] * 2, 3, distance="plain"))
    mask = torch.ones(1, 4, dtype=torch.bool)
    single = one([state], [[target]], mask)
    torch.testing.assert_close(many([state] * 3, [[target] * 3] * 2, mask), single)
    double = one([torch.cat([state, state])], [[torch.cat([target, target])]], torch.cat([mask, mask]))
    torch.testing.assert_close(double, single)
