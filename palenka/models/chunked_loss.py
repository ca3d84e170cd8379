"""Losses in chunks of tokens: logits, losses and their gradients are formed piece by piece and never kept.

For N tokens and a vocabulary of V, the plain formula holds several (N, V) arrays, often more than the model itself.
Here each chunk of tokens goes through the heads, its losses and their gradient with respect to the student's states
and head are formed at once, and the logits are dropped; backward only scales what was stored. All that is not a matrix
product, from logits to their gradient, is one function, which a compiler can turn into a few passes over the chunk.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palenka.data.windows import IGNORED

# Logits of a chunk should stay in a CPU's cache; a GPU wants long chunks.
CHUNK_TOKENS = {"cpu": 256, "cuda": 4096}


class Logits(Protocol):
    """Where a teacher's logits come from."""

    def logits(self, rows: slice, dtype: torch.dtype, student: Tensor) -> Tensor:
        """(rows, vocabulary), from products in `dtype`, beside the logits of the student that learns from them."""


@dataclass(frozen=True)
class HeadInput:
    """States (tokens, width) and the linear layer (vocabulary, width) that turns them into logits.

    A lent head belongs to another: it passes gradients on to the states, and gets none itself.
    """

    states: Tensor
    head: nn.Linear
    lent: bool = False

    def logits(self, rows: slice, dtype: torch.dtype, student: Tensor | None = None) -> Tensor:
        """Logits (rows, vocabulary) in `dtype`; they do not depend on a `student`."""
        bias = None if self.head.bias is None else self.head.bias.to(dtype)
        return F.linear(self.states[rows].to(dtype), self.head.weight.to(dtype), bias)

    def inputs(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Those of states, weight and bias that need a gradient, attached to it."""
        if self.lent:
            return self.states, self.head.weight.detach(), None if self.head.bias is None else self.head.bias.detach()
        return self.states, self.head.weight, self.head.bias


@dataclass(frozen=True)
class HeadLogits:
    """States (tokens, width), and any module that turns them into logits; without gradient."""

    states: Tensor
    head: nn.Module

    def logits(self, rows: slice, dtype: torch.dtype, student: Tensor) -> Tensor:
        """(rows, vocabulary) in `dtype`, the product in the head's own precision."""
        logits: Tensor = self.head(self.states[rows])
        return logits.to(dtype)


def teacher_logits(states: Tensor, head: nn.Module) -> Logits:
    """What a head makes of states (tokens, width), chunk by chunk."""
    return HeadInput(states, head) if isinstance(head, nn.Linear) else HeadLogits(states, head)


TokenLoss = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor], Tensor]
"""float32 logits of the students and of the teachers, each (tokens, vocabulary), and labels (tokens,) → (tokens,)."""


@dataclass(frozen=True)
class WeightedTerm:
    """A loss of each token, the factor of its sum over tokens in the whole, and each token's own (tokens,); None: 1."""

    loss: TokenLoss
    scale: float
    weights: Tensor | None = None


def of_one_head(
    loss: Callable[[Tensor, Sequence[Tensor], Tensor], Tensor], teachers: slice = slice(None)
) -> TokenLoss:
    """A loss of one student's logits, and of some of the teachers', as a loss of several students, there being one."""
    return lambda students, of_teachers, labels: loss(students[0], of_teachers[teachers], labels)


def chunked_loss(
    students: Sequence[HeadInput], teachers: Sequence[Logits], labels: Tensor, terms: Sequence[WeightedTerm],
    chunk_tokens: int | None = None, compiled: bool = False,
) -> tuple[Tensor, Tensor]:
    """The scaled sum of all terms, and each term's plain sum.

    Positions that do not count go through the heads like the others, and their losses are dropped: products whose
    shapes change from step to step would cost more (on a CPU each new shape is compiled and kept).

    Args:
        students: states (tokens, width) and heads that are trained: mostly one, the student's own.
        teachers: logits of each teacher, or of what was recorded of all; no gradient reaches them.
        labels: (tokens,), -100 where none counts.
        terms: losses with the scale of their sum in the whole.
        chunk_tokens: tokens whose logits exist at one time; by default what suits the device.
        compiled: whether what lies between the products is compiled; worth it in many calls of equal shapes.

    Returns:
        The loss, a float32 scalar with gradient to the students' states and heads; the terms' unscaled sums over
        tokens, float32 (terms,), without gradient.
    """
    chunks = _Chunks(
        len(students), teachers, labels, terms, chunk_tokens or CHUNK_TOKENS[labels.device.type],
        torch.is_grad_enabled(), compiled,
    )  # fmt: skip
    total, sums = _ChunkedLoss.apply(chunks, *(tensor for student in students for tensor in student.inputs()))
    return total, sums


@torch.no_grad()
def token_losses(model: HeadInput, labels: Tensor) -> Tensor:
    """Cross-entropy of each token in nats, float32 (tokens,), 0 where the label is -100; without gradient."""
    dtype = _product_dtype(model.states, model.head.weight)
    chunk_tokens = CHUNK_TOKENS[labels.device.type]
    chunks = [slice(start, start + chunk_tokens) for start in range(0, len(labels), chunk_tokens)]
    with torch.autocast(model.states.device.type, enabled=False):
        losses = [F.cross_entropy(model.logits(rows, dtype).float(), labels[rows], reduction="none") for rows in chunks]
    return torch.cat(losses)


