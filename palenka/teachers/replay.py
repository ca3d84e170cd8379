"""Teachers in a student's training that are not run: their predictions are read from the cache.

Read again, the tail has the shape that the student gives it, at that moment and without gradient: the cache says how
much goes to the other tokens, and nothing of how they share it. For every divergence of `logit` this is the one over
k + 1 outcomes, in value and in gradient, since p_S / p_T is the same for all of the tail. A made-up shape is worse:
docs/cached_logits.md has the figures.
"""

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from palenka.data.batch import Batch
from palenka.teachers.cached import CachedLogits, Records
from palenka.teachers.live import TeacherPass, Teachers


@dataclass(frozen=True)
class CachedOutput:
    """The combined teachers' recorded prediction of a batch, in place of a teacher's states and head.

    tokens: int64 (tokens, k).
    log_probs: float32 (tokens, k), of these.
    tail: float32 (tokens, 1), the log of the mass of all others.
    """

    tokens: Tensor
    log_probs: Tensor
    tail: Tensor
    temperature: float

    @classmethod
    def of(
        cls, records: Records, temperature: float, device: torch.device, places: Tensor | None = None
    ) -> "CachedOutput":
        """What records say, or some of them: those at `places` (tokens,)."""
        columns = (torch.from_numpy(np.ascontiguousarray(records[name])) for name in ("tokens", "log_probs", "tail"))
        on_device = (column.to(device) for column in columns)
        tokens, log_probs, tail = (column if places is None else column[places] for column in on_device)
        return cls(tokens.long(), log_probs.float(), tail.float()[:, None], temperature)

    def logits(self, rows: slice, dtype: torch.dtype, student: Tensor) -> Tensor:
        """Logits whose softmax at `temperature` is the prediction, with a tail in the shape of the student's.

        Args:
            rows: tokens.
            dtype: of products, of which there are none.
            student: logits (rows, vocabulary).
        """
        tokens = self.tokens[rows]
        own = student.float() / self.temperature
        outside = own.scatter(1, tokens, -torch.inf).logsumexp(dim=-1, keepdim=True)
        logits = own.add_(self.tail[rows] - outside)
        return logits.scatter_(1, tokens, self.log_probs[rows]).mul_(self.temperature)

    def head_input(self) -> "CachedOutput":
        return self

    def states(self) -> NoReturn:
        raise NotImplementedError("cached logits have no states; the plan refuses objectives that need them")


class CachedTeachers(Teachers):
    """Teachers that ran earlier: their combined prediction, by position."""

    def __init__(self, cache: CachedLogits, device: torch.device) -> None:
        super().__init__([], shares=[1.0])
        self.cache, self.device = cache, device

    def run(self, batch: Batch, windows: range | None = None, students: int = 1) -> TeacherPass:
        """What was recorded of `windows`, at the places that the batch that was made of them has logits of.

        It is the prediction of all teachers together. Its logits are never kept: each student shapes the tail.
        """
        if windows is None:
            raise ValueError("cached logits are read by position, and no positions are given")
        output = CachedOutput.of(self.cache.read(windows), self.cache.temperature, self.device, batch.places)
        return TeacherPass([output], mean=lambda: output)
