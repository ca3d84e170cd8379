"""Teachers: frozen models, run without gradients, once for all students that learn from them."""

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from palenka.data.batch import Batch
from palenka.models.attention import AttentionRecorder
from palenka.models.chunked_loss import HeadLogits, Logits
from palenka.models.forward import ModelOutput, check_states, run_model
from palenka.models.logits import linear_of, teacher_head
from palenka.models.onednn import replace_layers
from palenka.models.outputs import States


class TeacherOutput(Protocol):
    """What students can learn from."""

    def head_input(self) -> Logits: ...

    def states(self) -> States: ...


@dataclass(frozen=True)
class MeanLogits:
    """The weighted mean of what several teachers give."""

    sources: Sequence[Logits]
    shares: Sequence[float]

    def logits(self, rows: slice, dtype: torch.dtype, student: Tensor) -> Tensor:
        """(rows, vocabulary) in `dtype`, the mean of it in float32."""
        each = (source.logits(rows, dtype, student).float() for source in self.sources)
        scaled = [share * logits for share, logits in zip(self.shares, each, strict=True)]
        return torch.stack(scaled).sum(dim=0).to(dtype)


class KeptLogits:
    """Logits formed by the first student that asks for a chunk, and reused by the others."""

    def __init__(self, source: Logits) -> None:
        self._source = source
        self._chunks: dict[tuple[int, int], Tensor] = {}

    def logits(self, rows: slice, dtype: torch.dtype, student: Tensor) -> Tensor:
        """(rows, vocabulary), of the first student's `dtype`."""
        chunk = (rows.start, rows.stop)
        if chunk not in self._chunks:
            self._chunks[chunk] = self._source.logits(rows, dtype, student)
        return self._chunks[chunk]


class TeacherPass:
    """What teachers computed of one micro-batch; their logits are formed when a student's loss gets to them.

    Args:
        outputs: of each teacher, or of what was recorded of all of them; empty where they teach nothing.
        mean: makes the mean of their logits.
        keeps_logits: whether they stay for further students of the same micro-batch.
    """

    def __init__(
        self, outputs: Sequence[TeacherOutput], mean: Callable[[], Logits], keeps_logits: bool = False
    ) -> None:
        self.outputs, self._mean = outputs, mean
        self._wrap: Callable[[Logits], Logits] = KeptLogits if keeps_logits else lambda logits: logits

    def states(self) -> list[States]:
        """Of each teacher."""
        return [output.states() for output in self.outputs]

    @functools.cached_property
    def each_logits(self) -> list[Logits]:
        """Of each teacher."""
        return [self._wrap(output.head_input()) for output in self.outputs]

    @functools.cached_property
    def mean_logits(self) -> Logits:
        """Weighted by the teachers' shares."""
        return self._wrap(self._mean())


NOTHING = TeacherPass([], mean=lambda: MeanLogits([], []))
"""Of teachers that are not run, where they have not learned what a student is asked."""


class Teachers:
    """Frozen causal language models over one vocabulary, and what students have asked of them.

    No child of any module, so that no optimizer, checkpoint or gradient can reach them.

    Args:
        models: in evaluation mode, without gradients.
        shares: of each; they sum to 1. Equal by default.
        entries: of the vocabulary; a teacher's rows beyond them are padding. None: all rows.

    Raises:
        UserError: a teacher's logits cannot be formed in chunks, or are fewer.
    """

    def __init__(
        self, models: Sequence[PreTrainedModel], shares: Sequence[float] | None = None, entries: int | None = None
    ) -> None:
        self.models, self.entries = tuple(models), entries
        self.heads = tuple(teacher_head(model, entries) for model in models)
        self.shares = tuple(shares or [1 / len(models) for _ in models])
        self._needed = self._hidden_states = False
        self._attention: list[frozenset[int]] = [frozenset()] * len(self.models)
        self._recorders: list[AttentionRecorder | None] = [None] * len(self.models)

    def require(self, hidden_states: bool, attention: Sequence[Collection[int]]) -> None:
        """Ask for final states, those of all layers, and the attention of layers of each teacher.

        Raises:
            UserError: an architecture that does not show them as others do.
        """
        self._needed = True
        self._hidden_states |= hidden_states
        for k, (model, layers) in enumerate(zip(self.models, attention, strict=True)):
            if not self._attention[k].issuperset(layers):
                self._attention[k] |= frozenset(layers)
                self._recorders[k] = AttentionRecorder(model, self._attention[k])
            check_states(model, hidden_states, self._recorders[k] if layers else None)

    @torch.no_grad()
    def run(self, batch: Batch, windows: range | None = None, students: int = 1) -> TeacherPass:
        """What each teacher computes of a batch; nothing where no student asked for anything.

        Args:
            batch: as the student sees it.
            windows: their positions in training order, for cached teachers.
            students: how many will learn from it; if several, logits are kept for the next.
        """
        outputs = self._run_models(batch)
        return TeacherPass(outputs, lambda: self._mean_logits(outputs), keeps_logits=students > 1)

    def _run_models(self, batch: Batch) -> list[ModelOutput]:
        parts = zip(self.models, self._recorders, self.heads, strict=True)
        needed = parts if self._needed else ()
        return [run_model(model, batch, self._hidden_states, recorder, head) for model, recorder, head in needed]

    def _mean_logits(self, outputs: Sequence[ModelOutput]) -> Logits:
        if not all(isinstance(head, nn.Linear) for head in self.heads):
            return MeanLogits([output.head_input() for output in outputs], self.shares)
        scaled = [share * output.at_places for share, output in zip(self.shares, outputs, strict=True)]
        return HeadLogits(torch.cat(scaled, dim=1), self._mean_head)

    @functools.cached_property
    def _mean_head(self) -> nn.Module:
        """Linear heads side by side: on states side by side, scaled by their shares, they give the mean of the logits.

        One product instead of several.
        """
        heads = [cast(nn.Linear, head) for head in self.heads]
        scaled = zip(self.shares, heads, strict=True)
        biases = [share * head.bias.detach() for share, head in scaled if head.bias is not None]
        weight = torch.cat([head.weight.detach() for head in heads], dim=1)
        holder = nn.Sequential(linear_of(weight, torch.stack(biases).sum(dim=0) if biases else None))
        replace_layers(holder)
        return holder
