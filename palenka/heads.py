"""Vocabulary heads in chunks of tokens: logits, losses and their gradients are formed piece by piece and never kept.

For N tokens and a vocabulary of V, the plain formula holds several (N, V) arrays, often more than the model itself.
Here each chunk of tokens goes through the heads, its losses and their gradient with respect to the student's states
and head are formed at once, and the logits are dropped; backward only scales what was stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palenka.objectives import TokenObjective
from palenka.tokens import IGNORED

# Logits of a chunk should stay in a CPU's cache; a GPU wants long chunks.
CHUNK_TOKENS = {"cpu": 256, "cuda": 4096}


@dataclass(frozen=True)
class HeadInput:
    """Final states (tokens, width) and the linear layer (vocabulary, width) that turns them into logits."""

    states: Tensor
    head: nn.Linear

    def logits(self, rows: slice, dtype: torch.dtype) -> Tensor:
        """float32 logits (rows, vocabulary), the product formed in `dtype`."""
        bias = None if self.head.bias is None else self.head.bias.to(dtype)
        return F.linear(self.states[rows].to(dtype), self.head.weight.to(dtype), bias).float()


@dataclass(frozen=True)
class WeightedTerm:
    """A token objective and the factor of its sum over tokens in the loss."""

    objective: TokenObjective
    scale: float


def chunked_loss(
    student: HeadInput, teachers: Sequence[HeadInput], labels: Tensor, terms: Sequence[WeightedTerm],
    chunk_tokens: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The scaled sum of all token terms, and each term's plain sum.

    Positions that do not count go through the heads like the others, and their losses are dropped: products whose
    shapes change from step to step would cost more (on a CPU each new shape is compiled, and kept for good).

    Args:
        student: states (tokens, width), and the student's head.
        teachers: the same of each teacher; no gradient reaches them.
        labels: (tokens,), -100 where none counts.
        terms: objectives with the scale of their sum in the loss.
        chunk_tokens: tokens whose logits exist at one time; by default what suits the device.

    Returns:
        The loss, a float32 scalar with gradient to the student's states and head; the terms' unscaled sums over
        tokens, float32 (terms,), without gradient.
    """
    total, sums = _ChunkedLoss.apply(
        student.states, student.head.weight, student.head.bias,
        teachers, labels, terms, chunk_tokens or CHUNK_TOKENS[labels.device.type], torch.is_grad_enabled(),
    )  # fmt: skip
    return total, sums


@torch.no_grad()
def token_losses(model: HeadInput, labels: Tensor) -> Tensor:
    """Cross-entropy of each token in nats, float32 (tokens,), 0 where the label is -100; without gradient."""
    dtype = _product_dtype(model.states, model.head.weight)
    chunk_tokens = CHUNK_TOKENS[labels.device.type]
    chunks = [slice(start, start + chunk_tokens) for start in range(0, len(labels), chunk_tokens)]
    with torch.autocast(model.states.device.type, enabled=False):
        losses = [F.cross_entropy(model.logits(rows, dtype), labels[rows], reduction="none") for rows in chunks]
    return torch.cat(losses)


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, teachers: Sequence[HeadInput],
        labels: Tensor, terms: Sequence[WeightedTerm], chunk_tokens: int, with_gradient: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        device = states.device
        dtype = _product_dtype(states, weight)
        scales = torch.tensor([term.scale for term in terms], device=device)
        sums = torch.zeros(len(terms), device=device)
        with_gradient = with_gradient and any(ctx.needs_input_grad[:3])
        gradients = _Gradients(states, weight, bias, dtype) if with_gradient else None
        compute_weight = weight.to(dtype)
        compute_bias = None if bias is None else bias.to(dtype)
        with torch.autocast(device.type, enabled=False):
            for start in range(0, len(labels), chunk_tokens):
                rows = slice(start, start + chunk_tokens)
                logits = F.linear(states[rows].to(dtype), compute_weight, compute_bias).float()
                with torch.no_grad():
                    teacher_logits = [teacher.logits(rows, dtype) for teacher in teachers]
                with torch.set_grad_enabled(with_gradient):
                    logits.requires_grad_(with_gradient)
                    chunk_sums = _sums(terms, logits, teacher_logits, labels[rows])
                if gradients is not None:
                    (gradient,) = torch.autograd.grad(chunk_sums, logits, grad_outputs=scales * gradients.magnify)
                    gradients.add(rows, gradient, states[rows], compute_weight)
                sums += chunk_sums.detach()
        if gradients is not None:
            ctx.save_for_backward(*gradients.finish())
        ctx.mark_non_differentiable(sums)
        return (sums * scales).sum(), sums  # not a matrix product, which autocast would round

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_outputs[0]
        d_states, d_weight, d_bias = ctx.saved_tensors
        return d_states * scale, d_weight * scale, None if d_bias is None else d_bias * scale, *[None] * 5


def _sums(terms: Sequence[WeightedTerm], logits: Tensor, teacher_logits: list[Tensor], labels: Tensor) -> Tensor:
    """Each term's sum over the tokens that count (terms,)."""
    counts, labels = labels != IGNORED, labels.clamp(min=0)
    losses = [term.objective(logits, teacher_logits, labels) for term in terms]
    return torch.stack([torch.where(counts, loss, 0.0).sum() for loss in losses])


class _Gradients:
    """Gradients of the loss, collected chunk by chunk in float32."""

    def __init__(self, states: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.dtype = dtype
        # A token's gradient is of the order 1/tokens and would vanish in float16: it comes in magnified.
        self.magnify = float(max(1, len(states)))
        self.states = torch.empty_like(states)
        self.weight = torch.zeros_like(weight, dtype=torch.float32)
        self.bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)

    def add(self, rows: slice, gradient: Tensor, states: Tensor, weight: Tensor) -> None:
        if self.bias is not None:
            self.bias += gradient.sum(dim=0) / self.magnify
        gradient = gradient.to(self.dtype)
        self.states[rows] = (gradient @ weight).float().div_(self.magnify).to(self.states.dtype)
        self.weight += (gradient.T @ states.to(self.dtype)).float().div_(self.magnify)

    def finish(self) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.states, self.weight, self.bias


def _product_dtype(states: Tensor, weight: Tensor) -> torch.dtype:
    device = states.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return weight.dtype
