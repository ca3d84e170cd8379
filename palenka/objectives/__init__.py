"""What an objective is: one term of a loss, in a file of its own.

Undistilled training is `hard_target` alone, logged as `cross_entropy`.

A new objective is one file here: `my_term.py` defines `class MyTerm(TokenObjective)` or `(StateObjective)`, and the
YAML key `objective.my_term` finds it by the file's name. Its knobs are its own `Config`, beside its equation.

Every objective returns its *unweighted* value. It never runs a model, never logs, and knows nothing of weights of other
terms, devices or processes. Parameters it owns are trained with the student and left out of the exported model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from palenka.data.batch import Batch
from palenka.models.outputs import ModelShape, States
from palenka.util.doors import Door
from palenka.util.schedules import Weight
from palenka.util.section import Section


class ObjectiveConfig(Section):
    """Knobs every objective has; each file adds its own."""

    weight: Weight = Field(description="factor in the loss: a number, or a schedule over the training")

    def idle(self) -> Iterator[tuple[str, str]]:
        """Keys that change nothing as the others stand, each with what it needs."""
        if self.weight.is_constant:
            yield from ((f"weight.{key}", "a start and an end that differ") for key in ("begin", "finish", "shape"))


@dataclass(frozen=True)
class TeacherShape(ModelShape):
    """A teacher as objectives see it: its share among the teachers (shares sum to 1) and its layer pairs."""

    share: float
    layer_pairs: tuple[tuple[int, int], ...]  # (teacher layer, student layer), 0 = embeddings


class Objective(nn.Module):
    """Base of all objectives."""

    Config: type[ObjectiveConfig] = ObjectiveConfig

    def __init__(self, config: ObjectiveConfig, student: ModelShape, teachers: Sequence[TeacherShape]) -> None:
        super().__init__()
        self.config = config

    def flops(self, context: int) -> float:
        """Matrix-product FLOPs of one token of training, in windows of `context` tokens, beside those of the models.

        6 for each weight of the matrices that the objective owns: 2 forward, 4 backward. One that multiplies more than
        its own matrices adds that.
        """
        return 6.0 * sum(parameter.numel() for parameter in self.parameters() if parameter.ndim == 2)


class TokenObjective(Objective):
    """A term that depends on logits, given chunk by chunk; it owns no parameters."""

    reduction: Literal["token", "sequence_sum"] = "token"
    teacher_logits: Literal["none", "each", "mean"] = "none"

    def forward(self, student: Tensor, teachers: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Loss of each token.

        Args:
            student: float32 logits (tokens, vocabulary).
            teachers: float32 logits (tokens, vocabulary) of each teacher, or of their mean weighted by shares alone
                (one product instead of several), or none, as `teacher_logits` says.
            labels: the token that each position predicts (tokens,).

        Returns:
            (tokens,), in nats.
        """
        raise NotImplementedError


class StateObjective(Objective):
    """A term that depends on states inside the models.

    `teacher_states`: of which layers it looks at the teachers': the last, those of `layer_pairs`, or any, or more than
    states; only the first two can be kept by `teacher_cache`. `vocabulary_heads`: how many it puts states through at
    once.
    """

    needs_hidden_states: bool = True
    teacher_states: Literal["last", "mapped", "all"] = "all"
    vocabulary_heads: int = 0

    @property
    def repeated(self) -> Sequence[nn.Module]:
        """Parts that are called again and again with equal shapes, once a layer pair say: a run may compile them."""
        return ()

    @property
    def attention_pairs(self) -> Sequence[Sequence[tuple[int, int]]]:
        """For each teacher the (teacher layer, student layer) pairs whose attention is needed; mostly none."""
        return ()

    def forward(self, student: States, teachers: Sequence[States], batch: Batch) -> Tensor:
        """Mean of the term over the positions that count.

        Args:
            student: of the student, with gradient.
            teachers: of each teacher, without.
            batch: what they were shown; `batch.counts` says which positions have something to predict, and one has.

        Returns:
            A scalar: the mean over these positions.
        """
        raise NotImplementedError


DOOR: Door[Objective] = Door(__name__, "objective")
available, find = DOOR.available, DOOR.find
