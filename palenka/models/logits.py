"""How a causal model's final states become its logits: found out from its own forward, whatever its architecture.

Mostly one linear layer does it. Some architectures scale or cap what that gives (Granite, Cohere, Gemma 2), or have a
transform before it (BERT, RoBERTa); then their own code, after the base model, does it.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from palenka.models.onednn import PackedLinear
from palenka.models.probing import LOOKS_AHEAD, is_close, looks_ahead, name_of, predictions_before, probe_tokens
from palenka.util.errors import UserError

LARGE_LOGIT = 1000.0  # beyond any cap: one at 30 hardly shows where logits are small
SAME_LOGITS = 1e-4, 0.02
"""How far they may be apart, of the largest, in float32 and in lower precisions: both come from the same products."""

LinearHead = nn.Linear | PackedLinear


class OwnHead(nn.Module):
    """What a model's forward does after its base model: final states (…, width) → logits (…, entries).

    The model's own code runs on its own weights, with a base model that hands on the states it is given.

    Args:
        model: whose forward it is.
        output_type: what its base model returns.
        entries: of the vocabulary, the first ones; None: all.
    """

    def __init__(self, model: PreTrainedModel, output_type: Any, entries: int | None = None) -> None:
        super().__init__()
        self.shell = copy.copy(model)
        self.shell._modules = model._modules | {model.base_model_prefix: _HandOn(output_type)}
        self.entries = entries

    def forward(self, states: Tensor) -> Tensor:
        logits: Tensor = self.shell(inputs_embeds=states.reshape(1, -1, states.shape[-1]), use_cache=False).logits
        return logits[..., : self.entries].reshape(*states.shape[:-1], -1)


class _HandOn(nn.Module):
    """In place of a base model, and of any part of it: OPT's forward calls `model.decoder`."""

    def __init__(self, output_type: Any) -> None:
        super().__init__()
        self.output_type = output_type

    def forward(self, *arguments: Any, inputs_embeds: Tensor, **options: Any) -> Any:
        return self.output_type(last_hidden_state=inputs_embeds)

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["_modules"].get(name, self)


@torch.no_grad()
def vocabulary_head(model: PreTrainedModel, entries: int | None = None) -> nn.Module | None:
    """What makes logits of a model's final states, tried on a few tokens against the model's own forward.

    Args:
        model: in evaluation mode.
        entries: of the vocabulary, the first ones; None: all.

    Returns:
        Its linear layer where that is all; else its `OwnHead`; None where that, too, gives other logits.
    """
    tokens = probe_tokens(model, entries)
    whole = model(tokens, use_cache=False).logits[..., :entries]
    try:
        output = model.base_model(tokens, use_cache=False)
        states, own = output.last_hidden_state, OwnHead(model, type(output), entries)
        if not is_close(own(states[:, ::2]), whole[:, ::2], SAME_LOGITS):  # of some positions, as in a chunk
            return None
        linear = _first_entries(model.get_output_embeddings(), entries)
        return linear if linear is not None and _is_all(linear, own, states) else own
    except Exception:  # architectures fail in different ways
        return None


def _is_all(linear: LinearHead, own: OwnHead, states: Tensor) -> bool:
    if states.shape[-1] != linear.in_features:
        return False
    large = states * (LARGE_LOGIT / linear(states).abs().max().clamp_min(1e-6))
    return is_close(linear(states), own(states), SAME_LOGITS) and is_close(linear(large), own(large), SAME_LOGITS)


def _first_entries(head: nn.Module | None, entries: int | None) -> LinearHead | None:
    """A linear head, or its first rows, which share its memory; None if it is of another class."""
    if type(head) is nn.Linear:
        bias = None if head.bias is None else head.bias[:entries]
        return head if entries in (None, head.out_features) else linear_of(head.weight[:entries], bias)
    return head if type(head) is PackedLinear and entries is None else None


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A frozen layer of a weight (out, in) and a bias (out,)."""
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


def teacher_head(model: PreTrainedModel, entries: int | None = None) -> nn.Module:
    """The `vocabulary_head` of a teacher, which a student of so many entries learns from.

    Raises:
        UserError: there is none, or the teacher has fewer entries.
    """
    rows = model.get_input_embeddings().num_embeddings
    if entries is not None and rows < entries:
        raise UserError(f"{name_of(model)}: it has {rows} embeddings, but the vocabulary has {entries} entries")
    head = vocabulary_head(model, entries)
    if head is None:
        raise UserError(f"{name_of(model)}: its logits cannot be made of its last states, so no student can learn them")
    return head


def check_student(model: PreTrainedModel) -> None:
    """Check that a student's logits are its linear layer's, by which it is trained, and that it does not look ahead.

    Raises:
        UserError: they are more, or it does.
    """
    if looks_ahead(*predictions_before(model.eval())):
        raise UserError(f"{name_of(model)}: {LOOKS_AHEAD}")
    if not isinstance(vocabulary_head(model.eval()), nn.Linear):
        raise UserError(f"{name_of(model)}: its logits are more than a linear layer of its last states")
