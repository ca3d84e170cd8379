"""Student + teachers + objectives → named loss terms.

The Distiller is the one module that is trained, wrapped for several processes and checkpointed: its children are the
student and the objectives. Teachers are held apart, so that no optimizer, checkpoint or gradient can reach them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from palenka.heads import HeadInput, WeightedTerm, chunked_loss, token_losses
from palenka.objectives import Objective, StateObjective, TokenObjective
from palenka.tokens import IGNORED


@dataclass(frozen=True)
class StepSize:
    """What one optimizer step averages over, all processes and micro-batches together."""

    tokens: int
    sequences: int


class Distiller(nn.Module):
    """A student trained by a weighted sum of objectives.

    Args:
        student: a causal language model.
        teachers: frozen causal language models over the same vocabulary.
        objectives: name → objective; those of weight 0 are left out, and so is the work they would need.
    """

    def __init__(
        self, student: PreTrainedModel, teachers: Sequence[PreTrainedModel], objectives: dict[str, Objective]
    ) -> None:
        super().__init__()
        self.student = student
        self.objectives = nn.ModuleDict(objectives)
        self._teachers = tuple(teachers)
        self._token_terms = {n: o for n, o in objectives.items() if isinstance(o, TokenObjective)}
        self._state_terms = {n: o for n, o in objectives.items() if isinstance(o, StateObjective)}
        self._teacher_logits = any(term.needs_teachers for term in self._token_terms.values())
        self.term_names = [*self._token_terms, *self._state_terms]

    def forward(self, input_ids: Tensor, labels: Tensor, step: StepSize) -> tuple[Tensor, Tensor]:
        """This batch's share of the step's loss.

        Args:
            input_ids: (batch, time).
            labels: (batch, time), the token after each position, -100 where none counts.
            step: sizes that sums are divided by.

        Returns:
            The weighted sum of all terms, a scalar with gradient; the unweighted terms (terms,) in the order of
            `term_names`. Summed over the step's batches both are means per token.
        """
        mask = labels != IGNORED
        keep_states = bool(self._state_terms)
        student = _run(self.student, input_ids, keep_states)
        teachers = self._run_teachers(input_ids, keep_states)
        loss, terms = self._token_loss(student, teachers, labels, step)
        # Where nothing counts, a mean would be NaN: the terms are taken over all positions then, and their share is 0.
        counted = mask if mask.any() else torch.ones_like(mask)
        teacher_states = [teacher.states for teacher in teachers]
        state_losses = [term(student.states, teacher_states, counted) for term in self._state_terms.values()]
        share = mask.sum() / step.tokens
        for term, value in zip(self._state_terms.values(), state_losses, strict=True):
            loss = loss + term.config.weight * share * value
        return loss, torch.stack([*terms, *(share * value.detach() for value in state_losses)])

    def _run_teachers(self, input_ids: Tensor, keep_states: bool) -> list["_Output"]:
        if not (keep_states or self._teacher_logits):
            return []
        with torch.no_grad():
            return [_run(teacher, input_ids, keep_states) for teacher in self._teachers]

    def _token_loss(
        self, student: "_Output", teachers: list["_Output"], labels: Tensor, step: StepSize
    ) -> tuple[Tensor, list[Tensor]]:
        if not self._token_terms:
            return student.final.new_zeros((), dtype=torch.float32), []
        sizes = {"token": step.tokens, "sequence_sum": step.sequences}
        terms = [
            WeightedTerm(term, term.config.weight / sizes[term.reduction]) for term in self._token_terms.values()
        ]
        loss, sums = chunked_loss(
            student.head_input(),
            [teacher.head_input() for teacher in teachers] if self._teacher_logits else [],
            labels.flatten(),
            terms,
        )
        return loss, [total / sizes[term.objective.reduction] for term, total in zip(terms, sums, strict=True)]


@dataclass(frozen=True)
class _Output:
    """What a model computed: its final states, all states where asked for, and its head."""

    final: Tensor
    states: tuple[Tensor, ...]
    head: nn.Linear

    def head_input(self) -> HeadInput:
        return HeadInput(self.final.flatten(0, 1), self.head)


def _run(model: PreTrainedModel, input_ids: Tensor, keep_states: bool) -> _Output:
    output = model.base_model(input_ids, output_hidden_states=keep_states, use_cache=False)
    return _Output(output.last_hidden_state, output.hidden_states or (), model.get_output_embeddings())


def token_cross_entropy(model: PreTrainedModel, input_ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Next-token cross-entropy of each sequence.

    Returns:
        Sums in nats (batch,), float64; numbers of tokens (batch,).
    """
    losses = token_losses(_run(model, input_ids, keep_states=False).head_input(), labels.flatten())
    return losses.double().reshape(labels.shape).sum(dim=1), (labels != IGNORED).sum(dim=1)
