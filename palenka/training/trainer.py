"""One student in training: warm-up and cosine, clipping, accumulation, dev evaluation, checkpoints, records, resume.

It knows no objective by name. Everything random in a step is drawn from a stream named by (seed, step, micro-batch,
process), and windows are a function of their position, so a checkpoint needs no generator states, and a resumed run
repeats the unbroken one bit by bit on a CPU. The loop over the steps is `cohort.py`'s.
"""

import math
import pickle
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from palenka import objectives
from palenka.data.integrity import training_files, verify
from palenka.data.tokenizer import load_tokenizer, save_tokenizer
from palenka.data.tokens import Domain
from palenka.evaluation.scoring import Scorer
from palenka.evaluation.statistics import Accuracy, task_accuracy
from palenka.models.folder import EXPORTED, weights_sha256
from palenka.models.huggingface import export_model
from palenka.objectives import TokenObjective
from palenka.optimizers.adamw import adamw
from palenka.optimizers.schedules import learning_rate
from palenka.runs.checkpoints import WEIGHTS, read_state
from palenka.runs.directory import ResumePoint, Run
from palenka.runs.identity import Identity
from palenka.teachers.live import TeacherPass, Teachers
from palenka.training.build import build_loss_module, find_teachers
from palenka.training.compilation import should_compile
from palenka.training.gradients import StepGuard, describe
from palenka.training.loss_module import LossModule, StepSize, token_cross_entropy
from palenka.training.milestones import milestone_name
from palenka.training.plan import Plan
from palenka.training.progress import CohortDisplay, Display
from palenka.training.trackers import TrackedRun, Trackers
from palenka.util.errors import Stopped, UserError
from palenka.util.files import named, read_object, removed_on_error, write_json
from palenka.util.seeds import named_seed
from palenka.util.system_errors import noting

EVALUATION_BATCH = 64
UNREADABLE = (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, OSError, KeyError, ValueError)
"""What safetensors and torch raise where a file is not what they wrote."""

Found = TypeVar("Found")


@dataclass
class Progress:
    """Where a run is; saved with each checkpoint."""

    step: int = 0
    tokens: int = 0
    words: int = 0
    epoch: float = 0.0
    seconds: float = 0.0
    best_step: int | None = None
    best_dev: dict[str, Any] = field(default_factory=dict)
    lost_best: dict[str, Any] | None = None
    """Step and cross-entropy of a best checkpoint that was damaged, so that another is exported."""
    skipped: list[int] = field(default_factory=list)  # steps not taken, because their gradient was not finite

    def is_better(self, dev: dict[str, Any]) -> bool:
        return self.best_step is None or dev["cross_entropy"] < self.best_dev["cross_entropy"]


class Meter:
    """Sums of loss, terms and gradient norm since the last record, kept on the device: reading them waits for it."""

    def __init__(self, names: list[str], device: torch.device) -> None:
        self.names = ["loss", *names, "grad_norm"]
        self.sums = torch.zeros(len(self.names), device=device)
        self.restart()

    def restart(self) -> None:
        self.sums.zero_()
        self.steps = self.tokens = 0
        self.seconds = 0.0

    def add(self, losses: Tensor, grad_norm: Tensor, tokens: int, is_bad: Tensor) -> None:
        """One step: this process's shares [loss, *terms], the gradient's norm, tokens over all processes.

        A bad one adds nothing to the sums; its finder counts one step less.
        """
        self.sums += torch.cat([losses, grad_norm.reshape(1)]).masked_fill(is_bad, 0.0)
        self.steps += 1
        self.tokens += tokens

    def totals(self, accelerator: Accelerator) -> Tensor:
        """The sums over all processes."""
        totals = accelerator.reduce(self.sums.clone(), reduction="sum")
        totals[-1] /= accelerator.num_processes  # every process has the same norm
        return totals

    def parts(self, accelerator: Accelerator) -> list[list[float]]:
        """The sums of each process, for a checkpoint: added up in another order they would round to another record."""
        parts: list[list[float]] = accelerator.gather(self.sums.unsqueeze(0)).tolist()
        return parts

    def restore(self, parts: list[list[float]], accelerator: Accelerator) -> None:
        """Resume from `parts`; if they come from another number of processes, with their total in the first."""
        here, count = accelerator.process_index, accelerator.num_processes
        if len(parts) == count:
            self.sums.copy_(torch.tensor(parts[here]))
        elif here == 0:
            self.sums.copy_(torch.tensor(parts).sum(dim=0))
            self.sums[-1] *= count / len(parts)  # every process has the same norm

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """The means over the steps since the last record, by name."""
        return dict(zip(self.names, (self.totals(accelerator) / self.steps).tolist(), strict=True))

    def tokens_per_second(self) -> float:
        return self.tokens / max(self.seconds, 1e-9)


