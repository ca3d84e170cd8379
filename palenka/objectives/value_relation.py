r"""Value-relation distillation: values of the student's last layer resemble each other as its teachers' do.

    L as in `_relations.py`, R = softmax( mask( V V^T / sqrt(d_r) ) )

MiniLM (arXiv 2002.10957, section 3.2), for another number of heads as in MiniLMv2 (arXiv 2012.15828).
"""

from torch import Tensor

from palenka.models.outputs import Attention
from palenka.objectives._relations import RelationObjective


class ValueRelation(RelationObjective):
    """KL between value-value relations, in nats."""

    def related(self, attention: Attention) -> tuple[Tensor, Tensor]:
        return attention.values, attention.values
