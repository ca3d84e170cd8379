"""Teachers: frozen models, run without gradients, once for all students that learn from them."""

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from palenka.models.attention import AttentionRecorder
from palenka.models.chunked_loss import HeadInput, HeadLogits, Logits, teacher_logits
from palenka.models.huggingface import model_shape, name_of, probe_tokens
from palenka.models.logits import linear_of, teacher_head
from palenka.models.onednn import replace_layers
from palenka.models.outputs import Attention, ModelShape, States
from palenka.util.errors import UserError


class TeacherOutput(Protocol):
    """What students can learn from."""

    def head_input(self) -> Logits: ...

    def states(self) -> States: ...


@dataclass(frozen=True)
class ModelOutput:
    """What a model computed: its final states, the states asked for, and what turns the final ones into logits."""

    final: Tensor
    hidden: tuple[Tensor, ...]
    attention: dict[int, Attention]
    head: nn.Module

    def head_input(self) -> Logits:
        return teacher_logits(self.final, self.head)

    def student_input(self) -> HeadInput:
        """The output of a model in training, whose head is linear."""
        return HeadInput(self.final.flatten(0, 1), cast(nn.Linear, self.head))

    def states(self) -> States:
        return States(self.hidden, self.attention, self.head)


def run_model(
    model: PreTrainedModel, input_ids: Tensor, keep_hidden: bool = False, recorder: AttentionRecorder | None = None,
    head: nn.Module | None = None,
) -> ModelOutput:  # fmt: skip
    """Run all of a model but its head over input_ids (batch, time); without a `head`, the model's is a linear layer."""
    output = model.base_model(input_ids, output_hidden_states=keep_hidden, use_cache=False)
    attention = recorder.take() if recorder else {}
    head = head or model.get_output_embeddings()
    return ModelOutput(output.last_hidden_state, output.hidden_states or (), attention, head)


@torch.no_grad()
def check_states(model: PreTrainedModel, hidden_states: bool, recorder: AttentionRecorder | None) -> None:
    """Check on a few tokens that a model shows its states and attention as objectives expect them.

    Raises:
        UserError: naming what it does not show.
    """
    output, shape = run_model(model, probe_tokens(model), hidden_states, recorder), model_shape(model.config)
    if hidden_states:
        _check_hidden(model, output, shape)
    of_width = {
        layer
        for layer, noted in output.attention.items()
        if noted.queries.ndim == 4 and noted.queries.shape[1] * noted.queries.shape[3] == shape.attention_size
    }
    if lacking := sorted(recorder.layers - of_width if recorder else ()):
        layers = f"layer{'s' * (len(lacking) > 1)} {', '.join(map(str, lacking))}"
        raise UserError(f"{name_of(model)}: the attention of {layers} cannot be recorded; leave such objectives out")


def _check_hidden(model: PreTrainedModel, output: ModelOutput, shape: ModelShape) -> None:
    """States of the embeddings and all layers, of one width, the last after the final norm."""
    if problem := _hidden_problem(output, shape.hidden_size, shape.num_hidden_layers):
        raise UserError(f"{name_of(model)}: {problem}; it can teach its logits, but not its states")


def _hidden_problem(output: ModelOutput, width: int, layers: int) -> str | None:
    if len(output.hidden) != layers + 1:
        return f"it shows {len(output.hidden)} states instead of one more than its {layers} layers"
    for position, states in {"last": output.hidden[-1], "first": output.hidden[0]}.items():
        if states.shape[-1] != width:
            return f"its {position} states have {states.shape[-1]} numbers, not the {width} of its layers"
    if not torch.equal(output.hidden[-1], output.final):
        return "the last of its states are not those that its logits are made of"
    return None


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
        entries: of the vocabulary; a teacher's rows beyond them are padding. None: all rows.

    Raises:
        UserError: a teacher's logits cannot be formed in chunks, or are fewer.
    """

    def __init__(
        self, models: Sequence[PreTrainedModel], shares: Sequence[float] | None = None, entries: int | None = None
    ) -> None:
        self.models = tuple(models)
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
    def run(self, input_ids: Tensor, windows: range | None = None, students: int = 1) -> TeacherPass:
        """What each teacher computes of input_ids (batch, time); nothing where no student asked for anything.

        Args:
            input_ids: (batch, time).
            windows: their positions in training order, for cached teachers.
            students: how many will learn from it; if several, logits are kept for the next.
        """
        outputs = [
            run_model(model, input_ids, self._hidden_states, recorder, head)
            for model, recorder, head in zip(self.models, self._recorders, self.heads, strict=True)
            if self._needed
        ]
        return TeacherPass(outputs, lambda: self._mean_logits(outputs), keeps_logits=students > 1)

    def _mean_logits(self, outputs: Sequence[ModelOutput]) -> Logits:
        if not all(isinstance(head, nn.Linear) for head in self.heads):
            return MeanLogits([output.head_input() for output in outputs], self.shares)
        scaled = [share * output.final.flatten(0, 1) for share, output in zip(self.shares, outputs, strict=True)]
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