class Diverged(Stopped):
    """A loss or a weight is not finite; it holds the message for users."""


class Trainer:
    """One run in training, as one of its processes sees it.

    Args:
        plan: what to train.
        run: where to.
        identity: the plan's.
        teachers: the plan's, where another student has loaded them already.
        cohort_display: what shows the progress of students that train side by side.

    Raises:
        UserError: the name is another run's, another process is training it, or its teachers are not cached yet.
    """

    def __init__(
        self, plan: Plan, run: Run, identity: Identity, teachers: Teachers | None = None,
        cohort_display: CohortDisplay | None = None,
    ) -> None:  # fmt: skip
        self.plan, self.run, self.config = plan, run, plan.config.training
        mixed_precision = "no" if plan.precision == "fp32" else plan.precision
        self.accelerator = Accelerator(
            mixed_precision=mixed_precision,
            cpu=not torch.cuda.is_available(),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=not self._reaches_head())],
        )
        self.device = self.accelerator.device
        if plan.cached_logits:
            plan.cached_logits.check(plan.total_windows)
        teachers = teachers or find_teachers(plan, self.device)  # teachers that cannot teach leave no run behind
        self._take_run(identity)
        self.progress = Progress()
        self.loss_module = self._build(teachers)
        betas = (self.config.adam_beta1, self.config.adam_beta2)
        optimizer = adamw(self.loss_module, self.config.lr, self.config.weight_decay, betas, self.config.adam_epsilon)
        is_scaled = self.accelerator.scaler is not None
        self.guard = StepGuard(optimizer, self.device, self.config.skip_bad_steps, is_scaled)
        self.broken_teachers: Callable[[int], list[str]] = lambda step: []  # whose output on its batch is not finite
        self.model, self.optimizer = self.accelerator.prepare(self.loss_module, optimizer)
        self.meter = Meter(self.loss_module.term_names, self.device)
        self._saved: int | None = None  # step of the last checkpoint
        self._kept: set[int] = set()  # that step, and the best one's by then
        self.display = Display(plan.config.name, plan.total_steps, self.accelerator.is_main_process, cohort_display)
        self.trackers = Trackers()

    def _reaches_head(self) -> bool:
        """Whether all of the student is trained: without a token objective its head, at least, has no gradient."""
        return any(issubclass(objectives.find(name), TokenObjective) for name in self.plan.config.terms)

    def _take_run(self, identity: Identity) -> None:
        """Open the run directory in the main process; a failure there ends all processes."""
        self._from_main(lambda: self._open(identity))

    def _open(self, identity: Identity) -> None:
        self._check_data()
        self.run.open(identity, self.plan.resolved)
        write_json(self._data_record, training_files(self.plan.data_folder))

    def _from_main(self, work: Callable[[], Found]) -> Found:
        """Run a function in the main process and return its result in all; a failure there ends all."""
        outcome: list[Any] = [None, None]
        if self.accelerator.is_main_process:
            try:
                outcome = [work(), None]
            except UserError as error:
                outcome = [None, str(error)]
        broadcast_object_list(outcome)
        found, failure = outcome
        if failure:
            raise UserError(failure)
        return cast(Found, found)

    @property
    def _data_record(self) -> Path:
        """Checksums of the data that the run began with."""
        return self.run.path / "data.json"

    def _check_data(self) -> None:
        """Raise UserError unless the data is whole and, when resuming, still the same."""
        verify(self.plan.data_folder)
        if not self.run.checkpoints():
            if self.plan.cached_logits:  # of many gigabytes, it may be: not again at each resume
                self.plan.cached_logits.verify(self.plan.total_windows)
        elif self._data_record.exists():
            then, now = self._read_data_record(), training_files(self.plan.data_folder)
            if changed := [name for name in {**then, **now} if then.get(name) != now.get(name)]:
                raise UserError(
                    f"{self.run.path}: began with other data than is now in {self.plan.data_folder}: it was "
                    f"prepared again, and came out different ({', '.join(changed)}). Put the former data back, or "
                    "train again under another name"
                )

    def _read_data_record(self) -> dict[str, str]:
        try:
            return read_object(self._data_record)
        except UserError as error:
            raise UserError(
                f"{error}. Put back a copy of it; or remove it, if the data is certain to be what the run began with: "
                "the same command then resumes, and writes it again"
            ) from None

    def _build(self, teachers: Teachers) -> LossModule:
        loss_module = build_loss_module(self.plan, teachers, self.device)
        if should_compile(self.plan, self.device, warns=self.accelerator.is_main_process):
            loss_module.compile_parts()
        return loss_module

    def start_step(self) -> None:
        """Prepare for the step that `progress` is at."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(self.progress.step)
        self._losses = torch.zeros(1 + len(self.loss_module.term_names), device=self.device)

    def accumulate(
        self, micro: int, is_last: bool, input_ids: Tensor, labels: Tensor, size: StepSize,
        teachers: TeacherPass,
    ) -> None:  # fmt: skip
        """Add the gradients of one micro-batch of this process, and its shares of [loss, *terms]."""
        accelerator = self.accelerator
        step = self.progress.step
        torch.manual_seed(named_seed(self.plan.config.seed, "step", step, micro, accelerator.process_index))
        with self._synchronised(is_last):
            loss, terms = self.model(input_ids, labels, size, teachers)
            # Every process holds its share of a sum, and gradients will be averaged over processes.
            accelerator.backward(loss * accelerator.num_processes)
        self._losses += torch.cat([loss.detach().reshape(1), terms])

    def _synchronised(self, is_last: bool) -> AbstractContextManager[None]:
        """Processes exchange gradients in the last micro-batch only."""
        context: AbstractContextManager[None] = nullcontext() if is_last else self.accelerator.no_sync(self.model)
        return context

    def finish_step(self, tokens: int, words: int, epoch: float) -> None:
        """Move along the gradients of the whole step: tokens and words over all processes, epochs done after it."""
        norms = self._clip()
        is_bad = self.guard.judge(self.progress.step + 1, norms, self._losses, self._scale())
        self.meter.add(self._losses, norms[0], tokens, is_bad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.progress.step += 1
        self.progress.tokens += tokens
        self.progress.words += words
        self.progress.epoch = epoch
        self.display.advance()

    def add_time(self, seconds: float) -> None:
        """Count time that went into this run."""
        self.progress.seconds += seconds
        self.meter.seconds += seconds

    def _learning_rate(self, step: int) -> float:
        return learning_rate(step, self.config.lr, self.config.warmup_steps, self.plan.total_steps)

    def _clip(self) -> Tensor:
        """Clip the student and the objectives separately, so that neither drowns the other; returns both norms."""
        self.accelerator.unscale_gradients(self.optimizer)
        owned = list(self.loss_module.objectives.parameters())
        parts = [list(self.loss_module.student.parameters()), *([owned] if owned else [])]
        return torch.stack([nn.utils.clip_grad_norm_(part, self.config.max_grad_norm) for part in parts])

    def _scale(self) -> Tensor | None:
        """fp16's, without waiting for the device."""
        scaler = self.accelerator.scaler
        return None if scaler is None else scaler.scale(torch.ones((), device=self.device))

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
        for bad in self.guard.bad_steps():
            self.meter.steps -= 1
            losses = self.accelerator.reduce(bad.losses, reduction="sum").tolist()
            reason = describe(bad, losses, self.loss_module.term_names, self.broken_teachers(bad.step - 1))
            if len(self.progress.skipped) == self.config.skip_bad_steps:
                before = f", after {self.config.skip_bad_steps} that were skipped" if self.progress.skipped else ""
                raise self._diverged(f"{reason}. The step was not taken{before}.")
            self.progress.skipped.append(bad.step)
            self._record(self._position() | {"step": bad.step, "split": "skipped", "reason": reason})
            self.display.skipped(bad.step, reason)

    def _diverged(self, what: str) -> Diverged:
        step = max(self.run.checkpoints(), default=None)
        kept = f"The checkpoint of step {step} is kept; --from-last-good resumes from it." if step is not None else ""
        return Diverged(f"{self.run.path}: {what} {kept}".rstrip())

    def _log_training(self) -> None:
        """One record: means over the steps since the last one."""
        self._look()
        if self.meter.steps:  # not all were skipped
            self._record_means()
        self.meter.restart()

    def _record_means(self) -> None:
        means = self.meter.means(self.accelerator)
        self._check_finite(means["loss"])
        grad_norm = means.pop("grad_norm")
        record = self._position() | {"split": "train"} | means | self._scheduled_weights()
        record |= {
            "lr": self._learning_rate(self.progress.step - 1),
            "grad_norm": grad_norm,
            "tokens_per_second": round(self.meter.tokens_per_second()),
        }
        self._record(record)
        left = (self.plan.total_steps - self.progress.step) * self.progress.seconds / self.progress.step
        self.display.training(record, left)

    def _scheduled_weights(self) -> dict[str, float]:
        """Weights that change over the training, as the last step had them."""
        progress = (self.progress.step - 1) / self.plan.total_steps
        weights = {name: config.weight for name, config in self.plan.config.terms.items()}
        return {f"{name}_weight": w.at(progress) for name, w in weights.items() if not w.is_constant}

    def _check_finite(self, value: float, what: str = "loss") -> None:
        if not math.isfinite(value):
            raise self._diverged(f"the {what} is {value} at step {self.progress.step}.")

    def _check_weights(self) -> None:
        largest = torch.stack([parameter.detach().abs().max() for parameter in self.loss_module.parameters()]).max()
        self._check_finite(largest.item(), "largest weight")

    def _position(self) -> dict[str, Any]:
        return {
            "step": self.progress.step,
            "epoch": round(self.progress.epoch, 4),
            "tokens": self.progress.tokens,
            "words": self.progress.words,
        }

    def _record(self, record: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self.run.log(record)
            self.trackers.log(record)

    def _evaluate(self) -> bool:
        """Record the dev cross-entropy; True if it is the best so far."""
        self._look()
        dev = self._dev_cross_entropy()
        self._check_finite(dev["cross_entropy"])
        figures = {key: dev[key] for key in ("bits_per_byte", "domains")}
        self._record(self._position() | {"split": "dev", "loss": dev["cross_entropy"]} | figures)
        improved = self.progress.is_better(dev)
        if improved:
            self.progress.best_step, self.progress.best_dev = self.progress.step, dev
        self.display.dev(self.progress.step, dev, improved)
        return improved

    @torch.no_grad()
    def _dev_cross_entropy(self) -> dict[str, Any]:
        """Plain cross-entropy of the student on the dev windows, shared among the processes."""
        windows, accelerator = self.plan.dev_windows, self.accelerator
        sums = torch.zeros(len(windows.split.domains), 2, dtype=torch.float64, device=self.device)
        student = self.loss_module.student.eval()
        first, stride = accelerator.process_index * EVALUATION_BATCH, accelerator.num_processes * EVALUATION_BATCH
        for start in range(first, len(windows), stride):
            indices = range(start, min(start + EVALUATION_BATCH, len(windows)))
            input_ids, labels = (torch.from_numpy(array).to(self.device) for array in windows.batch(indices))
            # Compiled layers would be recompiled for this shape, and for the last batch's.
            with accelerator.autocast(), torch.compiler.set_stance("force_eager"):
                losses, counts = token_cross_entropy(student, input_ids, labels)
            domains = torch.tensor([windows.domain_of(index) for index in indices], device=self.device)
            sums.index_add_(0, domains, torch.stack([losses, counts.double()], dim=1))
        student.train()
        return summarise_dev(accelerator.reduce(sums, reduction="sum").cpu(), windows.split.domains)

    def _leave_milestone(self, milestone: str) -> None:
        """Export the student as it is, and record what its folder scores."""
        self._look()
        self._check_weights()
        if self.accelerator.is_main_process:
            self.run.save_milestone(milestone, self._write_milestone)
        self.accelerator.wait_for_everyone()
        found = self._score(self.run.milestone_path(milestone))
        figures: dict[str, float] = {}
        for task, accuracy in found.items():
            figures |= {task: accuracy.accuracy, f"{task}_stderr": accuracy.stderr}
        self._record(self._position() | {"split": "evaluation", "revision": milestone} | figures)
        self.display.milestone(self.progress.step, milestone, found)

    def _write_milestone(self, folder: Path) -> None:
        self._write_model(folder)
        write_json(folder / "revision.json", {EXPORTED: weights_sha256(folder)})
        shutil.copy(self.run.path / "config.yaml", folder)  # names the data, for an evaluation's baselines

    def _score(self, folder: Path) -> dict[str, Accuracy]:
        """Accuracy of a model folder on each task, shared among the processes."""
        scorer, accelerator = Scorer.load(folder), self.accelerator
        found = {}
        for subset in self.plan.milestones.subsets:
            share = subset.scores(scorer, accelerator.process_index, accelerator.num_processes)
            scores = accelerator.reduce(torch.from_numpy(share).to(self.device), reduction="sum").cpu().numpy()
            found[subset.task], _ = task_accuracy(subset.items, scores)
        return found

    def _checkpoint(self) -> None:
        """Save all that a resume needs.

        Until the run has ended, the best checkpoint is kept beside the new one, and, should the new one be damaged, the
        last one with what was the best by then.
        """
        self._look()
        self._check_weights()
        meter = {"sums": self.meter.parts(self.accelerator), "steps": self.meter.steps}
        state = {"progress": asdict(self.progress), "meter": meter, "precision": self.plan.precision}
        step, best = self.progress.step, self.progress.best_step
        needed = {step} if best is None else {step, best}
        keep = needed | self._kept
        self._from_main(lambda: self.run.save_checkpoint(step, self._write_state, state, keep, is_best=step == best))
        self._saved, self._kept = step, needed
        self.accelerator.wait_for_everyone()

    def _write_state(self, folder: Path) -> None:
        save_model(self.loss_module, str(folder / WEIGHTS))
        _save(self.optimizer.state_dict(), folder / "optimizer.pt")
        if self.accelerator.scaler is not None:
            _save(self.accelerator.scaler.state_dict(), folder / "scaler.pt")

    def resume(self) -> None:
        """Resume from the last whole checkpoint, and forget what was recorded after it."""
        point = self._from_main(self.run.find_resume_point)
        if point is not None:
            self._resume_from(point)
        if self.accelerator.is_main_process:
            step = -1 if point is None else point.step
            self.run.drop_checkpoints(keep={kept for kept in self.run.checkpoints() if kept <= step})
            for damage in self.run.drop_records_after(step):
                self.display.warn(damage)
            self._report_lost_records(step)
            self._start_trackers()
        if self.run.restarted:
            self._record(self._position() | {"split": "restart", "skip_bad_steps": self.config.skip_bad_steps})
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
        self._read_state(self.run.checkpoint_path(point.step))
        if point.is_without_best:
            self._forget_best()
        self._kept = {point.step, self.progress.best_step or point.step}
        self.display.resumed(point.step)

    def _forget_best(self) -> None:
        progress = self.progress
        progress.lost_best = {"step": progress.best_step, "cross_entropy": progress.best_dev["cross_entropy"]}
        progress.best_step, progress.best_dev = None, {}
        self.display.warn(
            f"the best checkpoint, of step {progress.lost_best['step']} (dev {progress.lost_best['cross_entropy']:.4f} "
            "nats/token), is lost: the best of the steps to come will be exported, and result.json will say so"
        )

    def _start_trackers(self) -> None:
        plan = self.plan
        shown = plan.resolved | {"parameters": plan.parameters}
        tracked = TrackedRun(plan.config.name, self.run.path, plan.method, shown)
        self.trackers.start(plan.config.tracking, tracked, self.run.read_log().records)

    def _read_state(self, folder: Path) -> None:
        state = read_state(folder)
        if state["precision"] != self.plan.precision:
            raise UserError(
                f"{folder}: trained in {state['precision']} so far, but training.precision: "
                f"{self.config.precision} means {self.plan.precision} on this device. Resume where it began "
                "(SLURM: --constraint), or train again under another name"
            )
        self.progress = Progress(**state["progress"])
        self.guard.resume(len(self.progress.skipped))
        self._saved = self.progress.step
        self.meter.steps = state["meter"]["steps"]
        sums = state["meter"]["sums"]
        self.meter.restore(sums if isinstance(sums[0], list) else [sums], self.accelerator)
        try:
            self._read_tensors(folder)
        except UNREADABLE as error:  # of an earlier version, which wrote no checksums
            raise UserError(f"{folder}: cannot be read; remove it to go on without it ({error})") from None

    def _read_tensors(self, folder: Path) -> None:
        load_model(self.loss_module, str(folder / WEIGHTS))
        self.optimizer.load_state_dict(torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True))
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(torch.load(folder / "scaler.pt", weights_only=True))

    def finish(self) -> None:
        """Export the best student and mark the run complete.

        Raises:
            UserError: its checkpoint is damaged.
        """
        self._from_main(self._finish)
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
        load_model(self.loss_module, str(self.run.checkpoint_path(best) / WEIGHTS))
        self._export()
        result = self._result()
        self.run.finish(result)
        self.trackers.finish(result)

    def mark_diverged(self, reason: str) -> None:
        """End for good without a result, while others of the cohort continue."""
        if self.accelerator.is_main_process:
            self.run.mark_diverged(reason)
        self.leave(f"diverged at step {self.progress.step}")
        self.accelerator.wait_for_everyone()

    def interrupt(self) -> None:
        """End with a checkpoint to resume from."""
        if self._saved != self.progress.step:
            self._checkpoint()
        self.leave(f"interrupted at step {self.progress.step}; the same command resumes from there")

    def leave(self, reason: str) -> None:
        """End without a result."""
        self.display.finished(reason)
        self.trackers.finish(None)
        self.release()

    def release(self) -> None:
        """Free memory and leave the gradient exchange.

        The exchange goes before the process group: as its last holder it would wait, with the interpreter locked, for
        gloo's threads, which may be waiting for the interpreter.
        """
        self.model, self.optimizer = self.accelerator.free_memory(self.model, self.optimizer)

    def _export(self) -> None:
        folder = self.run.path / ".export.tmp"
        shutil.rmtree(folder, ignore_errors=True)
        with noting(lambda: f"{self.run.path}: the model was not written"), removed_on_error(folder):
            self._write_model(folder)
            self.run.place(folder)

    def _write_model(self, folder: Path) -> None:
        """Write the student as a Hugging Face model folder, without anything the objectives own."""
        export_model(self.loss_module.student, folder)
        save_tokenizer(load_tokenizer(self.plan.data_folder / "tokenizer"), folder)

    def _result(self) -> dict[str, Any]:
        seconds = self.progress.seconds
        return {
            "name": self.plan.config.name,
            "method": self.plan.method,
            "architecture": self.plan.model.model_type,
            "parameters": self.plan.parameters,
            "steps": self.progress.step,
            "epochs": round(self.progress.epoch, 4),
            "tokens": self.progress.tokens,
            "words": self.progress.words,
            "best_step": self.progress.best_step,
            "dev": self.progress.best_dev,
            EXPORTED: weights_sha256(self.run.path),
            **({"lost_best": self.progress.lost_best} if self.progress.lost_best else {}),
            "seconds": round(seconds, 1),
            "tokens_per_second": round(self.progress.tokens / max(seconds, 1e-9)),
            **({"skipped_steps": self.progress.skipped} if self.progress.skipped else {}),
            **({"restarts": self.run.restarts} if self.run.restarts else {}),
        }


