r"""Relations between the tokens of a window, as an attention layer holds them, for `attention` and `value_relation`.

    R(a, b)_h = softmax( mask( a_h b_h^T / sqrt(d_r) ) )     for relation heads h = 1 ... A, of width d_r = d / A
    L = sum_k s_k  1/|M_k| sum_{(i,j) in M_k}  1/(A N) sum_h sum_t  KL( R^k_i(t) || R^S_j(t) )

The vectors of all attention heads are put side by side and regrouped into A relation heads (MiniLMv2, arXiv
2012.15828), so that models of other widths and head counts compare. The mask is the batch's: a token relates to those
that it sees.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from palenka.data.batch import Batch
from palenka.models.outputs import Attention
from palenka.objectives import ModelShape, ObjectiveConfig, StateObjective, States, TeacherShape
from palenka.objectives._teachers import divergence, last_layers, mean_over_teachers, mean_where
from palenka.util.errors import UserError

MASKED = -1e30


class RelationObjective(StateObjective):
    """KL from the teachers' relations to the student's, a mean over relation heads and tokens, in nats."""

    needs_hidden_states = False

    def __init__(self, config: ObjectiveConfig, student: ModelShape, teachers: Sequence[TeacherShape]) -> None:
        super().__init__(config, student, teachers)
        self.shares = [teacher.share for teacher in teachers]
        self.widths = (student.attention_size, [teacher.attention_size for teacher in teachers])
        self.pairs = last_layers(student, teachers)
        for number, teacher in enumerate(teachers, start=1):
            if not teacher.num_attention_heads:
                raise UserError(f"teacher {number} has no attention to compare; leave one of the two out")
        own = math.gcd(student.num_attention_heads, student.attention_size)
        self.heads = [math.gcd(own, teacher.attention_size) for teacher in teachers]

    @property
    def attention_pairs(self) -> Sequence[Sequence[tuple[int, int]]]:
        return self.pairs

    def flops(self, context: int) -> float:
        """One product of all tokens of a window with each other for each pair, trained in the student."""
        student, teachers = self.widths
        widths = sum(len(pairs) * (3 * student + teacher) for pairs, teacher in zip(self.pairs, teachers, strict=True))
        return super().flops(context) + 2.0 * context * widths

    def related(self, attention: Attention) -> tuple[Tensor, Tensor]:
        """The two sides of the relation, each (batch, heads, time, d)."""
        raise NotImplementedError

    def forward(self, student: States, teachers: Sequence[States], batch: Batch) -> Tensor:
        counts, visible = batch.counts, batch.visible()
        distances = [
            [
                mean_where(counts, self._distance(student.attention[j], teacher.attention[i], heads, visible))
                for i, j in pairs
            ]
            for pairs, heads, teacher in zip(self.pairs, self.heads, teachers, strict=True)
        ]
        return mean_over_teachers(self.shares, distances)

    def _distance(self, student: Attention, teacher: Attention, heads: int, visible: Tensor) -> Tensor:
        """KL of each position (batch, time), a mean over relation heads."""
        target, own = (relation_log_probs(*self.related(side), heads, visible) for side in (teacher, student))
        return divergence(target, own).mean(dim=1)


def relation_log_probs(left: Tensor, right: Tensor, heads: int, visible: Tensor) -> Tensor:
    """Log-probabilities (batch, relation heads, time, time) with which each token relates to those that it sees.

    Args:
        left, right: the two sides of the relation, (batch, attention heads, time, d).
        heads: relation heads.
        visible: bool, (time, time) or (batch or 1, 1, time, time).
    """
    left, right = _cut(left, heads), _cut(right, heads)
    with torch.autocast(left.device.type, enabled=False):  # a mean of small differences: bf16 would drown it
        scores = left @ right.transpose(-1, -2) / math.sqrt(left.shape[-1])
    return F.log_softmax(scores.masked_fill(~visible, MASKED), dim=-1)


def _cut(vectors: Tensor, heads: int) -> Tensor:
    """(batch, attention heads, time, d) in float32, cut anew into (batch, heads, time, width / heads)."""
    return vectors.float().transpose(1, 2).flatten(2).unflatten(2, (heads, -1)).transpose(1, 2)
