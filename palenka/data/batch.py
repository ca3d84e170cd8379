"""The one thing that travels from a paradigm to models, teachers, objectives and scorers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from palenka.data.windows import IGNORED


@dataclass(frozen=True)
class Batch:
    """What models are shown, what they are to predict, and which positions see each other.

    input_ids: int64 (batch, time).
    labels: int64 (batch, time): what each position predicts, IGNORED where nothing.
    attention: `causal`, each position sees itself and those before it; `full`, it sees all; or an additive float mask
        (batch or 1, 1, time, time), 0 where the position of a row sees that of a column, and the least number where it
        does not. Never a boolean one: transformers' eager attention would add it, and mask nothing.
    """

    input_ids: Tensor
    labels: Tensor
    attention: "Literal['causal', 'full'] | Tensor" = "causal"

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def counts(self) -> Tensor:
        """Bool (batch, time): which positions have something to predict."""
        return self.labels != IGNORED

    def visible(self) -> Tensor:
        """Bool, (time, time) or (batch or 1, 1, time, time): whether the position of a row sees that of a column."""
        if isinstance(self.attention, Tensor):
            return self.attention == 0
        time = self.input_ids.shape[1]
        everything = torch.ones(time, time, dtype=torch.bool, device=self.input_ids.device)
        return everything.tril() if self.attention == "causal" else everything

    def additive_mask(self, dtype: torch.dtype) -> Tensor | None:
        """For a model's attention: float (batch or 1, 1, time, time); None where it is causal, as models are."""
        if isinstance(self.attention, Tensor):
            return self.attention.to(dtype)
        if self.attention == "causal":
            return None
        batch, time = self.input_ids.shape
        return torch.zeros(batch, 1, time, time, dtype=dtype, device=self.input_ids.device)

    def rows(self, rows: slice) -> "Batch":
        """Some of its sequences."""
        return self._with(lambda tensor: tensor[rows] if len(tensor) == len(self) else tensor)

    def to(self, device: torch.device) -> "Batch":
        """On a device; nobody waits for a copy from pinned memory."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """In pinned memory."""
        return self._with(torch.Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        attention = change(self.attention) if isinstance(self.attention, Tensor) else self.attention
        return Batch(change(self.input_ids), change(self.labels), attention)

    def never_empty(self) -> "Batch":
        """The same, but with something to predict everywhere where there is nothing to predict anywhere."""
        counts = self.counts
        return replace(self, labels=self.labels.where(counts | counts.any(), 0))
