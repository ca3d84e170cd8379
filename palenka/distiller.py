"""Student + teachers + objectives → named loss terms.

The Distiller is the one module that is trained, wrapped for several processes and checkpointed: its children are the
student and the objectives. Teachers are held apart, so that no optimizer, checkpoint or gradient can reach them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from palenka.attention import AttentionRecorder
from palenka.heads import HeadInput, WeightedTerm, chunked_loss, of_one_head, token_losses
from palenka.objectives import Attention, Objective, StateObjective, States, TokenObjective
from palenka.tokens import IGNORED


@dataclass(frozen=True)
class StepSize:
    """What one optimizer step averages over, all processes and micro-batches together, and when it is taken.

    `progress` is the share of the training that is done, 0 to 1: weights may follow it.
    """

    tokens: int
    sequences: int
    progress: float = 0.0


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
        self._hidden_states = any(term.needs_hidden_states for term in self._state_terms.values())
        self._recorders = self._attention_recorders()
        self.term_names = [*self._token_terms, *self._state_terms]

    def _attention_recorders(self) -> list[AttentionRecorder | None]:
        """One for the student and each teacher whose attention an objective needs."""
        wanted = [term.attention_pairs for term in self._state_terms.values() if term.attention_pairs]
        of_student = {j for teachers in wanted for pairs in teachers for _, j in pairs}
        of_teachers = [{i for teachers in wanted for i, _ in teachers[k]} for k in range(len(self._teachers))]
        models = [self.student, *self._teachers]
        return [
            AttentionRecorder(model, layers) if layers else None
            for model, layers in zip(models, [of_student, *of_teachers], strict=True)
        ]

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
        student = _run(self.student, input_ids, self._hidden_states, self._recorders[0])
        teachers = self._run_teachers(input_ids)
        loss, terms = self._token_loss(student, teachers, labels, step)
        # Where nothing counts, a mean would be NaN: the terms are taken over all positions then, and their share is 0.
        counted = mask if mask.any() else torch.ones_like(mask)
        teacher_states = [teacher.states() for teacher in teachers]
        state_losses = [term(student.states(), teacher_states, counted) for term in self._state_terms.values()]
        share = mask.sum() / step.tokens
        for term, value in zip(self._state_terms.values(), state_losses, strict=True):
            loss = loss + term.config.weight.at(step.progress) * share * value
        return loss, torch.stack([*terms, *(share * value.detach() for value in state_losses)])

    def _run_teachers(self, input_ids: Tensor) -> list["_Output"]:
        if not (self._state_terms or self._teacher_logits):
            return []
        with torch.no_grad():
            return [
                _run(teacher, input_ids, self._hidden_states, recorder)
                for teacher, recorder in zip(self._teachers, self._recorders[1:], strict=True)
            ]

    def _token_loss(
        self, student: "_Output", teachers: list["_Output"], labels: Tensor, step: StepSize
    ) -> tuple[Tensor, list[Tensor]]:
        if not self._token_terms:
            return student.final.new_zeros((), dtype=torch.float32), []
        sizes = {"token": step.tokens, "sequence_sum": step.sequences}
        terms = [
            WeightedTerm(of_one_head(term), term.config.weight.at(step.progress) / sizes[term.reduction])
            for term in self._token_terms.values()
        ]
        loss, sums = chunked_loss(
            [student.head_input()],
            [teacher.head_input() for teacher in teachers] if self._teacher_logits else [],
            labels.flatten(),
            terms,
        )
        totals = zip(self._token_terms.values(), sums, strict=True)
        return loss, [total / sizes[term.reduction] for term, total in totals]


@dataclass(frozen=True)
class _Output:
    """What a model computed: its final states, the states that were asked for, and its head."""

    final: Tensor
    hidden: tuple[Tensor, ...]
    attention: dict[int, Attention]
    head: nn.Linear

    def head_input(self) -> HeadInput:
        return HeadInput(self.final.flatten(0, 1), self.head)

    def states(self) -> States:
        return States(self.hidden, self.attention, self.head)


def _run(
    model: PreTrainedModel, input_ids: Tensor, keep_hidden: bool = False, recorder: AttentionRecorder | None = None
) -> _Output:
    output = model.base_model(input_ids, output_hidden_states=keep_hidden, use_cache=False)
    attention = recorder.take() if recorder else {}
    return _Output(output.last_hidden_state, output.hidden_states or (), attention, model.get_output_embeddings())


def token_cross_entropy(model: PreTrainedModel, input_ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Next-token cross-entropy of each sequence.

    Returns:
        Sums in nats (batch,), float64; numbers of tokens (batch,).
    """
    losses = token_losses(_run(model, input_ids).head_input(), labels.flatten())
    return losses.double().reshape(labels.shape).sum(dim=1), (labels != IGNORED).sum(dim=1)
