"""Teachers in a student's training that are not run: their predictions are read from the cache.

Read again, a tail of which tokens were drawn is these, each an equal part: the teachers' prediction on average, and so
is the gradient of forward KL, which is linear in it. Otherwise the tail has the shape that the student gives it, at
that moment and without gradient: the cache says how much goes to the other tokens, and nothing of how they share it.
For every divergence of `logit` this is the one over k + 1 outcomes, in value and in gradient, since p_S / p_T is the
same for all of the tail. A made-up shape is worse: docs/cached_logits.md has the figures.
"""

from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from palenka.data.batch import Batch
from palenka.teachers.cached import TINY, CachedLogits, Records
from palenka.teachers.live import TeacherPass, Teachers


@dataclass(frozen=True)
class CachedOutput:
    """The combined teachers' recorded prediction of a batch, in place of a teacher's states and head.

    tokens: int64 (tokens, k).
    log_probs: float32 (tokens, k), of these.
    tail: float32 (tokens, 1), the log of the mass of all others.
    drawn: int64 (tokens, s), of these others, equal parts of the tail; None: it has the student's shape.
    """

    tokens: Tensor
    log_probs: Tensor
    tail: Tensor
    temperature: float
    drawn: Tensor | None = None

    @classmethod
    def of(
        cls, records: Records, temperature: float, device: torch.device, places: Tensor | None = None
    ) -> "CachedOutput":
        """What records say, or some of them: those at `places` (tokens,)."""
        on_device = {
            name: torch.from_numpy(np.ascontiguousarray(records[name])).to(device) for name in records.dtype.names or ()
        }
        of = {name: column if places is None else column[places] for name, column in on_device.items()}
        drawn = of["drawn"].long() if "drawn" in of else None
        return cls(of["tokens"].long(), of["log_probs"].float(), of["tail"].float()[:, None], temperature, drawn)

    def logits(self, rows: slice, dtype: torch.dtype, student: Tensor) -> Tensor:
        """Logits whose softmax at `temperature` is the prediction; a tail is as drawn, or has the student's shape.

        Args:
            rows: tokens.
            dtype: of products, of which there are none.
            student: logits (rows, vocabulary).
        """
        if self.drawn is not None:
            return self._drawn_logits(self.drawn[rows], rows, student)
        tokens = self.tokens[rows]
        own = student.float() / self.temperature
        outside = own.scatter(1, tokens, -torch.inf).logsumexp(dim=-1, keepdim=True)
        logits = own.add_(self.tail[rows] - outside)
        return logits.scatter_(1, tokens, self.log_probs[rows]).mul_(self.temperature)

    def _drawn_logits(self, drawn: Tensor, rows: slice, student: Tensor) -> Tensor:
        masses = torch.zeros_like(student, dtype=torch.float32)
        masses.scatter_add_(1, drawn, (self.tail[rows].exp() / drawn.shape[1]).expand(drawn.shape))
        masses.scatter_(1, self.tokens[rows], self.log_probs[rows].exp())
        return masses.clamp_min_(TINY).log_().mul_(self.temperature)  # finite, and nothing beside any token's

    def head_input(self) -> "CachedOutput":
        return self

    def states(self) -> NoReturn:
        raise NotImplementedError("cached logits have no states; the plan refuses objectives that need them")


class CachedTeachers(Teachers):
    """Teachers that ran earlier: their combined prediction, by position.

    Args:
        cache: where it was recorded.
        device: on which it is wanted.
        as_drawn: make a tail of which tokens were drawn of these; else it has the student's shape, as others have.
    """

    def __init__(self, cache: CachedLogits, device: torch.device, as_drawn: bool = True) -> None:
        super().__init__([], shares=[1.0])
        self.cache, self.device, self.as_drawn = cache, device, as_drawn

    def run(self, batch: Batch, windows: range | None = None, students: int = 1) -> TeacherPass:
        """What was recorded of `windows`, at the places that the batch that was made of them has logits of.

        It is the prediction of all teachers together. Its logits are never kept: each student shapes the tail.
        """
        if windows is None:
            raise ValueError("cached logits are read by position, and no positions are given")
        output = CachedOutput.of(self.cache.read(windows), self.cache.temperature, self.device, batch.places)
        output = output if self.as_drawn else replace(output, drawn=None)
        return TeacherPass([output], mean=lambda: output)
