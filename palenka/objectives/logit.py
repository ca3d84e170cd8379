r"""Logit distillation: the student matches the softened prediction of its teachers.

    L = T^2 1/N sum_t  D( p_T(. | x_{<=t}), p_S(. | x_{<=t}) ),   p_S = softmax(z^S_t / T)

    combine: logits          p_T = softmax( sum_k s_k z^k_t / T )      BabyLlama's ensemble, arXiv 2308.02019
    combine: probabilities   p_T = sum_k s_k softmax( z^k_t / T )

    divergence: forward         D = KL(p_T || p_S)                     Hinton et al. 2015, arXiv 1503.02531
    divergence: reverse         D = KL(p_S || p_T)                     MiniLLM, arXiv 2306.08543
    divergence: jensen_shannon  D = beta KL(p_T || m) + (1 - beta) KL(p_S || m),  m = beta p_T + (1 - beta) p_S
                                                                       generalised, as in GKD, arXiv 2306.13649
with teacher shares s_k that sum to 1. T^2 keeps the gradient's size when T changes (Hinton et al., section 2).
`reduction: sequence_sum` divides by the number of sequences instead of tokens: what
`KLDivLoss(reduction="batchmean")` does to (batch, time, vocabulary), as in BabyLlama's code; at 128 tokens a sequence
it weighs up to 127 times as much.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from palenka.objectives import ModelShape, ObjectiveConfig, TeacherShape, TokenObjective
from palenka.objectives._forward_kl import forward_kl
from palenka.objectives._teachers import Combination, combined_logits, divergence


class Logit(TokenObjective):
    """Temperature-scaled divergence between the combined teachers and the student, in nats times T^2."""

    class Config(ObjectiveConfig):
        temperature: float = Field(
            default=2.0, gt=0, description="softens both predictions; the loss is scaled by its square"
        )
        combine: Combination = Field(
            default="logits", description="average the teachers' logits, or their probabilities"
        )
        divergence: Literal["forward", "reverse", "jensen_shannon"] = Field(
            default="forward", description="KL from teacher to student, the reverse, or generalised Jensen-Shannon"
        )
        beta: float = Field(default=0.5, gt=0, lt=1, description="the teacher's share in jensen_shannon's mixture")
        reduction: Literal["token", "sequence_sum"] = Field(
            default="token", description="mean per token, or BabyLlama's sum over each sequence"
        )

        def idle(self) -> Iterator[tuple[str, str]]:
            yield from super().idle()
            if self.divergence != "jensen_shannon":
                yield "beta", "divergence: jensen_shannon"

    config: Config

    def __init__(self, config: Config, student: ModelShape, teachers: Sequence[TeacherShape]) -> None:
        super().__init__(config, student, teachers)
        self.shares = [teacher.share for teacher in teachers] if config.combine == "probabilities" else [1.0]
        self.teacher_logits = "each" if config.combine == "probabilities" else "mean"
        self.reduction = config.reduction

    def forward(self, student: Tensor, teachers: Sequence[Tensor], labels: Tensor) -> Tensor:
        temperature = self.config.temperature
        combined = combined_logits(teachers, self.shares, temperature, self.config.combine)
        return self._divergence(combined, student / temperature) * temperature**2

    def _divergence(self, teacher: Tensor, student: Tensor) -> Tensor:
        """Of each token (tokens,), from softened logits (tokens, vocabulary)."""
        if self.config.divergence == "forward":
            return forward_kl(teacher, student)
        target, own = F.log_softmax(teacher, dim=-1), F.log_softmax(student, dim=-1)
        if self.config.divergence == "reverse":
            return divergence(own, target)
        beta = self.config.beta
        mixture = torch.logaddexp(target + math.log(beta), own + math.log(1 - beta))
        return beta * divergence(target, mixture) + (1 - beta) * divergence(own, mixture)
