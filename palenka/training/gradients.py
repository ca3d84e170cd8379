"""Steps whose gradient is not finite: kept from the weights on the device, named on the host.

A step is taken or not where its norm is known, through `found_inf` of torch's fused optimizers, so that nobody waits
for the device. The host learns of it when it looks: after each step on a CPU, elsewhere before each record, evaluation
and checkpoint. From the first bad step that is one too many, no more steps are taken: the weights stay what they were
before it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from palenka.models.chunked_loss import CHUNK_TOKENS, Logits

NORMS = ("the gradient's norm", "the norm of the objectives' own gradient")
SMALLEST_SCALE = 1.0
"""Of fp16's loss scale. Above it, a gradient that is not finite is an overflow, which a smaller scale may prevent."""


@dataclass(frozen=True)
class BadStep:
    """A step that was not taken. `losses` are this process's shares of [loss, *terms], on the device."""

    step: int
    norms: list[float]
    losses: Tensor


class StepGuard:
    """Decides on the device whether an optimizer's steps are taken.

    Args:
        optimizer: one that obeys `found_inf`, or else leaves alone what has no gradient. Others, such as fp16's scaler,
            may have marked its step already.
        device: of its parameters.
        allowed: bad steps that are skipped; after one more, no step is taken.
        is_scaled: whether fp16's scaler calls the optimizer.
    """

    def __init__(self, optimizer: Optimizer, device: torch.device, allowed: int, is_scaled: bool) -> None:
        self.allowed, self.is_scaled = allowed, is_scaled
        self._count = torch.zeros((), device=device)
        self._is_skipped = torch.zeros((), device=device)
        self._unseen: list[tuple[int, Tensor, Tensor, Tensor]] = []
        optimizer.register_step_pre_hook(self._mark)

    @property
    def is_taken(self) -> Tensor:
        """Whether the step that was judged last is taken, a scalar."""
        return 1 - self._is_skipped

    def _mark(self, optimizer: Any, *arguments: Any) -> None:
        if getattr(optimizer, "_step_supports_amp_scaling", False):  # how torch says that it obeys found_inf
            overflow = optimizer.found_inf if self.is_scaled else self._is_skipped
            optimizer.found_inf = torch.maximum(overflow, self._is_skipped)
        elif self._is_skipped:  # waits for the device
            optimizer.zero_grad()

    def resume(self, skipped: int) -> None:
        """Count the steps that were skipped before a checkpoint."""
        self._count.fill_(skipped)

    def judge(self, step: int, norms: Tensor, losses: Tensor, scale: Tensor | None = None) -> Tensor:
        """Decide on the next step.

        Args:
            step: its number, from 1.
            norms: (1,) or (2,), of NORMS; the same in all processes.
            losses: this process's shares of [loss, *terms].
            scale: fp16's, a scalar.

        Returns:
            A scalar: whether the step is bad.
        """
        is_finite = torch.isfinite(norms).all()
        is_bad = ~is_finite if scale is None else ~is_finite & (scale <= SMALLEST_SCALE)
        self._count += is_bad
        self._is_skipped = (~is_finite | (self._count > self.allowed)).float()
        self._unseen.append((step, is_bad, norms, losses))
        return is_bad

    def bad_steps(self) -> list[BadStep]:
        """Those since the last call. Waits for the device."""
        unseen, self._unseen = self._unseen, []
        if not unseen:
            return []
        flags = torch.stack([is_bad for _, is_bad, _, _ in unseen]).tolist()
        return [
            BadStep(step, norms.tolist(), losses)
            for (step, _, norms, losses), is_bad in zip(unseen, flags, strict=True)
            if is_bad
        ]


def describe(bad: BadStep, losses: Sequence[float], names: Sequence[str], teachers: Sequence[str]) -> str:
    """What is known of a bad step.

    Args:
        bad: the step.
        losses: its [loss, *terms], over all processes.
        names: of the terms.
        teachers: whose output on its batch is not finite.
    """
    at = f"at step {bad.step}"
    loss, *terms = losses
    broken = [f"{name} is {value}" for name, value in zip(names, terms, strict=True) if not math.isfinite(value)]
    norms = [f"{name} is {norm} {at}" for name, norm in zip(NORMS, bad.norms, strict=False) if not math.isfinite(norm)]
    text = ", and ".join(([] if math.isfinite(loss) else [f"the loss is {loss} {at}"]) + norms)
    text += f"; of the terms {', '.join(broken)}" if broken else "; every term is finite"
    if teachers:
        text += f"; the cause: what {' and '.join(teachers)} gives is not finite"
    return text


def are_finite(source: Logits, tokens: int, vocabulary: int, device: torch.device) -> bool:
    """Whether a teacher's logits are finite, all of them. Forms them chunk by chunk."""
    size = CHUNK_TOKENS[device.type]
    for start in range(0, tokens, size):
        rows = slice(start, min(start + size, tokens))
        flat = torch.zeros(rows.stop - rows.start, vocabulary, device=device)
        if not torch.isfinite(source.logits(rows, torch.float32, flat)).all():
            return False
    return True
