"""Teachers: frozen models, run without gradients, once for all students that learn from them."""

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from palenka.attention import AttentionRecorder
from palenka.fast_layers import use_fast_layers
from palenka.heads import HeadInput, Logits
from palenka.objectives import Attention, States


class TeacherOutput(Protocol):
    """What students can learn from."""

    def head_input(self) -> Logits: ...

    def states(self) -> States: ...


@dataclass(frozen=True)
class ModelOutput:
    """What a model computed: its final states, the states that were asked for, and its head."""

    final: Tensor
    hidden: tuple[Tensor, ...]
    attention: dict[int, Attention]
    head: nn.Linear

    def head_input(self) -> HeadInput:
        return HeadInput(self.final.flatten(0, 1), self.head)

    def states(self) -> States:
        return States(self.hidden, self.attention, self.head)


def run_model(
    model: PreTrainedModel, input_ids: Tensor, keep_hidden: bool = False, recorder: AttentionRecorder | None = None
) -> ModelOutput:
    """Run all of a model but its head over input_ids (batch, time)."""
    output = model.base_model(input_ids, output_hidden_states=keep_hidden, use_cache=False)
    attention = recorder.take() if recorder else {}
    return ModelOutput(output.last_hidden_state, output.hidden_states or (), attention, model.get_output_embeddings())


@dataclass(frozen=True)
class MeanLogits:
    """The weighted mean of several teachers' logits as one product: states (tokens, all widths), head of that width."""

    states: Tensor
    head: nn.Module

    def logits(self, rows: slice, dtype: torch.dtype, student: Tensor) -> Tensor:
        """(rows, vocabulary) in `dtype`, the product in the teachers' own precision."""
        logits: Tensor = self.head(self.states[rows])
        return logits.to(dtype)


class KeptLogits:
    """Logits that the first student to ask for a chunk has formed, and the others find ready."""

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
        outputs: of each teacher, or of what was recorded of all of them; empty where no student asks for anything.
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


class Teachers:
    """Frozen causal language models over one vocabulary, and what students have asked of them.

    No child of any module, so that no optimizer, checkpoint or gradient can reach them.

    Args:
        models: in evaluation mode, without gradients.
        shares: of each; they sum to 1. Equal by default.
    """

    def __init__(self, models: Sequence[PreTrainedModel], shares: Sequence[float] | None = None) -> None:
        self.models = tuple(models)
        self.shares = tuple(shares or [1 / len(models) for _ in models])
        self._needed = self._hidden_states = False
        self._attention: list[frozenset[int]] = [frozenset()] * len(self.models)
        self._recorders: list[AttentionRecorder | None] = [None] * len(self.models)

    def require(self, hidden_states: bool, attention: Sequence[Collection[int]]) -> None:
        """Ask for final states; for those of all layers, too; and for the attention of layers of each teacher."""
        self._needed = True
        self._hidden_states |= hidden_states
        for k, (model, layers) in enumerate(zip(self.models, attention, strict=True)):
            if not self._attention[k].issuperset(layers):
                self._attention[k] |= frozenset(layers)
                self._recorders[k] = AttentionRecorder(model, self._attention[k])

    @torch.no_grad()
    def run(self, input_ids: Tensor, windows: range | None = None, students: int = 1) -> TeacherPass:
        """What each teacher computes of input_ids (batch, time); nothing where no student asked for anything.

        Args:
            input_ids: (batch, time).
            windows: their positions in training order, for teachers that were run before.
            students: how many will learn from it; if several, logits are kept for the next.
        """
        outputs = [
            run_model(model, input_ids, self._hidden_states, recorder)
            for model, recorder in zip(self.models, self._recorders, strict=True)
            if self._needed
        ]
        return TeacherPass(outputs, lambda: self._mean_logits(outputs), keeps_logits=students > 1)

    def _mean_logits(self, outputs: Sequence[ModelOutput]) -> MeanLogits:
        scaled = [share * output.final.flatten(0, 1) for share, output in zip(self.shares, outputs, strict=True)]
        return MeanLogits(torch.cat(scaled, dim=1), self._mean_head)

    @functools.cached_property
    def _mean_head(self) -> nn.Module:
        """All heads side by side: on states side by side, scaled by their shares, it gives the mean of the logits."""
        heads = [model.get_output_embeddings() for model in self.models]
        weight = torch.cat([head.weight.detach() for head in heads], dim=1)
        scaled = zip(self.shares, heads, strict=True)
        biases = [share * head.bias.detach() for share, head in scaled if head.bias is not None]
        with torch.device("meta"):
            merged = nn.Linear(weight.shape[1], weight.shape[0], bias=bool(biases))
        merged.weight = nn.Parameter(weight, requires_grad=False)
        if biases:
            merged.bias = nn.Parameter(torch.stack(biases).sum(dim=0), requires_grad=False)
        use_fast_layers(holder := nn.Sequential(merged))
        return holder
