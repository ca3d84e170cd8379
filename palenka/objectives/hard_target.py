r"""Hard target: cross-entropy with the label that the paradigm gives a position, of `causal` the token that follows.

    L = 1/N sum_t  -log p_S(x_{t+1} | x_{<=t})
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from palenka.objectives import TokenObjective


class HardTarget(TokenObjective):
    """Cross-entropy of the label of a position, in nats."""

    def forward(self, student: Tensor, teachers: Sequence[Tensor], labels: Tensor) -> Tensor:
        return F.cross_entropy(student, labels, reduction="none")
