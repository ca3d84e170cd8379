"""Student + teachers + objectives → named loss terms.

The loss module is the one module that is trained, wrapped for several processes and checkpointed: its children are the
student and the objectives. Teachers are held apart, and may be shared with other students.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from palenka.data.batch import Batch
from palenka.models.attention import AttentionRecorder
from palenka.models.chunked_loss import Logits, WeightedTerm, chunked_loss, of_one_head
from palenka.models.forward import ModelOutput, run_model
from palenka.models.huggingface import transformer_layers
from palenka.objectives import Objective, StateObjective, TokenObjective
from palenka.teachers.live import TeacherPass, Teachers

# The share of activations that a compiled layer keeps for backward. Recomputing the rest, which is cheap, saves a sixth
# of a step's memory at no cost in time.
ACTIVATION_BUDGET = 0.8


@dataclass(frozen=True)
class StepSize:
    """What one optimizer step averages over, all processes and micro-batches together, and when it is taken.

    predicted: tokens that the paradigm asks the student for.
    sequences: rows.
    progress: the share of the training that is done, 0 to 1: weights may follow it.
    """

    predicted: int
    sequences: int
    progress: float = 0.0


class LossModule(nn.Module):
    """A student trained by a weighted sum of objectives.

    Args:
        student: a language model whose head is linear.
        objectives: name → objective; those of weight 0 are left out, and so is the work they would need.
        teachers: what it learns from, if anything; they are told what the objectives need of them.
        taught: the paradigms, by their numbers, in whose sequences the teachers teach; None: there is one, and they do.
    """

    def __init__(
        self, student: PreTrainedModel, objectives: dict[str, Objective], teachers: Teachers | None = None,
        taught: Collection[int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._taught = taught
        self.student = student
        self.objectives = nn.ModuleDict(objectives).to(student.device)
        self.teachers = teachers = teachers or Teachers([])
        self._token_terms = {n: o for n, o in objectives.items() if isinstance(o, TokenObjective)}
        self._state_terms = {n: o for n, o in objectives.items() if isinstance(o, StateObjective)}
        self.term_names = [*self._token_terms, *self._state_terms]
        self._is_compiled = False
        self._teacher_logits = {term.teacher_logits for term in self._token_terms.values()} - {"none"}
        # Teachers' logits: each teacher's if any term wants them, followed by the mean's.
        places = {"none": slice(0), "each": slice(len(teachers.shares)), "mean": slice(-1, None)}
        self._token_losses = {n: of_one_head(o, places[o.teacher_logits]) for n, o in self._token_terms.items()}
        self._hidden_states = any(term.needs_hidden_states for term in self._state_terms.values())
        wanted = [term.attention_pairs for term in self._state_terms.values() if term.attention_pairs]
        of_student = {j for of_term in wanted for pairs in of_term for _, j in pairs}
        self._recorder = AttentionRecorder(student, of_student) if of_student else None
        if self._state_terms or self._teacher_logits:
            of_teachers = [{i for of_term in wanted for i, _ in of_term[k]} for k in range(len(teachers.models))]
            teachers.require(self._hidden_states, of_teachers)

    def compile_parts(self) -> None:
        """Compile what is run again and again; worth it in a long training with batches of one shape.

        That is: the student's layers, which share one graph, what lies between the heads' products, and what objectives
        do once a layer.
        """
        self._is_compiled = True
        torch._functorch.config.activation_memory_budget = ACTIVATION_BUDGET
        layers = [] if self._recorder else transformer_layers(self.student)  # what is noted would break the graph
        for part in (*layers, *(part for term in self._state_terms.values() for part in term.repeated)):
            part.compile(dynamic=False)

    def forward(self, batch: Batch, step: StepSize, teachers: TeacherPass | None = None) -> tuple[Tensor, Tensor]:
        """This batch's share of the step's loss.

        Args:
            batch: what is shown and predicted.
            step: sizes that sums are divided by.
            teachers: what the teachers computed of this batch, where it is known already.

        Returns:
            The weighted sum of all terms, a scalar with gradient; the unweighted terms (terms,), without one, in the
            order of `term_names`. Summed over the step's batches both are means per token.
        """
        if teachers is None:
            teachers = self.teachers.run(batch)
        student = run_model(self.student, batch, self._hidden_states, self._recorder)
        loss, terms = self._token_loss(student, teachers, batch, step)
        if not teachers.outputs:
            return self._without_lesson(loss, terms)
        teacher_states = teachers.states() if self._state_terms else []
        shares: list[Tensor] = []
        for lesson in self._lessons(batch) if self._state_terms else []:
            countable = lesson.never_empty()  # a mean over nothing is not finite; the share of such a batch is 0
            state_losses = [term(student.states(), teacher_states, countable) for term in self._state_terms.values()]
            share = _weight_of(lesson) / step.predicted
            for term, value in zip(self._state_terms.values(), state_losses, strict=True):
                loss = loss + term.config.weight.at(step.progress) * share * value
            shares.append(torch.stack([share * value.detach() for value in state_losses]))
        return loss, torch.cat([terms, torch.stack(shares).sum(dim=0)]) if shares else terms

    def _without_lesson(self, loss: Tensor, terms: Tensor) -> tuple[Tensor, Tensor]:
        """The same with state terms of 0, and a gradient of 0 for what they own: processes wait for each gradient, and
        an optimizer leaves alone what has none."""
        for parameter in self.objectives.parameters():
            loss = loss + 0 * parameter.sum()
        return loss, torch.cat([terms, terms.new_zeros(len(self._state_terms))])

    def _lessons(self, batch: Batch) -> list[Batch]:
        """What state terms are plain means over: what the teachers teach, apart where it does not count the same."""
        if self._taught is None:
            return [batch]
        if batch.weight is None:
            return [batch.only(self._taught)]
        return [batch.only([part]) for part in sorted(self._taught)]

    def _token_loss(
        self, student: ModelOutput, teachers: TeacherPass, batch: Batch, step: StepSize
    ) -> tuple[Tensor, Tensor]:
        wanted = {n: o for n, o in self._token_terms.items() if teachers.outputs or o.teacher_logits == "none"}
        nothing = student.final.new_zeros((), dtype=torch.float32)
        if not wanted:
            return nothing, nothing.expand(len(self._token_terms))
        sizes = {"token": step.predicted, "sequence_sum": step.sequences}
        terms = [
            WeightedTerm(
                self._token_losses[name], term.config.weight.at(step.progress) / sizes[term.reduction],
                self._token_weights(batch, is_taught=term.teacher_logits != "none"),
            )
            for name, term in wanted.items()
        ]  # fmt: skip
        of_teachers: list[Logits] = []
        if "each" in self._teacher_logits:
            of_teachers += teachers.each_logits
        if "mean" in self._teacher_logits and teachers.outputs:
            of_teachers.append(teachers.mean_logits)
        loss, sums = chunked_loss(
            [student.student_input()], of_teachers, batch.at_places(batch.labels), terms, compiled=self._is_compiled
        )
        found = {n: total / sizes[wanted[n].reduction] for n, total in zip(wanted, sums, strict=True)}
        return loss, torch.stack([found.get(name, nothing) for name in self._token_terms])

    def _token_weights(self, batch: Batch, is_taught: bool) -> Tensor | None:
        """What each place counts in a term (places,); None: 1."""
        weights = batch.weights
        if is_taught and self._taught is not None:
            taught = batch.made_by(self._taught)[:, None].expand(batch.labels.shape).float()
            weights = taught if weights is None else weights * taught
        return None if weights is None else batch.at_places(weights)


def _weight_of(batch: Batch) -> Tensor:
    """What all labels of a batch count together, a scalar."""
    return batch.counts.sum() if batch.weights is None else (batch.weights * batch.counts).sum()
