"""Hard target: cross-entropy with the token that follows."""

import math

import terms
import torch
from torch import Tensor


def hard_target(logits: Tensor, labels: Tensor) -> Tensor:
    value: Tensor = terms.objective("hard_target", terms.student_shape(1), [])(logits, [], labels)
    return value


def test_hard_target_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])  # probabilities 1/4 and 3/4, then 1/2 and 1/2
    expected = torch.tensor([math.log(4), math.log(2)])
    torch.testing.assert_close(hard_target(logits, torch.tensor([0, 1])), expected)


def test_hard_target_equals_its_equation() -> None:
    logits, labels = torch.randn(9, 13, dtype=torch.float64) * 4, torch.randint(13, (9,))
    expected = -(logits.exp() / logits.exp().sum(-1, keepdim=True)).log()[torch.arange(9), labels]
    torch.testing.assert_close(hard_target(logits, labels), expected)
