"""Objectives for tests: built with a few words, fed made-up states, or alone in a loss module of small models.

    ADDITIVE   knobs with which an objective is a plain sum over windows of a batch of pairs, where its defaults are not
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import tiny
import torch
from torch import Tensor

from palenka import objectives
from palenka.data.batch import Batch
from palenka.models.outputs import model_shape
from palenka.objectives import ModelShape, Objective, States, TeacherShape
from palenka.teachers.live import Teachers
from palenka.training.loss_module import LossModule, StepSize

SHARES = (0.25, 0.75)
PAIRS = (((1, 1), (3, 2)), ((0, 0), (2, 1), (1, 2)))  # for a GPT-2 of three layers and a Llama of two
ADDITIVE: dict[str, dict[str, Any]] = {"contrastive": {"group": 2}}
SPREAD = {"initializer_range": 0.2}  # so that untrained models are unlike each other


def student_shape(width: int, heads: int = 1, layers: int = 2, vocabulary: int = 11) -> ModelShape:
    return ModelShape(width, layers, heads, vocabulary)


def teacher_shape(
    width: int, share: float = 1.0, pairs: tuple[tuple[int, int], ...] = (), layers: int = 2, heads: int = 1
) -> TeacherShape:
    return TeacherShape(width, layers, heads, 11, share, pairs)


def objective(name: str, student: ModelShape, teachers: Sequence[TeacherShape], **knobs: Any) -> Any:
    """The objective `name` of weight 1, unless `knobs` say otherwise."""
    kind = objectives.find(name)
    built: Objective = kind(kind.Config.model_validate({"weight": 1, **knobs}), student, teachers)
    return built


def only_hidden(hidden: Sequence[Tensor]) -> States:
    return States(hidden, {}, torch.nn.Linear(1, 1))


def set_to_identity(module: torch.nn.Module) -> None:
    """Make every linear layer in it the identity, as far as its shape allows."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.eye_(layer.weight)


def loss_module(name: str, **knobs: Any) -> LossModule:
    """A Llama student that learns from a GPT-2 and a wider Llama by one objective alone."""
    student = tiny.model({**tiny.LLAMA, **SPREAD}, seed=1)
    wider = {**tiny.LLAMA, **SPREAD, "hidden_size": 32}
    teachers = [tiny.model({**tiny.GPT2, **SPREAD}, seed=2), tiny.model(wider, seed=3)]
    shapes = [
        TeacherShape(**asdict(model_shape(teacher.config)), share=share, layer_pairs=pairs)
        for teacher, share, pairs in zip(teachers, SHARES, PAIRS, strict=True)
    ]
    torch.manual_seed(0)
    term = objective(name, model_shape(student.config), shapes, **knobs)
    return LossModule(student, {name: term}, Teachers(teachers))


def whole(labels: Tensor) -> StepSize:
    """A step of this batch alone."""
    return StepSize(predicted=int((labels != -100).sum()), sequences=len(labels))


def counting(mask: Tensor) -> Batch:
    """A batch of which nothing but the positions that count is known: bool (batch, time)."""
    return Batch(torch.zeros_like(mask, dtype=torch.long), torch.where(mask, 0, -100))


def uneven_batch(sequences: int) -> tuple[Tensor, Tensor]:
    """A batch whose windows differ in how many positions count."""
    inputs, labels = tiny.batch(sequences, ignored=6)
    labels[1, 2:9] = -100
    return inputs, labels


def gradients(model: LossModule) -> dict[str, Tensor]:
    """What backward() left, by parameter, without what it did not reach; the gradients are then cleared."""
    left = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    return {name: gradient for name, gradient in left.items() if gradient.any()}


def assert_close(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal gradients but for rounding, on the scale of the gradient they are part of."""
    assert ours.keys() == expected.keys()
    assert ours
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        difference = (ours[name] - gradient).abs()
        assert (difference <= 1e-3 * gradient.abs() + 1e-5 * largest).all(), f"{name}: off by {difference.max():g}"
