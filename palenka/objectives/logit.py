r"""Logit distillation: the student matches the softened prediction of its teachers.

    L = T^2 1/N sum_t  KL( p_T(. | x_{<=t}) || softmax(z^S_t / T) )

    combine: logits          p_T = softmax( sum_k s_k z^k_t / T )      BabyLlama's ensemble, arXiv 2308.02019
    combine: probabilities   p_T = sum_k s_k softmax( z^k_t / T )

with teacher shares s_k that sum to 1. T^2 keeps the gradient's size when T changes (Hinton et al. 2015,
arXiv 1503.02531, section 2). `reduction: sequence_sum` divides by the number of sequences instead of tokens: what
`KLDivLoss(reduction="batchmean")` does to (batch, time, vocabulary), as in BabyLlama's code; at 128 tokens a sequence
it weighs up to 127 times as much.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from palenka.objectives import ModelShape, ObjectiveConfig, TeacherShape, TokenObjective


class Logit(TokenObjective):
    """Temperature-scaled forward KL from the combined teachers to the student, in nats times T^2."""

    class Config(ObjectiveConfig):
        temperature: float = Field(default=2.0, gt=0)
        combine: Literal["logits", "probabilities"] = "logits"
        reduction: Literal["token", "sequence_sum"] = "token"

    needs_teachers = True
    config: Config

    def __init__(self, config: Config, student: ModelShape, teachers: Sequence[TeacherShape]) -> None:
        super().__init__(config, student, teachers)
        self.shares = [teacher.share for teacher in teachers]
        self.reduction = config.reduction

    def forward(self, student: Tensor, teachers: Sequence[Tensor], labels: Tensor) -> Tensor:
        temperature = self.config.temperature
        student_log_probs = F.log_softmax(student / temperature, dim=-1)
        teacher_log_probs = self._teacher_log_probs(teachers)
        kl = F.kl_div(student_log_probs, teacher_log_probs, reduction="none", log_target=True).sum(dim=-1)
        return kl * temperature**2

    def _teacher_log_probs(self, teachers: Sequence[Tensor]) -> Tensor:
        temperature = self.config.temperature
        if self.config.combine == "logits":
            combined = torch.zeros_like(teachers[0])
            for share, logits in zip(self.shares, teachers, strict=True):
                combined = combined + share * logits
            return F.log_softmax(combined / temperature, dim=-1)
        weighted = [
            F.log_softmax(logits / temperature, dim=-1) + math.log(share)
            for share, logits in zip(self.shares, teachers, strict=True)
        ]
        return torch.logsumexp(torch.stack(weighted), dim=0)
