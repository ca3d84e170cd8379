"""One run in training: what is recorded, measured, kept and exported after which step, and where it goes on.

It knows no objective, optimizer, paradigm or architecture by name. The loop over the steps is `loop.py`'s.
"""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from palenka.evaluation.scoring import Scorer
from palenka.evaluation.statistics import Accuracy
from palenka.runs.checkpoints import read_state
from palenka.runs.directory import ResumePoint
from palenka.runs.milestones import milestone_name
from palenka.training.batches import StepBatch
from palenka.training.compilation import should_compile
from palenka.training.export import export_run, milestone_writer, result_of
from palenka.training.gradients import describe
from palenka.training.loss_module import LossModule
from palenka.training.session import Diverged, Session
from palenka.training.state import AVERAGE, Progress, read_tensors, write_tensors
from palenka.training.student import Student
from palenka.training.validation import score_milestone, validate
from palenka.util.errors import UserError


class Trainer:
    """One run in training, as one of its processes sees it.

    Args:
        session: the run, opened.
        loss: its student and objectives.
        optimizer: of all that is trained.
    """

    def __init__(self, session: Session, loss: LossModule, optimizer: torch.optim.Optimizer) -> None:
        if should_compile(session.plan, session.device, warns=session.is_main):
            loss.compile_parts()
        self.session, self.loss = session, loss
        self.plan, self.run, self.config = session.plan, session.run, session.plan.config.training
        self.accelerator, self.device = session.accelerator, session.device
        self.display = session.display
        self.student = Student(self.plan, loss, optimizer, self.accelerator)
        self.dev_windows = self.plan.dev_windows()
        self.progress = Progress()
        self.broken_teachers: Callable[[int], list[str]] = lambda step: []  # whose output on its batch is not finite
        self._saved: int | None = None  # step of the last checkpoint
        self._kept: set[int] = set()  # that step, and the best one's by then

    def finish_step(self, batch: StepBatch) -> None:
        """Take the step whose gradients are there."""
        progress = self.progress
        self.student.apply_gradients(batch.tokens)
        progress.step += 1
        progress.tokens += batch.tokens
        progress.words += batch.words
        progress.epoch = batch.epoch
        self.display.advance()

    def add_time(self, seconds: float) -> None:
        """Count time that went into this run."""
        self.progress.seconds += seconds
        self.student.meter.seconds += seconds

    def after_step(self, words: int) -> None:
        """After a step of so many words: record, evaluate, leave a milestone and checkpoint where it is time to.

        The checkpoint comes last: what is interrupted before it is repeated at the resume.
        """
        done = self.progress.step
        is_last = done == self.plan.total_steps
        improved = False
        if self.device.type == "cpu":  # nobody waits for it
            self._look()
        if done % self.config.logging_steps == 0 or is_last:
            self._log_training()
        if done % self.plan.eval_steps == 0 or is_last:
            improved = self._evaluate()
        point = self.plan.milestones.passed(self.progress.words - words, self.progress.words)
        if point is not None:
            self._leave_milestone(milestone_name(point))
        if improved or (done % self.plan.checkpoint_steps == 0 and not is_last):
            self._checkpoint()

    def _look(self) -> None:
        """Check for gradients that were not finite, and record which steps were skipped.

        Raises:
            Diverged: a step too many.
        """
        for bad in self.student.guard.bad_steps():
            self.student.meter.steps -= 1
            losses = self.accelerator.reduce(bad.losses, reduction="sum").tolist()
            reason = describe(bad, losses, self.loss.term_names, self.broken_teachers(bad.step - 1))
            if len(self.progress.skipped) == self.config.skip_bad_steps:
                before = f", after {self.config.skip_bad_steps} that were skipped" if self.progress.skipped else ""
                raise self._diverged(f"{reason}. The step was not taken{before}.")
            self.progress.skipped.append(bad.step)
            self._record({"step": bad.step, "split": "skipped", "reason": reason})
            self.display.skipped(bad.step, reason)

    def _record(self, record: dict[str, Any]) -> None:
        self.session.record(self.progress.position() | record)

    def _diverged(self, what: str) -> Diverged:
        step = max(self.run.checkpoints(), default=None)
        kept = f"The checkpoint of step {step} is kept; --from-last-good resumes from it." if step is not None else ""
        return Diverged(f"{self.run.path}: {what} {kept}".rstrip())

    def _check_finite(self, value: float, what: str = "loss") -> None:
        if not math.isfinite(value):
            raise self._diverged(f"the {what} is {value} at step {self.progress.step}.")

    def _check_weights(self) -> None:
        self._check_finite(self.student.largest_weight(), "largest weight")

    def _log_training(self) -> None:
        """One record: means over the steps since the last one."""
        self._look()
        if self.student.meter.steps:  # not all were skipped
            self._record_means()
        self.student.meter.restart()

    def _record_means(self) -> None:
        student, last = self.student, self.progress.step - 1
        means = student.meter.means(self.accelerator)
        self._check_finite(means["loss"])
        grad_norm = means.pop("grad_norm")
        record = self.progress.position() | {"split": "train"} | means | student.scheduled_weights(last)
        record |= {
            "lr": student.learning_rate(last, self.config.lr),
            "grad_norm": grad_norm,
            "tokens_per_second": round(student.meter.tokens_per_second()),
        }
        self.session.record(record)
        left = (self.plan.total_steps - self.progress.step) * self.progress.seconds / self.progress.step
        self.display.training(record, left)

    def _evaluate(self) -> bool:
        """Record the dev cross-entropy; True if it is the best so far."""
        self._look()
        dev = validate(self.loss.student, self.dev_windows, self.plan.paradigm, self.accelerator)
        self._check_finite(dev["cross_entropy"])
        figures: dict[str, Any] = {key: dev[key] for key in ("bits_per_byte", "domains") if key in dev}
        figures |= {f"{name}_loss": of["cross_entropy"] for name, of in dev.get("paradigms", {}).items()}
        if self.student.average:
            with self.student.average.in_place():
                dev["ema"] = validate(self.loss.student, self.dev_windows, self.plan.paradigm, self.accelerator)
            figures["ema_loss"] = dev["ema"]["cross_entropy"]
        self._record({"split": "dev", "loss": dev["cross_entropy"]} | figures)
        improved = self.progress.is_better(dev)
        if improved:
            self.progress.best_step, self.progress.best_dev = self.progress.step, dev
        self.display.dev(self.progress.step, dev, improved)
        return improved

    def _leave_milestone(self, milestone: str) -> None:
        """Export the student as it is, and record what its folder scores."""
        self._look()
        self._check_weights()
        if self.session.is_main:
            self.run.save_milestone(milestone, milestone_writer(self.loss.student, self.plan, self.run))
        self.accelerator.wait_for_everyone()
        found: dict[str, Accuracy] = {}
        if self.plan.milestones.subsets:
            scorer = Scorer.load(self.run.milestone_path(milestone))
            found = score_milestone(scorer, self.plan.milestones, self.accelerator)
        figures: dict[str, float] = {}
        for task, accuracy in found.items():
            figures |= {task: accuracy.accuracy, f"{task}_stderr": accuracy.stderr}
        self._record({"split": "evaluation", "revision": milestone} | figures)
        self.display.milestone(self.progress.step, milestone, found)

    def _checkpoint(self) -> None:
        """Save all that a resume needs.

        Until the run has ended, the best checkpoint is kept beside the new one, and, should the new one be damaged, the
        last one with what was the best by then.
        """
        self._look()
        self._check_weights()
        meter = self.student.meter_state()
        state = {"progress": asdict(self.progress), "meter": meter, "precision": self.plan.precision}
        step, best = self.progress.step, self.progress.best_step
        needed = {step} if best is None else {step, best}
        keep = needed | self._kept
        self.session.from_main(
            lambda: self.run.save_checkpoint(step, self._write_tensors, state, keep, is_best=step == best)
        )
        self._saved, self._kept = step, needed
        self.accelerator.wait_for_everyone()

    def _write_tensors(self, folder: Path) -> None:
        write_tensors(folder, self.loss, self.student.states)

    def resume(self) -> None:
        """Resume from the last whole checkpoint, and forget what was recorded after it."""
        point = self.session.from_main(self.run.find_resume_point)
        if point is not None:
            self._resume_from(point)
        if self.session.is_main:
            step = -1 if point is None else point.step
            self.run.drop_checkpoints(keep={kept for kept in self.run.checkpoints() if kept <= step})
            for damage in self.run.drop_records_after(step):
                self.display.warn(damage)
            self._report_lost_records(step)
            self.session.start_trackers()
        if self.run.restarted:
            self._record({"split": "restart", "skip_bad_steps": self.config.skip_bad_steps})
        self.accelerator.wait_for_everyone()

    def _report_lost_records(self, step: int) -> None:
        """A log that was cut between two lines shows it only in their count."""
        kept = [record for record in self.run.read_log().records if record.get("split") == "train"]
        lost = step // self.config.logging_steps - len(kept)
        if lost > 0:
            self.display.warn(f"{self.run.path / 'metrics.jsonl'}: {lost} records of steps up to {step} are lost")

    def _resume_from(self, point: ResumePoint) -> None:
        for damage in point.damages:
            self.display.warn(damage)
        self._read_checkpoint(self.run.checkpoint_path(point.step))
        if point.is_without_best:
            self.progress.forget_best()
            self._tell_lost_best(self.progress.lost_best or {})
        self._kept = {point.step, self.progress.best_step or point.step}
        self.display.resumed(point.step)

    def _tell_lost_best(self, lost: dict[str, Any]) -> None:
        self.display.warn(
            f"the best checkpoint, of step {lost['step']} (dev {lost['cross_entropy']:.4f} "
            "nats/token), is lost: the best of the steps to come will be exported, and result.json will say so"
        )

    def _read_checkpoint(self, folder: Path) -> None:
        state = read_state(folder)
        if state["precision"] != self.plan.precision:
            raise UserError(
                f"{folder}: trained in {state['precision']} so far, but training.precision: "
                f"{self.config.precision} means {self.plan.precision} on this device. Resume where it began "
                "(SLURM: --constraint), or train again under another name"
            )
        self.progress = Progress(**state["progress"])
        self._saved = self.progress.step
        self.student.resume(state["meter"], len(self.progress.skipped))
        read_tensors(folder, self.loss, self.student.states)

    def finish(self) -> None:
        """Export the best student and mark the run complete.

        Raises:
            UserError: its checkpoint is damaged.
        """
        self.session.from_main(self._finish)
        dev = self.progress.best_dev["cross_entropy"]
        outcome = f"dev {dev:.4f} nats/token at step {self.progress.best_step}"
        self.display.finished(f"finished, {outcome}, in {self.run.path}")
        self.accelerator.wait_for_everyone()

    def _finish(self) -> None:
        best = self.progress.best_step or 0
        if damage := self.run.verify_checkpoint(best):
            raise UserError(
                f"{damage}. It is the best checkpoint, so nothing was exported or removed; "
                "the same command repeats what is lost, from an earlier checkpoint if one is whole"
            )
        average = self.student.average
        read_tensors(self.run.checkpoint_path(best), self.loss, {AVERAGE: average} if average else {})
        export_run(self.loss.student, self.plan, self.run)
        if average:
            with average.in_place():
                self.run.save_average(milestone_writer(self.loss.student, self.plan, self.run))
        result = result_of(self.plan, self.run, self.progress)
        self.run.finish(result)
        self.session.trackers.finish(result)

    def mark_diverged(self, reason: str) -> None:
        """End for good without a result, while others of the cohort continue."""
        if self.session.is_main:
            self.run.mark_diverged(reason)
        self.leave(f"diverged at step {self.progress.step}")
        self.accelerator.wait_for_everyone()

    def prune(self, verdict: str) -> None:
        """End early, without a result and without checkpoints: nobody goes on from there."""
        if self.session.is_main:
            self.run.drop_checkpoints(keep=set())
        self.leave(verdict)
        self.accelerator.wait_for_everyone()

    def interrupt(self) -> None:
        """End with a checkpoint to resume from."""
        if self._saved != self.progress.step:
            self._checkpoint()
        self.leave(f"interrupted at step {self.progress.step}; the same command resumes from there")

    def leave(self, reason: str) -> None:
        """End without a result."""
        self.session.leave(reason)
        self.student.release()
