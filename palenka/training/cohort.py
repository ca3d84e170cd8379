"""The training loop: students that learn from the same teachers, side by side on one teacher pass (a *cohort*).

Most cohorts have one student. Several, which differ in objective weights or initial seed, cost one pass of their
teachers instead of one each: every micro-batch goes through the teachers once and then through one student after the
other, so that only one student's activations exist at a time. Each student has its own optimizer, clipping, random
streams and run directory, and equals its solo run.

Shared is all that teachers computed, their logits too: the first student's loss forms them, chunk by chunk, and they
stay until the last student of the micro-batch has had its turn.
"""

import gc
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from palenka.data.tokens import IGNORED
from palenka.runs.directory import Run
from palenka.runs.identity import Identity
from palenka.training.gradients import are_finite
from palenka.training.loss_module import StepSize
from palenka.training.plan import TRAINING_BYTES, Plan
from palenka.training.preemption import Interrupted, Interruption
from palenka.training.progress import CohortDisplay
from palenka.training.trainer import Diverged, Trainer
from palenka.util.errors import UserError
from palenka.util.hardware import local_device, total_memory
from palenka.util.processes import check_processes
from palenka.util.system_errors import noting


def train(plan: Plan, from_last_good: bool = False) -> Path:
    """Train as planned, from the last checkpoint if there is one, and leave a finished run directory.

    Args:
        plan: the run.
        from_last_good: resume from the last checkpoint even if the run diverged.

    Raises:
        UserError: the name is another run's, or another process is training it.
        Diverged: the loss is no longer finite, now or in an earlier start.
    """
    train_cohorts([[plan]], from_last_good)
    return plan.runs / plan.config.name


def train_cohorts(cohorts: Iterable[Sequence[Plan]], from_last_good: bool = False) -> None:
    """Train cohorts one after the other; students that are finished or have diverged already are left as they are.

    Args:
        cohorts: the plans of each are alike but for names, objective weights and `seed`. The next cohort is asked for
            when the last one has been trained.
        from_last_good: students that diverged resume from their last checkpoints.

    Raises:
        UserError: a name is another run's, another process is training it, or no launcher started this process with
            the others that the environment names.
        Interrupted: a signal told this process to stop; the same call resumes from there.
        Diverged: students whose loss is no longer finite, now or in an earlier start; all others are finished.
    """
    check_processes()
    try:
        diverged = [failure for plans in cohorts for failure in _train_together(plans, from_last_good)]
    except Interrupted:
        _part_processes()
        raise
    _part_processes()
    if diverged:
        raise Diverged("\n".join(diverged))


def _part_processes() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _train_together(plans: Sequence[Plan], from_last_good: bool) -> list[str]:
    """Train one cohort; returns what to say of each student that diverged."""
    runs = [(plan, Run(plan.config.name, plan.runs, from_last_good), plan.identity()) for plan in plans]
    for _, run, identity in runs:
        run.check_identity(identity)
    for _, run, _ in runs:
        if run.finished and os.environ.get("RANK", "0") == "0":
            print(f"{run.name}: finished already, in {run.path}")
            run.tidy()
    diverged = [run.diverged for _, run, _ in runs if run.diverged]
    unfinished = [given for given in runs if not given[1].finished and not given[1].diverged]
    for plan, _, _ in unfinished:
        _check_memory(plan)
    if unfinished:
        diverged += Cohort.of(unfinished).run_to_end()
        gc.collect()  # modules that point at themselves: another cohort may need the memory
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return diverged


def _check_memory(plan: Plan) -> None:
    """Refuse a model that no batch size would make fit."""
    device = local_device()
    needed, there = TRAINING_BYTES * plan.parameters["total"], total_memory(device)
    if needed > there:
        raise UserError(
            f"{plan.config.name}: {plan.parameters['total']:,} parameters take {needed / 2**30:,.0f} GiB in training, "
            f"and {device} has {there / 2**30:,.0f} GiB; make the model smaller (hidden_size, num_hidden_layers)"
        )


@dataclass(frozen=True)
class Batch:
    """One optimizer step's windows, by position: input_ids and labels (batch, time) on the CPU; `epoch` is reached
    after them."""

    positions: range
    input_ids: Tensor
    labels: Tensor
    size: StepSize
    words: int
    epoch: float


