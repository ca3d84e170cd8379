r"""Hidden-state distillation: chosen layers of the student match layers of each teacher through learned projections.

    L = sum_k s_k  1/|M_k| sum_{(i,j) in M_k}  1/N sum_t  D( W_kij h^S_j(t), h^k_i(t) )

    distance: normalized   D(a, b) = 1/d ||LN(a) - LN(b)||^2      LN: layer norm without gain and bias
    distance: plain        D(a, b) = 1/d ||a - b||^2
    distance: cosine       D(a, b) = 1 - cos(a, b)

for teachers k of width d with shares s_k and layer pairs M_k of (teacher layer i, student layer j); every pair has a
projection of its own, student to teacher, so that the target cannot be shrunk. Unnormalised states of language models
have a few outlier dimensions that dominate the plain distance, hence the default.

FitNets (arXiv 1412.6550) at every mapped depth: deep supervision without auxiliary classifiers (arXiv 2202.07846).
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from palenka.data.batch import Batch
from palenka.objectives import ModelShape, ObjectiveConfig, StateObjective, States, TeacherShape
from palenka.objectives._teachers import mean_over_teachers, mean_where

Kind = Literal["normalized", "plain", "cosine"]


class HiddenState(StateObjective):
    """Distance between projected student states and teacher states, averaged over pairs, weighted over teachers."""

    class Config(ObjectiveConfig):
        distance: Kind = Field(
            default="normalized", description="squared error of normalised or plain states, or 1 - cosine"
        )

    config: Config
    teacher_states = "mapped"

    def __init__(self, config: Config, student: ModelShape, teachers: Sequence[TeacherShape]) -> None:
        super().__init__(config, student, teachers)
        self.distance = Distance(config.distance)
        self.shares = [teacher.share for teacher in teachers]
        self.layer_pairs = [teacher.layer_pairs for teacher in teachers]
        self.projections = nn.ModuleList(
            nn.ModuleList(
                nn.Linear(student.hidden_size, teacher.hidden_size, bias=False) for _ in teacher.layer_pairs
            )
            for teacher in teachers
        )

    @property
    def repeated(self) -> Sequence[nn.Module]:
        return (self.distance,)

    def forward(self, student: States, teachers: Sequence[States], batch: Batch) -> Tensor:
        counts = batch.counts
        distances = [
            [
                self.distance(project(student.hidden[j]), teacher.hidden[i], counts)
                for (i, j), project in zip(pairs, projections, strict=True)  # type: ignore[call-overload]
            ]
            for pairs, projections, teacher in zip(self.layer_pairs, self.projections, teachers, strict=True)
        ]
        return mean_over_teachers(self.shares, distances)


class Distance(nn.Module):
    """Mean distance between states of one width."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, student: Tensor, teacher: Tensor, counts: Tensor) -> Tensor:
        """Over the positions that count (batch, time), of states (batch, time, width): a scalar."""
        return mean_where(counts, self._of_positions(student.float(), teacher.float()))

    def _of_positions(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.kind == "cosine":
            return 1 - F.cosine_similarity(student, teacher, dim=-1)
        if self.kind == "normalized":
            width = (teacher.shape[-1],)
            student, teacher = F.layer_norm(student, width), F.layer_norm(teacher, width)
        return (student - teacher).square().mean(dim=-1)
