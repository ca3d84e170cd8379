"""Attention and value relations: the tokens of a window relate to each other as they do in the teachers."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import terms
import tiny
import torch
from terms import SHARES, student_shape, teacher_shape
from torch import Tensor, nn

from palenka.data.batch import Batch
from palenka.models.outputs import Attention, model_shape
from palenka.objectives import States
from palenka.teachers.live import Teachers
from palenka.training.loss_module import LossModule

BOTH = ["attention", "value_relation"]
MASK = torch.tensor([[True, True, True, False, True], [False, True, False, True, True]])


def random_attention(heads: int, size: int) -> Attention:
    """Of one layer: two windows of five tokens."""
    return Attention(*torch.randn(3, 2, heads, 5, size))


def of_layers(attention: dict[int, Attention]) -> States:
    return States((), attention, nn.Linear(1, 1))


def value(objective: Any, student: Attention, teacher: Attention, mask: Tensor = MASK) -> Tensor:
    """Of the last layers, the second of both."""
    loss: Tensor = objective(of_layers({2: student}), [of_layers({2: teacher})], terms.counting(mask))
    return loss


def alike(name: str, heads: int = 3, size: int = 4, **knobs: Any) -> Any:
    """For a student and a teacher of one shape."""
    width = heads * size
    return terms.objective(name, student_shape(width, heads), [teacher_shape(width, heads=heads)], **knobs)


def one_head(*vectors: Sequence[float]) -> Tensor:
    return torch.tensor([[vectors]])


def test_attention_by_hand() -> None:
    """The second token: 1/2 and 1/2 in the teacher, 1/4 and 3/4 in the student. The first has only itself."""
    keys = one_head([0.0, 0.0, 0.0, 0.0], [2 * math.log(3), 0.0, 0.0, 0.0])  # divided by sqrt(4)
    student = Attention(one_head([9.0, 9.0, 9.0, 9.0], [1.0, 0.0, 0.0, 0.0]), keys, keys)
    teacher = student._replace(queries=torch.zeros(1, 1, 2, 4))
    expected = (0 + 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)) / 2
    everywhere = torch.ones(1, 2, dtype=torch.bool)
    assert value(alike("attention", 1, 4), student, teacher, everywhere).item() == pytest.approx(expected)
    second = torch.tensor([[False, True]])
    assert value(alike("attention", 1, 4), student, teacher, second).item() == pytest.approx(2 * expected)


def test_value_relation_by_hand() -> None:
    """The second token's values are related 1 - ln 3 to 1 in the student, so 1/4 and 3/4; not at all in the teacher."""
    values = one_head([1 - math.log(3)], [1.0])
    student = Attention(torch.randn(1, 1, 2, 1), torch.randn(1, 1, 2, 1), values)
    teacher = student._replace(values=one_head([5.0], [0.0]))
    expected = (0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)) / 2
    everywhere = torch.ones(1, 2, dtype=torch.bool)
    actual = value(alike("value_relation", 1, 1), student, teacher, everywhere)
    assert actual.item() == pytest.approx(expected, rel=1e-5)


def relation(left: Tensor, right: Tensor, heads: int, window: int, head: int, token: int) -> Tensor:
    """What one token gives to those up to it, in float64."""
    left, right = (
        torch.cat(list(side[window].double()), dim=-1).reshape(5, heads, -1)[:, head] for side in (left, right)
    )
    return (right[: token + 1] @ left[token] / math.sqrt(left.shape[-1])).softmax(-1)


@pytest.mark.parametrize("name", BOTH)
def test_relations_equal_their_equation(name: str) -> None:
    """Two teachers of other widths and head counts, their last layers, positions that do not count."""
    pairs = (((3, 2),), ((2, 2),))
    shapes = [teacher_shape(8, SHARES[0], layers=3, heads=2), teacher_shape(48, SHARES[1], heads=6)]
    objective = terms.objective(name, student_shape(24, 6), shapes)
    assert objective.attention_pairs == list(pairs)
    student = {layer: random_attention(6, 4) for layer in (1, 2)}
    teachers = [{layer: random_attention(heads, size) for layer in (1, 2, 3)} for heads, size in ((2, 4), (6, 8))]
    expected = 0.0
    for k, teacher in enumerate(teachers):
        count = (2, 6)[k]  # as many as divide the student's six and both widths
        for i, j in pairs[k]:
            total = 0.0
            for window, token in MASK.nonzero().tolist():
                for head in range(count):
                    sides = [
                        (a.queries, a.keys) if name == "attention" else (a.values, a.values)
                        for a in (teacher[i], student[j])
                    ]
                    p, q = (relation(*side, count, window, head, token) for side in sides)
                    total += float((p * (p / q).log()).sum()) / count
            expected += SHARES[k] / len(pairs[k]) * total / int(MASK.sum())
    actual = objective(of_layers(student), [of_layers(teacher) for teacher in teachers], terms.counting(MASK))
    assert actual.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("keys", [tiny.LLAMA, tiny.GPT2], ids=["llama", "gpt2"])
def test_with_the_models_own_heads_it_is_the_kl_of_their_own_attention(keys: dict[str, Any]) -> None:
    student, teacher, plain_student, plain_teacher = (
        tiny.model({**keys, **terms.SPREAD}, seed).eval() for seed in (1, 2, 1, 2)
    )
    shape = model_shape(student.config)
    objective = terms.objective("attention", shape, [replace(teacher_shape(1), **vars(shape))])
    inputs, labels = tiny.batch()
    loss_module = LossModule(student, {"attention": objective}, Teachers([teacher])).eval()
    with torch.no_grad():
        _, reported = loss_module(Batch(inputs, labels), terms.whole(labels))
        own = [model(inputs, output_attentions=True).attentions[-1] for model in (plain_teacher, plain_student)]
    p, q = (attention.double() for attention in own)
    past = torch.ones(p.shape[-2:]).tril().bool()
    rows = torch.where(past, p * (p / q).log(), 0.0).sum(-1).mean(1)
    assert reported.item() == pytest.approx(rows[labels != -100].mean().item(), rel=1e-4)


@pytest.mark.parametrize("name", BOTH)
def test_hidden_states_are_not_asked_for_and_nothing_is_owned(name: str) -> None:
    objective = alike(name)
    assert not objective.needs_hidden_states
    assert list(objective.parameters()) == []


@pytest.mark.parametrize("name", BOTH)
def test_heads_wider_than_their_share_of_the_model_count_in_full(name: str) -> None:
    """Two heads of 12 in a model of width 16: vectors of 24, which a teacher's 24 compares with."""
    student = model_shape(tiny.model({**tiny.LLAMA, "head_dim": 12}).config)
    assert (student.hidden_size, student.attention_size) == (16, 24)
    objective = terms.objective(name, student, [teacher_shape(24, heads=3)])
    assert value(objective, random_attention(2, 12), random_attention(3, 8)).isfinite()
