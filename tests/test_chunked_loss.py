"""Losses in chunks of tokens: what the plain formula gives, without its arrays."""

from collections.abc import Sequence
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from palenka.data.batch import Batch
from palenka.models.chunked_loss import HeadInput, WeightedTerm, chunked_loss, of_one_head, token_losses
from palenka.objectives import ModelShape, TeacherShape
from palenka.objectives.hard_target import HardTarget
from palenka.objectives.logit import Logit
from palenka.training.loss_module import LossModule, StepSize

VOCABULARY = 50
WIDTH = 6
STUDENT = ModelShape(WIDTH, 1, 1, 11)


def terms(teachers: int = 2) -> list[WeightedTerm]:
    """0.7 · cross-entropy + 0.3 · both kinds of teacher logits, the mean being the first teacher's alone."""
    shapes = [TeacherShape(1, 1, 1, VOCABULARY, 1 / teachers, ()) for _ in range(teachers)]
    kinds = ("logits", "probabilities") if teachers else ()
    configs = [Logit.Config(weight=1, combine=kind) for kind in kinds]
    kept = (slice(1), slice(None))
    logits = [
        WeightedTerm(of_one_head(Logit(config, STUDENT, shapes), teachers), 0.3)
        for config, teachers in zip(configs, kept, strict=False)
    ]
    return [WeightedTerm(of_one_head(HardTarget(HardTarget.Config(weight=1), STUDENT, [])), 0.7), *logits]


def head(width: int, bias: bool, seed: int = 0, vocabulary: int = VOCABULARY) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(width, vocabulary, bias=bias)


def inputs(tokens: int, bias: bool = True, seed: int = 0) -> tuple[HeadInput, list[HeadInput], Tensor]:
    """A student, two teachers of other widths, and labels of which every fifth does not count."""
    torch.manual_seed(seed)
    student = HeadInput(torch.randn(tokens, WIDTH, requires_grad=True), head(WIDTH, bias, seed))
    teachers = [HeadInput(torch.randn(tokens, width), head(width, width == 4, seed + width)) for width in (4, 9)]
    labels = torch.randint(VOCABULARY, (tokens,))
    labels[::5] = -100
    return student, teachers, labels


def plain_loss(
    student: HeadInput, teachers: Sequence[HeadInput], labels: Tensor, terms: Sequence[WeightedTerm]
) -> tuple[Tensor, Tensor]:
    """The formula that keeps all logits."""
    counts = labels != -100
    teacher_logits = [teacher.head(teacher.states[counts]).detach() for teacher in teachers]
    logits = student.head(student.states[counts])
    sums = torch.stack([term.loss([logits], teacher_logits, labels[counts]).sum() for term in terms])
    return sum(term.scale * value for term, value in zip(terms, sums, strict=True)), sums  # type: ignore[return-value]


def gradients(loss: Tensor, student: HeadInput) -> list[Tensor]:
    wanted = [student.states, student.head.weight, *([student.head.bias] if student.head.bias is not None else [])]
    return list(torch.autograd.grad(loss, wanted))


@settings(max_examples=40, deadline=None)
@given(tokens=st.integers(1, 30), chunk=st.integers(1, 40), bias=st.booleans(), seed=st.integers(0, 1000))
def test_chunks_of_any_size_give_the_plain_formula(tokens: int, chunk: int, bias: bool, seed: int) -> None:
    student, teachers, labels = inputs(tokens, bias, seed)
    expected, expected_sums = plain_loss(student, teachers, labels, terms())
    loss, sums = chunked_loss([student], teachers, labels, terms(), chunk_tokens=chunk)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(sums, expected_sums, rtol=1e-5, atol=1e-4)
    for ours, plain in zip(gradients(3 * loss, student), gradients(3 * expected, student), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=2e-5)


def two_heads(students: Sequence[Tensor], teachers: Sequence[Tensor], labels: Tensor) -> Tensor:
    """A loss that no sum over heads could give: the cross-entropy of their product, and the distance to a teacher."""
    joined = F.cross_entropy(students[0] * students[1], labels, reduction="none")
    return joined + (students[1] - teachers[0]).square().mean(dim=-1)


@pytest.mark.parametrize("lent", [False, True])
def test_several_heads_give_the_plain_formula_and_a_lent_head_gets_no_gradient(lent: bool) -> None:
    first, teachers, labels = inputs(23)
    second = HeadInput(torch.randn(23, 4, requires_grad=True), head(4, True, seed=5), lent)
    chunked_loss([first, second], teachers, labels, [WeightedTerm(two_heads, 0.5)], chunk_tokens=5)[0].backward()
    leaves = [first.states, first.head.weight, first.head.bias, second.states]
    ours = [leaf.grad for leaf in leaves]
    assert (second.head.weight.grad is None) == (second.head.bias.grad is None) == lent
    logits = [student.head(student.states) for student in (first, second)]
    teacher_logits = [teacher.head(teacher.states).detach() for teacher in teachers]
    loss = 0.5 * two_heads(logits, teacher_logits, labels.clamp(min=0))[labels != -100].sum()
    wanted = leaves if lent else [*leaves, second.head.weight, second.head.bias]
    ours = ours if lent else [*ours, second.head.weight.grad, second.head.bias.grad]
    for gradient, plain in zip(ours, torch.autograd.grad(loss, wanted), strict=True):
        torch.testing.assert_close(gradient, plain, rtol=1e-4, atol=2e-5)


