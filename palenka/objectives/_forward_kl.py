"""KL from a teacher's prediction to a student's, and its gradient, in as few passes over the logits as there can be.

On a CPU an exponential takes as long as five multiplications, and autograd's way to this gradient takes five of them
for each entry of the vocabulary; two suffice, of one softmax each:

    KL(p || q) = sum_v p_v (t_v - s_v) - log sum_v e^(t_v) + log sum_v e^(s_v),   p = softmax(t), q = softmax(s)
    d KL / d s = q - p
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from palenka.objectives._teachers import divergence


def forward_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) of each row (…,), in nats; no gradient reaches the teacher.

    Args:
        teacher, student: logits (…, outcomes), softened by the temperature.
    """
    if torch.compiler.is_compiling():  # which makes few passes of the plain formula by itself
        return divergence(F.log_softmax(teacher, dim=-1), F.log_softmax(student, dim=-1))
    losses: Tensor = _ForwardKL.apply(teacher, student)
    return losses


class _ForwardKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, teacher: Tensor, student: Tensor) -> Tensor:
        wanted, of_teacher = _softmax(teacher)
        own, of_student = _softmax(student)
        losses = torch.linalg.vecdot(wanted, teacher - student) - of_teacher + of_student
        ctx.save_for_backward(own.sub_(wanted))
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        (difference,) = ctx.saved_tensors
        return None, difference * gradient.unsqueeze(-1)


def _softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities (…, outcomes), and log sum exp of the logits (…,): from the largest, whose probability is known."""
    probabilities = logits.softmax(dim=-1)
    return probabilities, logits.amax(dim=-1) - probabilities.amax(dim=-1).log()
