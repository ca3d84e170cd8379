r"""Auxiliary classifiers: heads on shallow student layers learn what the teachers predict, and their last feature maps.

    L = 1/N sum_t sum_l w_l(t) c_l(t)
      + lambda sum_k s_k 1/|A| sum_l 1/N sum_t 1/d_k ||LN(V_kl g_l(t)) - LN(h^k(t))||^2

    c_l(t) = T^2 KL( p_T(. | x_{<=t}) || softmax(U g_l(t) / T) ),   w_l(t) = c_l(t) / sum_m c_m(t), held fixed
    g_l    = gain_l * RMSnorm( B_l h^S_l )                          for the chosen layers l in A

Deep supervision after arXiv 2202.07846: a head learns what the teachers predict and what they know last, and heads that
are behind weigh more. The weights are proportional to the losses of one token, so that no head takes all of it (a
softmax of losses summed over tokens does: its differences are in the hundreds), and the way a batch is cut changes
nothing. U is the student's own vocabulary head, lent: a layer costs a square matrix, and it is the layer, not the head,
that has to become readable. `own_heads: true` gives each layer a vocabulary head to itself.
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from palenka.data.batch import Batch
from palenka.data.windows import IGNORED
from palenka.models.chunked_loss import HeadInput, WeightedTerm, chunked_loss, teacher_logits
from palenka.objectives import ModelShape, ObjectiveConfig, StateObjective, States, TeacherShape
from palenka.objectives._forward_kl import forward_kl
from palenka.objectives._teachers import combined_logits, mean_over_teachers, mean_where
from palenka.util.errors import UserError

DEPTHS = (0.25, 0.5, 0.75)


class Auxiliary(StateObjective):
    """Class loss of heads on shallow layers, in nats times T^2, and their distance to the teachers' last states."""

    class Config(ObjectiveConfig):
        layers: tuple[int, ...] | None = Field(
            default=None, min_length=1, description="student layers that get a head; the shallow ones unless given"
        )
        temperature: float = Field(
            default=2.0, gt=0, description="softens both predictions; the loss is scaled by its square"
        )
        feature_weight: float = Field(
            default=1.0, ge=0, description="weight of the distance to the teachers' last states"
        )
        own_heads: bool = Field(
            default=False, description="a vocabulary head for each layer, instead of the student's lent one"
        )

    config: Config
    teacher_states = "last"

    def __init__(self, config: Config, student: ModelShape, teachers: Sequence[TeacherShape]) -> None:
        super().__init__(config, student, teachers)
        width, depth = student.hidden_size, student.num_hidden_layers
        self.shares = [teacher.share for teacher in teachers]
        self.layers = config.layers or shallow_layers(depth)
        for layer in self.layers:
            if not 1 <= layer <= depth:
                raise UserError(f"auxiliary.layers: the student has layers 1 to {depth}, there is no {layer}")
        self.vocabulary_heads = len(self.layers)
        self.head_sizes = [shape.hidden_size * shape.vocab_size for shape in (student, *teachers)]
        self.adapters = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in self.layers)
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in self.layers)
        own = self.layers if config.own_heads else ()
        self.heads = nn.ModuleList(nn.Linear(width, student.vocab_size, bias=False) for _ in own)
        guided = self.layers if config.feature_weight else ()
        self.projections = nn.ModuleList(
            nn.ModuleList(nn.Linear(width, teacher.hidden_size, bias=False) for _ in guided) for teacher in teachers
        )

    def flops(self, context: int) -> float:
        """Also each layer's way through the lent head, which gets no gradient, and the teachers' through theirs."""
        student, *teachers = self.head_sizes
        lent = 0 if self.config.own_heads else len(self.layers)
        return super().flops(context) + 4.0 * lent * student + 2.0 * sum(teachers)

    def forward(self, student: States, teachers: Sequence[States], batch: Batch) -> Tensor:
        features = [
            norm(adapter(student.hidden[layer]).float())
            for layer, adapter, norm in zip(self.layers, self.adapters, self.norms, strict=True)
        ]
        loss = self._class_loss(features, student, teachers, batch.counts)
        if self.config.feature_weight:
            loss = loss + self.config.feature_weight * self._feature_loss(features, teachers, batch.counts)
        return loss

    def _class_loss(
        self, features: list[Tensor], student: States, teachers: Sequence[States], counts: Tensor
    ) -> Tensor:
        heads = list(self.heads) or [student.head] * len(features)
        inputs = [
            HeadInput(feature.flatten(0, 1), head, lent=not self.config.own_heads)  # type: ignore[arg-type]
            for feature, head in zip(features, heads, strict=True)
        ]
        teacher_inputs = [teacher_logits(teacher.hidden[-1].flatten(0, 1), teacher.head) for teacher in teachers]
        labels = torch.where(counts, 0, IGNORED).flatten()
        # In two steps: gradients of a mean, not of a sum, fit into float16 for any number of tokens.
        mean, _ = chunked_loss(inputs, teacher_inputs, labels, [WeightedTerm(self._token_losses, 1 / len(labels))])
        return mean * (len(labels) / counts.sum())

    def _token_losses(self, students: Sequence[Tensor], teachers: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The weighted sum over heads of each token (tokens,)."""
        temperature = self.config.temperature
        target = combined_logits(teachers, self.shares, temperature, "logits")
        own = [forward_kl(target, logits / temperature) for logits in students]
        losses = torch.stack(own) * temperature**2
        return (adaptive_weights(losses) * losses).sum(dim=0)

    def _feature_loss(self, features: list[Tensor], teachers: Sequence[States], counts: Tensor) -> Tensor:
        targets = [_normalized(teacher.hidden[-1]) for teacher in teachers]
        distances = [
            [
                mean_where(counts, (_normalized(project(feature)) - target).square().mean(dim=-1))
                for feature, project in zip(features, projections, strict=True)  # type: ignore[call-overload]
            ]
            for target, projections in zip(targets, self.projections, strict=True)
        ]
        return mean_over_teachers(self.shares, distances)


def shallow_layers(depth: int) -> tuple[int, ...]:
    """A quarter, half and three quarters of the way up, below the last layer where there is more than one."""
    return tuple(sorted({min(max(1, round(depth * share)), max(1, depth - 1)) for share in DEPTHS}))


def adaptive_weights(losses: Tensor) -> Tensor:
    """Weights of the heads for each token, in proportion to their losses (heads, tokens), without gradient."""
    losses = losses.detach().clamp(min=0) + torch.finfo(losses.dtype).tiny
    return losses / losses.sum(dim=0)


def _normalized(states: Tensor) -> Tensor:
    """Layer norm without gain and bias, in float32."""
    return F.layer_norm(states.float(), states.shape[-1:])
