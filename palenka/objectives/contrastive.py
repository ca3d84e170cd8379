r"""Contrastive distillation: a token's state in the student points to its state in the teacher, and to no other's.

    L = sum_k s_k  1/|M_k| sum_{(i,j) in M_k}  1/N sum_t  -log  exp(c_tt / tau) / sum_{u in G(t)} exp(c_tu / tau)

    c_tu = cos( W_kij h^S_j(t), V_kij h^k_i(u) )

InfoNCE (arXiv 1807.03748) between student and teacher through a projection on either side, as in CRD (arXiv
1910.10699). The negatives of t are the other tokens that count in its group of `group` windows, G(t): at most
group x time - 1, of which group - 1 are at its own position, so that the position alone does not give the token away.
Groups are cut from each micro-batch: one that is no multiple of `group` ends in a smaller, easier one.

c lies in [-1, 1], so a loss over n candidates lies between log(1 + (n - 1) e^(-2/tau)) and log(1 + (n - 1) e^(2/tau)).
With n = 1024 and tau = 2 (the study's) that is 5.9 to 7.9 around the log n = 6.9 of knowing nothing: no student could
do well. With tau = 0.1, the default, it goes down to 0.000002.
"""

from collections.abc import Iterable, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from palenka.data.batch import Batch
from palenka.objectives import ModelShape, ObjectiveConfig, StateObjective, States, TeacherShape
from palenka.objectives._teachers import last_layers, mean_over_teachers

MASKED = -1e30


class Contrastive(StateObjective):
    """InfoNCE from student states to teacher states of the same tokens, in nats."""

    class Config(ObjectiveConfig):
        temperature: float = Field(default=0.1, gt=0, description="of the cosines")
        projection_size: int = Field(default=128, ge=1, description="width that states are compared in")
        group: int = Field(default=8, ge=1, description="windows whose tokens are told apart")

    config: Config
    teacher_states = "last"

    def __init__(self, config: Config, student: ModelShape, teachers: Sequence[TeacherShape]) -> None:
        super().__init__(config, student, teachers)
        self.shares = [teacher.share for teacher in teachers]
        self.pairs = last_layers(student, teachers)
        self.student_projections = self._projections(student.hidden_size for _ in teachers)
        self.teacher_projections = self._projections(teacher.hidden_size for teacher in teachers)

    def _projections(self, widths: Iterable[int]) -> nn.ModuleList:
        return nn.ModuleList(
            nn.ModuleList(nn.Linear(width, self.config.projection_size, bias=False) for _ in pairs)
            for width, pairs in zip(widths, self.pairs, strict=True)
        )

    def flops(self, context: int) -> float:
        """Also the cosines within full groups; the teachers' projections hand no gradient on."""
        of_teachers = sum(matrix.numel() for matrix in self.teacher_projections.parameters())
        candidates = self.config.group * context
        cosines = 6 * self.config.projection_size * candidates * sum(map(len, self.pairs))
        return super().flops(context) - 2 * of_teachers + cosines

    def forward(self, student: States, teachers: Sequence[States], batch: Batch) -> Tensor:
        counts = batch.counts
        losses = [
            [
                self._info_nce(own(student.hidden[j]), its(teacher.hidden[i].to(student.hidden[j].dtype)), counts)
                for (i, j), own, its in zip(pairs, of_student, of_teacher, strict=True)  # type: ignore[call-overload]
            ]
            for teacher, pairs, of_student, of_teacher in zip(
                teachers, self.pairs, self.student_projections, self.teacher_projections, strict=True
            )
        ]
        return mean_over_teachers(self.shares, losses)

    def _info_nce(self, student: Tensor, teacher: Tensor, counts: Tensor) -> Tensor:
        """Mean loss over the positions that count; student and teacher (batch, time, projection size)."""
        student, teacher = (F.normalize(side.float(), dim=-1) for side in (student, teacher))
        groups = zip(*(side.split(self.config.group) for side in (student, teacher, counts)), strict=True)
        return torch.stack([self._group_sum(*group) for group in groups]).sum() / counts.sum()

    def _group_sum(self, student: Tensor, teacher: Tensor, counts: Tensor) -> Tensor:
        counts = counts.flatten()
        with torch.autocast(student.device.type, enabled=False):  # a small temperature magnifies what bf16 rounds off
            scores = student.flatten(0, 1) @ teacher.flatten(0, 1).T / self.config.temperature
        scores = scores.masked_fill(~counts, MASKED)
        return torch.where(counts, scores.logsumexp(dim=1) - scores.diagonal(), 0.0).sum()
