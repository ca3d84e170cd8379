"""Teachers: frozen models, run without gradients, once for all students that learn from them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from palenka.attention import AttentionRecorder
from palenka.heads import HeadInput
from palenka.objectives import Attention, States


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


class Teachers:
    """Frozen causal language models over one vocabulary, and what students have asked of them.

    No child of any module, so that no optimizer, checkpoint or gradient can reach them.
    """

    def __init__(self, models: Sequence[PreTrainedModel]) -> None:
        self.models = tuple(models)
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
    def run(self, input_ids: Tensor) -> list[ModelOutput]:
        """What each teacher computes of input_ids (batch, time); nothing where no student asked for anything."""
        if not self._needed:
            return []
        return [
            run_model(model, input_ids, self._hidden_states, recorder)
            for model, recorder in zip(self.models, self._recorders, strict=True)
        ]
