"""The tolerance for divergences, held against float32 itself."""

import tiny
import torch
from rounding import TEMPERATURE, divergence_tolerance
from torch import Tensor


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    teacher, student = ((logits / TEMPERATURE).log_softmax(-1) for logits in (teacher, student))
    return TEMPERATURE**2 * (teacher.exp() * (teacher - student)).sum(-1).mean()


def test_float32_stays_within_and_needs_a_good_part_of_the_tolerance() -> None:
    """Of students near their teacher, whose divergence of about 0.01 is a difference of numbers around 6."""
    teacher = torch.randn(200, 4, tiny.VOCABULARY)
    student = teacher + 0.1 * torch.randn_like(teacher)
    errors = [
        abs(divergence(t, s).item() - divergence(t.double(), s.double()).item())
        for t, s in zip(teacher, student, strict=True)
    ]
    assert 0.05 * divergence_tolerance() < max(errors) < divergence_tolerance()
