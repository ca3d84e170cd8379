"""Which windows of the text each step of a training sees: a pure function of its number."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Course:
    """Which windows each step sees.

    batch_size: sequences of a step.
    total_steps: of the training.
    epochs: passes over the text that the training makes; None: as many as its windows come to.
    """

    batch_size: int
    total_steps: int
    epochs: float | None = None

    def positions(self, step: int) -> range:
        """Of the windows of a step, counted from 0, in training order."""
        return range(step * self.batch_size, (step + 1) * self.batch_size)
