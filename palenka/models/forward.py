"""Models at work: all of a model but its head over a batch, and what it computed on its way to the logits."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from palenka.data.batch import Batch
from palenka.models.attention import AttentionRecorder
from palenka.models.chunked_loss import HeadInput, Logits, teacher_logits
from palenka.models.outputs import Attention, ModelShape, States, model_shape
from palenka.models.probing import looks_ahead, name_of, probe_tokens, two_endings
from palenka.util.errors import UserError


@dataclass(frozen=True)
class ModelOutput:
    """What a model computed: its final states, the states asked for, and what turns the final ones into logits.

    `at_places` (places, width) are the final states that logits are wanted of.
    """

    final: Tensor
    at_places: Tensor
    hidden: tuple[Tensor, ...]
    attention: dict[int, Attention]
    head: nn.Module

    def head_input(self) -> Logits:
        return teacher_logits(self.at_places, self.head)

    def student_input(self) -> HeadInput:
        """The output of a model in training, whose head is linear."""
        return HeadInput(self.at_places, cast(nn.Linear, self.head))

    def states(self) -> States:
        return States(self.hidden, self.attention, self.head)


def run_model(
    model: PreTrainedModel, batch: Batch, keep_hidden: bool = False, recorder: AttentionRecorder | None = None,
    head: nn.Module | None = None,
) -> ModelOutput:  # fmt: skip
    """Run all of a model but its head over a batch's input_ids; without a `head`, the model's is a linear layer."""
    mask = batch.additive_mask(model.dtype)
    options = {} if mask is None else {"attention_mask": mask}
    output = model.base_model(batch.input_ids, output_hidden_states=keep_hidden, use_cache=False, **options)
    attention = recorder.take() if recorder else {}
    head = head or model.get_output_embeddings()
    final = output.last_hidden_state
    return ModelOutput(final, batch.at_places(final), output.hidden_states or (), attention, head)


@torch.no_grad()
def check_heeds_masks(model: PreTrainedModel) -> None:
    """Check on a few tokens that a model sees what a mask shows it, later tokens, too.

    Raises:
        UserError: it does not.
    """
    one, other = two_endings(model.eval())
    half = one.shape[1] // 2
    try:
        before, after = (run_model(model, Batch(tokens, tokens, "full")).final[:, :half] for tokens in (one, other))
        sees = looks_ahead(before.float(), after.float())
    except Exception:  # architectures fail in different ways
        sees = False
    if not sees:
        raise UserError(
            f"{name_of(model)}: sees what it sees whatever the mask, so that it can neither learn nor teach by "
            "paradigm masked or mntp, nor with isolate_documents; take plain causal, or an architecture with plain "
            "attention, as llama, gpt2 or ltg_bert"
        )


@torch.no_grad()
def check_states(model: PreTrainedModel, hidden_states: bool, recorder: AttentionRecorder | None) -> None:
    """Check on a few tokens that a model shows its states and attention as objectives expect them.

    Raises:
        UserError: naming what it does not show.
    """
    tokens = probe_tokens(model)
    output, shape = run_model(model, Batch(tokens, tokens), hidden_states, recorder), model_shape(model.config)
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