def _save(state: dict[str, Any], path: Path) -> None:
    """Write a state to an open file: given a path, PyTorch does not say what the system refused."""
    with named(path), path.open("wb") as file:
        torch.save(state, file)


def summarise_dev(sums: Tensor, domains: list[Domain]) -> dict[str, Any]:
    """Cross-entropy in nats per token and bits per UTF-8 byte, over all and by domain.

    Args:
        sums: (domains, 2): nats and number of tokens.
        domains: their sizes; bytes per token are those of the whole domain.
    """
    byte_counts = [tokens * domain.bytes / max(1, domain.end - domain.start)
                   for (_, tokens), domain in zip(sums.tolist(), domains, strict=True)]  # fmt: skip
    rows = [(nats, tokens, size) for (nats, tokens), size in zip(sums.tolist(), byte_counts, strict=True)]
    total = tuple(map(sum, zip(*rows, strict=True)))
    by_domain = {domain.name: _cross_entropy(*row) for domain, row in zip(domains, rows, strict=True)}
    return _cross_entropy(*total) | {"domains": by_domain}


def _cross_entropy(nats: float, tokens: float, size: float) -> dict[str, Any]:
    return {
        "cross_entropy": nats / tokens,
        "bits_per_byte": nats / math.log(2) / size,
        "tokens": round(tokens),
    }
