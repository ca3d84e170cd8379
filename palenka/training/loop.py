"""The training loop: students that learn from the same teachers, step by step, on one teacher pass.

A step is `Loop._take_step`: batch, teachers, `Student.accumulate` (the loss, `LossModule`, and its gradient) for each
micro-batch, `Student.apply_gradients` (clipping, the optimizer). What follows a step is `Trainer.after_step`.

Mostly there is one student. Several (a *cohort*, which differs in objective weights or initial seed) cost one pass of
their teachers instead of one each: every micro-batch goes through the teachers once and then through one student after
the other, so that only one student's activations exist at a time. Each student has its own optimizer, clipping, random
streams and run directory, and equals its solo run.

Shared is all that teachers computed, their logits too: the first student's loss forms them, chunk by chunk, and they
stay until the last student of the micro-batch has had its turn.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch

from palenka.data.batch import Batch
from palenka.teachers.live import NOTHING, TeacherPass
from palenka.training.batches import Batches, StepBatch
from palenka.training.display import CohortDisplay
from palenka.training.gradients import are_finite
from palenka.training.loss_module import StepSize
from palenka.training.plan import Plan
from palenka.training.preemption import Interrupted, Interruption
from palenka.training.session import Diverged
from palenka.training.trainer import Trainer
from palenka.util.errors import UserError
from palenka.util.system_errors import noting


class Judge(Protocol):
    """Ends students early, by what their run directories say."""

    def is_due(self, plan: Plan, step: int) -> bool:
        """Whether a run is judged after a step."""
        ...

    def judge(self, plans: Sequence[Plan], step: int) -> dict[str, str]:
        """Of runs that are due, those that end here, by their names, each with what to say of it."""
        ...


def fit(trainer: Trainer, batches: Batches) -> None:
    """Train one run from its last checkpoint, if there is one, to its end, and export its best step.

    Raises:
        Interrupted: a signal told this process to stop; the same command resumes from there.
        Diverged: the loss is no longer finite.
    """
    with last_training() as interruption:
        diverged = Loop([trainer], batches, interruption).run_to_end()
    if diverged:
        raise Diverged("\n".join(diverged))


@contextmanager
def last_training() -> Iterator[Interruption]:
    """Note signals through all trainings, and what lies between them; destroy the process group after the last one,
    also where it was interrupted."""
    try:
        with Interruption() as interruption:
            yield interruption
    except Interrupted:
        _leave_processes()
        raise
    _leave_processes()


def _leave_processes() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Loop:
    """Students in training on one teacher pass, as one process sees them.

    Args:
        trainers: at least one; their teachers are one and the same.
        batches: what they see.
        interruption: notes that this process is told to stop, if anything does.
        display: of all of them, if they are several.
        judge: ends some of them early.
    """

    def __init__(
        self, trainers: Sequence[Trainer], batches: Batches, interruption: Interruption | None = None,
        display: CohortDisplay | None = None, judge: Judge | None = None,
    ) -> None:  # fmt: skip
        self.trainers, self.batches, self.interruption = list(trainers), batches, interruption or Interruption()
        self.display, self.judge = display, judge
        self.plan, self.teachers = trainers[0].plan, trainers[0].loss.teachers
        self.accelerator = trainers[0].accelerator
        for trainer in trainers:
            trainer.broken_teachers = self._broken_teachers
        self._diverged: list[str] = []
        self._last = time.monotonic()

    def run_to_end(self) -> list[str]:
        """Train, evaluate and checkpoint from where each student stands; export the best of each.

        Returns:
            What to say of each student that diverged.

        Raises:
            Interrupted: a signal told this process to stop, and each student has left a checkpoint.
        """
        try:
            with noting(self._kept):
                is_at_end = self._run_to_end()
        except BaseException:
            for trainer in self.trainers:
                trainer.session.trackers.finish(None)
                trainer.student.release()
            raise
        finally:
            self.batches.close()
            if self.display:
                self.display.close()
        if not is_at_end:
            raise Interrupted
        return self._diverged

    def _kept(self) -> str:
        first, *others = (trainer.run for trainer in self.trainers)
        return f"{first.kept}{f'; so do the {len(others)} other students of its cohort' if others else ''}"

    def _run_to_end(self) -> bool:
        """False where it was interrupted."""
        for trainer in self.trainers:
            trainer.resume()
        self._last = time.monotonic()
        for step in range(min(trainer.progress.step for trainer in self.trainers), self.plan.total_steps):
            self.step(step)
            if not self.trainers:
                return True
            if step + 1 < self.plan.total_steps and self.interruption.is_agreed(step + 1, self.accelerator):
                self._interrupt()
                return not self.trainers
        self._finish()
        return True

    def _finish(self) -> None:
        """Finish each student, even if another one's best checkpoint is damaged."""
        failures = []
        for trainer in self.trainers:
            try:
                trainer.finish()
            except UserError as failure:
                failures.append(str(failure))
            trainer.student.release()
        if failures:
            raise UserError("\n".join(failures))

    def _interrupt(self) -> None:
        """Leave a checkpoint of each student; one that turns out to have diverged has none to resume from."""
        for trainer in list(self.trainers):
            try:
                trainer.interrupt()
            except Diverged as failure:
                self._drop(trainer, failure)

    def step(self, step: int) -> None:
        """One optimizer step of each student that is at it: after a resume, some may be ahead of others."""
        active = [trainer for trainer in self.trainers if trainer.progress.step == step]
        if not active:
            return
        batch = self.batches[step]
        self._take_step(step, batch, active)
        self._share_time(active)
        for trainer in active:
            try:
                trainer.after_step(batch.words)
            except Diverged as failure:
                self._drop(trainer, failure)
        if self.judge:
            self._prune(self.judge, [trainer for trainer in active if trainer in self.trainers], step + 1)
        if self.display:
            self.display.advance(step + 1)

    def _prune(self, judge: Judge, trainers: Sequence[Trainer], step: int) -> None:
        """Go on without students that the judge ends here."""
        due = [trainer for trainer in trainers if judge.is_due(trainer.plan, step)]
        if not due:
            return
        verdicts = due[0].session.from_main(lambda: judge.judge([trainer.plan for trainer in due], step))
        for trainer in due:
            if verdict := verdicts.get(trainer.run.name):
                self.trainers.remove(trainer)
                trainer.prune(verdict)

    def _take_step(self, step: int, batch: StepBatch, active: Sequence[Trainer]) -> None:
        """Gradients of the whole step, in micro-batches; a student moves before the next one has its last gradient."""
        size = StepSize(batch.predicted, len(batch.positions), progress=step / self.plan.total_steps)
        for trainer in active:
            trainer.student.start_step(step)
        micro_batches = list(self._my_rows(batch))
        for micro, rows in enumerate(micro_batches):
            shown = batch.batch.rows(rows).with_places().to(self.accelerator.device)
            of_teachers = self._teach(batch, rows, shown, len(active))
            is_last = micro == len(micro_batches) - 1
            for trainer in active:
                trainer.student.accumulate(micro, is_last, shown, size, of_teachers)
                if is_last:
                    trainer.finish_step(batch)

    def _teach(self, batch: StepBatch, rows: slice, shown: Batch, students: int = 1) -> TeacherPass:
        """What the teachers compute of a micro-batch; nothing in a step without a paradigm that they learned."""
        taught = self.plan.taught
        if taught is not None and not batch.batch.made_by(taught).any():
            return NOTHING
        return self.teachers.run(shown, batch.positions[rows], students)

    @torch.no_grad()
    def _broken_teachers(self, step: int) -> list[str]:
        """Teachers whose predictions for a step's batch are not finite, in any process."""
        batch, device = self.batches[step], self.accelerator.device
        recorded = self.plan.config.recorded is not None
        names = ["the cache of teacher logits"] if recorded else [f"teacher {of.name!r}" for of in self.plan.teachers]
        broken = torch.zeros(len(names), device=device)
        for rows in self._my_rows(batch):
            shown = batch.batch.rows(rows).to(device)
            of_teachers = self._teach(batch, rows, shown)
            tokens = shown.labels.numel()
            for index, source in enumerate(of_teachers.each_logits):
                broken[index] += not are_finite(source, tokens, self.plan.model.vocab_size, device)
        counts = self.accelerator.reduce(broken, reduction="sum").tolist()
        return [name for name, count in zip(names, counts, strict=True) if count]

    def _my_rows(self, batch: StepBatch) -> Iterator[slice]:
        """The micro-batches of this process: every n-th of the batch for n processes.

        Of shorter windows they are as many times as many, and have as many tokens.
        """
        portion = self.plan.micro_batch_size * (self.plan.config.data.seq_length // batch.batch.input_ids.shape[1])
        stride = portion * self.accelerator.num_processes
        for first in range(self.accelerator.process_index * portion, len(batch.positions), stride):
            yield slice(first, first + portion)

    def _share_time(self, active: Sequence[Trainer]) -> None:
        """Count the time since the last call for the students that it went into, in equal parts."""
        now = time.monotonic()
        for trainer in active:
            trainer.add_time((now - self._last) / len(active))
        self._last = now

    def _drop(self, trainer: Trainer, failure: Diverged) -> None:
        """Go on without a student."""
        self._diverged.append(str(failure))
        self.trainers.remove(trainer)
        trainer.mark_diverged(str(failure))