class Batches:
    """The batches of a run by number; the next one is prepared while the current one is used.

    One thread makes them all: the windows remember epochs that they have cut, and are not for several.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._ahead: tuple[int, Future[Batch]] | None = None

    def __getitem__(self, step: int) -> Batch:
        number, ahead = self._ahead or (None, None)
        batch = ahead.result() if ahead and number == step else self._worker.submit(self._make, step).result()
        self._ahead = (step + 1, self._worker.submit(self._make, step + 1))
        return batch

    def _make(self, step: int) -> Batch:
        windows, count = self.plan.windows, self.plan.config.training.batch_size
        positions = range(step * count, (step + 1) * count)
        input_ids, labels = (torch.from_numpy(array) for array in windows.batch(positions))
        tokens = int((labels != IGNORED).sum())
        if torch.cuda.is_available():
            input_ids, labels = input_ids.pin_memory(), labels.pin_memory()
        size = StepSize(tokens, count, progress=step / self.plan.total_steps)
        epoch, index = windows.locate(positions.stop)
        reached = epoch + index / windows.epoch_size(epoch)
        return Batch(positions, input_ids, labels, size, windows.words(positions), reached)

    def close(self) -> None:
        self._worker.shutdown(cancel_futures=True)


class Cohort:
    """Students in training on one teacher pass, as one process sees them.

    Args:
        trainers: at least one; their teachers are one and the same.
        display: of all of them, if they are several.
    """

    def __init__(self, trainers: Sequence[Trainer], display: CohortDisplay | None = None) -> None:
        self.trainers, self.display = list(trainers), display
        self.plan, self.teachers = trainers[0].plan, trainers[0].loss_module.teachers
        self.accelerator = trainers[0].accelerator
        self.batches = Batches(self.plan)
        self.interruption = Interruption()
        for trainer in trainers:
            trainer.broken_teachers = self._broken_teachers
        self._diverged: list[str] = []
        self._last = time.monotonic()

    @classmethod
    def of(cls, runs: Sequence[tuple[Plan, Run, Identity]]) -> "Cohort":
        """Open run directories and build their students around one set of teachers."""
        display = CohortDisplay([run.name for _, run, _ in runs], runs[0][0].total_steps) if len(runs) > 1 else None
        first = Trainer(*runs[0], cohort_display=display)
        rest = [Trainer(*run, teachers=first.loss_module.teachers, cohort_display=display) for run in runs[1:]]
        return cls([first, *rest], display)

    def run_to_end(self) -> list[str]:
        """Train, evaluate and checkpoint from where each student stands; export the best of each.

        Returns:
            What to say of each student that diverged.

        Raises:
            Interrupted: a signal told this process to stop, and each student has left a checkpoint.
        """
        try:
            with self.interruption, noting(self._kept):
                is_at_end = self._run_to_end()
        except BaseException:
            for trainer in self.trainers:
                trainer.trackers.finish(None)
                trainer.release()
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
            trainer.release()
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
        self._take_step(batch, active)
        self._share_time(active)
        for trainer in active:
            try:
                trainer.after_step(batch.words)
            except Diverged as failure:
                self._drop(trainer, failure)
        if self.display:
            self.display.advance(step + 1)

    def _take_step(self, batch: Batch, active: Sequence[Trainer]) -> None:
        """Gradients of the whole step, in micro-batches; a student moves before the next one has its last gradient."""
        for trainer in active:
            trainer.start_step()
        micro_batches = list(self._my_rows(len(batch.labels)))
        for micro, rows in enumerate(micro_batches):
            input_ids = batch.input_ids[rows].to(self.accelerator.device, non_blocking=True)
            labels = batch.labels[rows].to(self.accelerator.device, non_blocking=True)
            of_teachers = self.teachers.run(input_ids, batch.positions[rows], students=len(active))
            is_last = micro == len(micro_batches) - 1
            for trainer in active:
                trainer.accumulate(micro, is_last, input_ids, labels, batch.size, of_teachers)
                if is_last:
                    trainer.finish_step(batch.size.tokens, batch.words, batch.epoch)

    @torch.no_grad()
    def _broken_teachers(self, step: int) -> list[str]:
        """Teachers whose predictions for a step's batch are not finite, in any process."""
        batch, device = self.batches[step], self.accelerator.device
        recorded = self.plan.config.recorded is not None
        names = ["the cache of teacher logits"] if recorded else [f"teacher {of.name!r}" for of in self.plan.teachers]
        broken = torch.zeros(len(names), device=device)
        for rows in self._my_rows(len(batch.labels)):
            of_teachers = self.teachers.run(batch.input_ids[rows].to(device), batch.positions[rows])
            tokens = batch.labels[rows].numel()
            for index, source in enumerate(of_teachers.each_logits):
                broken[index] += not are_finite(source, tokens, self.plan.model.vocab_size, device)
        counts = self.accelerator.reduce(broken, reduction="sum").tolist()
        return [name for name, count in zip(names, counts, strict=True) if count]

    def _my_rows(self, batch_size: int) -> Iterator[slice]:
        """The micro-batches of this process: every n-th of the batch for n processes."""
        portion = self.plan.micro_batch_size
        stride = portion * self.accelerator.num_processes
        for first in range(self.accelerator.process_index * portion, batch_size, stride):
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
