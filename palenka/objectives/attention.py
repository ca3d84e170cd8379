r"""Attention distillation: the student's last layer attends where its teachers' last layers do.

    L as in `_relations.py`, R = softmax( mask( Q K^T / sqrt(d_r) ) )

MiniLM (arXiv 2002.10957, section 3.1) with the relation heads of MiniLMv2 (arXiv 2012.15828). With as many relation
heads as both models have attention heads, R is their own attention; queries and keys are those that enter the product,
positions included where they are rotated into them.
"""

from torch import Tensor

from palenka.models.outputs import Attention as LayerAttention
from palenka.objectives._relations import RelationObjective


class Attention(RelationObjective):
    """KL between query-key relations, in nats."""

    def related(self, attention: LayerAttention) -> tuple[Tensor, Tensor]:
        return attention.queries, attention.keys
