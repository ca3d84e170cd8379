"""The one thing that travels from a paradigm to models, teachers, objectives and scorers."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from palenka.data.windows import IGNORED

PLACES = 256  # as many as a CPU forms logits of at once
FEW = 0.5  # of the positions: to gather more of them costs more than their logits


@dataclass(frozen=True)
class Batch:
    """What models are shown, what they are to predict, and which positions see each other.

    input_ids: int64 (batch, time).
    labels: int64 (batch, time): what each position predicts, IGNORED where nothing.
    attention: `causal`, each position sees itself and those before it; `full`, it sees all; or bool (batch or 1, 1,
        time, time): whether the position of a row sees that of a column. Models are given `additive_mask` of it, for
        one micro-batch: transformers' eager attention would add a boolean one, and mask nothing.
    part: int64 (batch,): which of a run's paradigms made each sequence, by its number; None where there is one.
    weight: float32 (batch,): what each label of a sequence counts in the step's mean, 1 on average; None: 1.
    places: int64 (places,): positions, counted through all sequences, among which are all that predict. None: all.
    """

    input_ids: Tensor
    labels: Tensor
    attention: "Literal['causal', 'full'] | Tensor" = "causal"
    part: Tensor | None = None
    weight: Tensor | None = None
    places: Tensor | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def counts(self) -> Tensor:
        """Bool (batch, time): which positions have something to predict."""
        return self.labels != IGNORED

    def visible(self) -> Tensor:
        """Bool, (time, time) or (batch or 1, 1, time, time): whether the position of a row sees that of a column."""
        if isinstance(self.attention, Tensor):
            return self.attention
        time = self.input_ids.shape[1]
        everything = torch.ones(time, time, dtype=torch.bool, device=self.input_ids.device)
        return everything.tril() if self.attention == "causal" else everything

    def additive_mask(self, dtype: torch.dtype) -> Tensor | None:
        """For a model's attention: float (batch or 1, 1, time, time); None where it is causal, as models are."""
        if isinstance(self.attention, Tensor):
            least = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=self.attention.device)
            return torch.where(self.attention, torch.zeros_like(least), least)
        if self.attention == "causal":
            return None
        batch, time = self.input_ids.shape
        return torch.zeros(batch, 1, time, time, dtype=dtype, device=self.input_ids.device)

    def rows(self, rows: slice | Tensor) -> "Batch":
        """Some of its sequences."""
        return self._with(lambda tensor: tensor[rows] if len(tensor) == len(self) else tensor, places=None)

    def to(self, device: torch.device) -> "Batch":
        """On a device; nobody waits for a copy from pinned memory."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """In pinned memory."""
        return self._with(torch.Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor], **others: Any) -> "Batch":
        tensors = {name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors | others)

    def with_places(self) -> "Batch":
        """The same, on the CPU, with its places where few positions predict: the others need no logits.

        They are rounded up to multiples of PLACES, so that shapes, which are compiled for, are few.
        """
        predicting, positions = int(self.counts.sum()), self.labels.numel()
        count = max(1, -(-predicting // PLACES)) * PLACES
        if count > FEW * positions:
            return self
        places = (~self.counts).flatten().argsort(stable=True)[:count]
        return replace(self, places=places.pin_memory() if self.labels.is_pinned() else places)

    def at_places(self, values: Tensor) -> Tensor:
        """Of values (batch, time, …) those at its places: (places, …)."""
        flat = values.flatten(0, 1)
        return flat if self.places is None else flat[self.places]

    @property
    def weights(self) -> Tensor | None:
        """Float32 (batch, time): what each label counts in the step's mean; None: 1."""
        return None if self.weight is None else self.weight[:, None].expand(self.labels.shape)

    def made_by(self, parts: Collection[int]) -> Tensor:
        """Bool (batch,): whether one of these paradigms made the sequence."""
        if self.part is None:
            return torch.full((len(self),), 0 in parts, device=self.labels.device)
        return torch.stack([self.part == part for part in sorted(parts)]).any(dim=0)

    def only(self, parts: Collection[int]) -> "Batch":
        """The same, with something to predict only in sequences that one of these paradigms made."""
        return replace(self, labels=self.labels.where(self.made_by(parts)[:, None], IGNORED))

    def never_empty(self) -> "Batch":
        """The same, but with something to predict everywhere where there is nothing to predict anywhere."""
        counts = self.counts
        return replace(self, labels=self.labels.where(counts | counts.any(), 0))