@dataclass(frozen=True)
class _Chunks:
    """What a loss is made of besides the tensors that may have a gradient."""

    students: int
    teachers: Sequence[Logits]
    labels: Tensor
    terms: Sequence[WeightedTerm]
    chunk_tokens: int
    with_gradient: bool
    compiled: bool


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, chunks: _Chunks, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        labels, terms, device = chunks.labels, chunks.terms, chunks.labels.device
        students = [_Student(tensors[3 * i : 3 * i + 3]) for i in range(chunks.students)]
        scales = _copied_async([term.scale for term in terms], device)
        sums = torch.zeros(len(terms), device=device)
        wanted = ctx.needs_input_grad[1:] if chunks.with_gradient else ()
        for i in range(chunks.students if any(wanted) else 0):
            students[i].collect(wanted[3 * i : 3 * i + 3])
        losses, weights = tuple(term.loss for term in terms), [term.weights for term in terms]
        with torch.autocast(device.type, enabled=False):
            for start in range(0, len(labels), chunks.chunk_tokens):
                rows = slice(start, start + chunks.chunk_tokens)
                logits = [student.logits(rows) for student in students]
                teacher_logits = [teacher.logits(rows, students[0].dtype, logits[0]) for teacher in chunks.teachers]
                of_tokens = [None if each is None else each[rows] for each in weights]
                given = (teacher_logits, labels[rows], of_tokens, losses, scales * students[0].magnify)
                if any(wanted):
                    function = _compiled_gradients() if chunks.compiled else _gradients
                    gradients, chunk_sums = function(logits, *given)
                    for student, gradient in zip(students, gradients, strict=True):
                        student.add(rows, gradient)
                else:
                    _, chunk_sums = _weighted_sum(logits, *given)
                sums += chunk_sums
        if any(wanted):
            ctx.save_for_backward(*(gradient for student in students for gradient in student.gradients))
            ctx.magnify = students[0].magnify
        ctx.mark_non_differentiable(sums)
        return (sums * scales).sum(), sums  # not a matrix product, which autocast would round

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_outputs[0] / ctx.magnify
        return None, *(None if gradient is None else gradient * scale for gradient in ctx.saved_tensors)


def _weighted_sum(
    logits: list[Tensor], teacher_logits: list[Tensor], labels: Tensor, weights: Sequence[Tensor | None],
    losses: Sequence[TokenLoss], scales: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The scaled sum over losses and over the tokens that count, by their weights; each loss's own sum (losses,)."""
    counts, labels = labels != IGNORED, labels.clamp(min=0)
    students, teachers = ([each.float() for each in side] for side in (logits, teacher_logits))
    of_tokens = [loss(students, teachers, labels) for loss in losses]
    weighted = [each if of is None else each * of for each, of in zip(of_tokens, weights, strict=True)]
    sums = torch.stack([torch.where(counts, of_token, 0.0).sum() for of_token in weighted])
    return (sums * scales).sum(), sums


def _gradients(logits: list[Tensor], *given: Any) -> tuple[Sequence[Tensor], Tensor]:
    """As `_weighted_sum` → its gradients with respect to each of `logits`, each loss's own sum (losses,)."""
    logits = [each.detach().requires_grad_() for each in logits]
    with torch.enable_grad():
        total, sums = _weighted_sum(logits, *given)
    return torch.autograd.grad(total, logits), sums.detach()


@functools.cache
def _compiled_gradients() -> Callable[..., tuple[Sequence[Tensor], Tensor]]:
    """The same, in the form that a compiler can read."""
    function = torch.func.grad(_weighted_sum, has_aux=True)
    compiled: Callable[..., tuple[Sequence[Tensor], Tensor]] = torch.compile(function, dynamic=False)
    return compiled


class _Student:
    """States and head in the precision of products, and their gradients, collected chunk by chunk in float32."""

    def __init__(self, tensors: tuple[Any, ...]) -> None:
        self.states, self.weight, self.bias = tensors
        self.dtype = _product_dtype(self.states, self.weight)
        self.compute_weight = self.weight.to(self.dtype)
        self.compute_bias = None if self.bias is None else self.bias.to(self.dtype)
        # A token's gradient is of the order 1/tokens and would vanish in float16: it comes in scaled up.
        self.magnify = float(max(1, len(self.states)))
        self.gradients: list[Tensor | None] = [None, None, None]

    def logits(self, rows: slice) -> Tensor:
        """Logits (rows, vocabulary) in the precision of products."""
        return F.linear(self.states[rows].to(self.dtype), self.compute_weight, self.compute_bias)

    def collect(self, wanted: Sequence[bool]) -> None:
        """Make room for the gradients of states, weight and bias, those that are wanted."""
        self.gradients = [
            torch.empty_like(self.states),
            torch.zeros_like(self.weight, dtype=torch.float32) if wanted[1] else None,
            torch.zeros_like(self.bias, dtype=torch.float32) if wanted[2] else None,
        ]

    def add(self, rows: slice, gradient: Tensor) -> None:
        """Add what the gradient of a chunk's logits means for states and head; all of them stay scaled up."""
        states, weight, bias = self.gradients
        if states is not None:
            states[rows] = gradient @ self.compute_weight
        if weight is not None and self.dtype is weight.dtype:
            torch.addmm(weight, gradient.T, self.states[rows], out=weight)  # without a second array of that size
        elif weight is not None:
            weight += gradient.T @ self.states[rows].to(self.dtype)
        if bias is not None:
            bias += gradient.sum(dim=0, dtype=torch.float32)


def _copied_async(numbers: Sequence[float], device: torch.device) -> Tensor:
    """A tensor on a device that may be busy: from pageable memory a GPU's copy would wait for it."""
    return torch.tensor(numbers, pin_memory=device.type == "cuda").to(device, non_blocking=True)


def _product_dtype(states: Tensor, weight: Tensor) -> torch.dtype:
    device = states.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return weight.dtype
