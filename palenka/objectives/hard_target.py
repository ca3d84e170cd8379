r"""Hard target: cross-entropy with the token that follows.

    L = 1/N sum_t  -log p_S(x_{t+1} | x_{<=t})
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from palenka.objectives import TokenObjective


class HardTarget(TokenObjective):
    """Cross-entropy of the next token, in nats."""

    def forward(self, student: Tensor, teachers: Sequence[Tensor], labels: Tensor) -> Tensor:
        return F.cross_entropy(student, labels, reduction="none")
