"""What moves in a step: a loss module, its gradients over micro-batches and processes, clipping, and the optimizer.

Everything random in a step is drawn from a stream named by (seed, step, micro-batch, process), so that a checkpoint
needs no generator states, and a resumed run repeats the unbroken one bit by bit on a CPU.

The model in training is called a student here, also where nobody teaches it.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from palenka.data.batch import Batch
from palenka.optimizers._averaging import WeightAverage
from palenka.optimizers._schedules import learning_rate
from palenka.teachers.live import TeacherPass
from palenka.training.gradients import StepGuard
from palenka.training.loss_module import LossModule, StepSize
from palenka.training.meter import Meter
from palenka.training.plan import Plan
from palenka.training.state import AVERAGE
from palenka.util.seeds import named_seed


class Student:
    """A student in training, as one of its processes sees it.

    Args:
        plan: what to train.
        loss: the student and its objectives.
        optimizer: of all that is trained.
        accelerator: the processes.
    """

    def __init__(
        self, plan: Plan, loss: LossModule, optimizer: torch.optim.Optimizer, accelerator: Accelerator
    ) -> None:
        self.plan, self.loss, self.accelerator, self.config = plan, loss, accelerator, plan.config.training
        self.device = accelerator.device
        is_scaled = accelerator.scaler is not None
        self.guard = StepGuard(optimizer, self.device, self.config.skip_bad_steps, is_scaled)
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        self.average = WeightAverage(loss.student, self.config.ema) if self.config.ema else None
        self.model, self.optimizer = accelerator.prepare(loss, optimizer)
        self.meter = Meter(loss.term_names, self.device)

    def learning_rate(self, step: int, peak: float) -> float:
        config = self.config
        course = (config.warmup_steps, self.plan.total_steps, config.schedule, config.min_lr_ratio)
        return learning_rate(step, peak, *course, config.cooldown_steps)

    def start_step(self, step: int) -> None:
        """Make ready for a step, counted from 0."""
        self.step = step
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = self.learning_rate(step, peak)
        self._losses = torch.zeros(1 + len(self.loss.term_names), device=self.device)

    def accumulate(self, micro: int, is_last: bool, batch: Batch, size: StepSize, teachers: TeacherPass) -> None:
        """Add the gradients of one micro-batch of this process, and its shares of [loss, *terms]."""
        accelerator = self.accelerator
        torch.manual_seed(named_seed(self.plan.config.seed, "step", self.step, micro, accelerator.process_index))
        with self._synchronised(is_last):
            loss, terms = self.model(batch, size, teachers)
            # Every process holds its share of a sum, and gradients will be averaged over processes.
            accelerator.backward(loss * accelerator.num_processes)
        self._losses += torch.cat([loss.detach().reshape(1), terms])

    def _synchronised(self, is_last: bool) -> AbstractContextManager[None]:
        """Processes exchange gradients in the last micro-batch only."""
        context: AbstractContextManager[None] = nullcontext() if is_last else self.accelerator.no_sync(self.model)
        return context

    def apply_gradients(self, tokens: int) -> None:
        """Move along the gradients of the whole step, which had so many tokens over all processes."""
        norms = self._clip()
        is_bad = self.guard.judge(self.step + 1, norms, self._losses, self._scale())
        self.meter.add(self._losses, norms[0], tokens, is_bad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average:
            self.average.update(self.guard.is_taken)

    def _clip(self) -> Tensor:
        """Clip the student and the objectives separately, so that neither drowns the other; returns both norms."""
        self.accelerator.unscale_gradients(self.optimizer)
        owned = list(self.loss.objectives.parameters())
        parts = [list(self.loss.student.parameters()), *([owned] if owned else [])]
        return torch.stack([nn.utils.clip_grad_norm_(part, self.config.max_grad_norm) for part in parts])

    def _scale(self) -> Tensor | None:
        """fp16's, without waiting for the device."""
        scaler = self.accelerator.scaler
        return None if scaler is None else scaler.scale(torch.ones((), device=self.device))

    def largest_weight(self) -> float:
        return torch.stack([parameter.detach().abs().max() for parameter in self.loss.parameters()]).max().item()

    def scheduled_weights(self, step: int) -> dict[str, float]:
        """Weights of terms that change over the training, as the step, counted from 0, has them."""
        weights = {name: config.weight for name, config in self.plan.config.terms.items()}
        progress = step / self.plan.total_steps
        return {f"{name}_weight": w.at(progress) for name, w in weights.items() if not w.is_constant}

    @property
    def states(self) -> dict[str, Any]:
        """What has a state that belongs into a checkpoint, by the name of its file."""
        held = {"optimizer.pt": self.optimizer, "scaler.pt": self.accelerator.scaler, AVERAGE: self.average}
        return {name: part for name, part in held.items() if part is not None}

    def meter_state(self) -> dict[str, Any]:
        """The meter's, of all processes, for a checkpoint."""
        return {"sums": self.meter.parts(self.accelerator), "steps": self.meter.steps}

    def resume(self, meter: dict[str, Any], skipped: int) -> None:
        """Go on with a meter and with so many steps skipped, as a checkpoint had them."""
        self.guard.resume(skipped)
        self.meter.steps = meter["steps"]
        sums = meter["sums"]
        self.meter.restore(sums if isinstance(sums[0], list) else [sums], self.accelerator)

    def release(self) -> None:
        """Free memory and leave the gradient exchange.

        The exchange goes before the process group: as its last holder it would wait, with the interpreter locked, for
        gloo's threads, which may be waiting for the interpreter.
        """
        self.model, self.optimizer = self.accelerator.free_memory(self.model, self.optimizer)