def test_no_position_that_counts_gives_zero() -> None:
    student, teachers, labels = inputs(6)
    loss, sums = chunked_loss([student], teachers, torch.full_like(labels, -100), terms(), 4)
    assert loss.item() == 0
    assert sums.tolist() == [0, 0, 0]
    assert not any(gradient.any() for gradient in gradients(loss, student))


def test_the_value_is_the_same_without_autograd() -> None:
    student, teachers, labels = inputs(23)
    loss, sums = chunked_loss([student], teachers, labels, terms(), 5)
    with torch.no_grad():
        evaluated, evaluated_sums = chunked_loss([student], teachers, labels, terms(), 5)
    assert not evaluated.requires_grad
    torch.testing.assert_close(evaluated, loss.detach(), rtol=0, atol=0)
    torch.testing.assert_close(evaluated_sums, sums, rtol=0, atol=0)


def test_bf16_autocast_is_close_and_sums_in_float32() -> None:
    student, teachers, labels = inputs(200)
    full, full_sums = chunked_loss([student], teachers, labels, terms(), 32)
    with torch.autocast("cpu", torch.bfloat16):
        loss, sums = chunked_loss([student], teachers, labels, terms(), 32)
    assert loss.dtype == sums.dtype == torch.float32
    torch.testing.assert_close(loss, full, rtol=0.01, atol=0)
    torch.testing.assert_close(sums, full_sums, rtol=0.02, atol=0)
    for ours, exact in zip(gradients(loss, student), gradients(full, student), strict=True):
        assert ours.dtype == torch.float32
        assert (ours - exact).norm() < 0.03 * exact.norm()


def test_teachers_in_bf16_serve_a_float32_student() -> None:
    student, teachers, labels = inputs(40)
    low = [HeadInput(teacher.states.bfloat16(), teacher.head.bfloat16()) for teacher in teachers]
    loss, _ = chunked_loss([student], low, labels, terms(), 16)
    full, _ = chunked_loss([student], inputs(40)[1], labels, terms(), 16)
    torch.testing.assert_close(loss, full, rtol=0.02, atol=0)


def test_token_losses_are_the_cross_entropies() -> None:
    student, _, labels = inputs(600)  # more than one chunk
    losses = token_losses(student, labels)
    assert not losses.requires_grad
    expected = F.cross_entropy(student.head(student.states), labels, reduction="none").detach()
    torch.testing.assert_close(losses, expected)
    assert (losses[labels == -100] == 0).all()


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation gives."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return result


def largest(loss_function: Any, tokens: int) -> int:
    student, teachers, labels = inputs(tokens)
    with LargestTensor() as mode:
        loss_function(student, teachers, labels, terms())[0].backward()
    return mode.elements


def test_logits_of_all_tokens_never_exist() -> None:
    """Nothing is larger than a chunk's logits (of both teachers, stacked), however many tokens there are."""
    chunk, tokens = 8, 160
    assert largest(plain_loss, tokens) >= 0.8 * tokens * VOCABULARY  # the measure sees them where they do exist
    biggest = largest(lambda student, *rest: chunked_loss([student], *rest, chunk_tokens=chunk), tokens)
    assert biggest <= max(2 * chunk * VOCABULARY, tokens * 9)
    assert biggest < tokens * VOCABULARY / 4


@pytest.mark.parametrize("keys", [tiny.GPT2, {**tiny.LLAMA, "tie_word_embeddings": True}], ids=["gpt2", "llama"])
def test_a_tied_embedding_gets_the_gradients_of_both_its_uses(keys: dict[str, Any]) -> None:
    model = tiny.model(keys)
    embedding = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is embedding
    batch, labels = tiny.batch()
    objective = HardTarget(HardTarget.Config(weight=1), STUDENT, [])
    tokens = int((labels != -100).sum())
    LossModule(model, {"hard_target": objective})(Batch(batch, labels), StepSize(tokens, 3))[0].backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    F.cross_entropy(model(batch).logits.flatten(0, 1), labels.flatten()).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)
    unseen = torch.ones(tiny.VOCABULARY, dtype=torch.bool)
    unseen[batch.flatten()] = False
    assert embedding.grad[unseen].any(), "rows of tokens that were not read get the head's gradient"
