"""What users see while runs train: a progress bar on a terminal, plain lines in a log."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from palenka.evaluation.statistics import Accuracy
from palenka.util.processes import is_first_process
from palenka.util.progress import Bar
from palenka.util.text import clock, with_error

HIDDEN = ("split", "step", "epoch", "tokens", "words", "lr", "grad_norm", "tokens_per_second", "domains")


class CohortDisplay:
    """Progress of several runs side by side on standard error: one bar, and one line for their training records.

    Args:
        names: the runs'.
        total_steps: optimizer steps of each.
    """

    def __init__(self, names: Sequence[str], total_steps: int) -> None:
        self.name = f"{len(names)} students of {os.path.commonpath(names) or 'one cohort'}"
        self.total_steps = total_steps
        self.enabled = is_first_process()
        self.bar = Bar(self.name, total_steps, "steps", self.enabled)
        self._records: dict[str, dict[str, Any]] = {}
        self._seconds_left = 0.0

    def add(self, name: str, record: dict[str, Any], seconds_left: float) -> None:
        """Take a run's training record, to show it with those of the others."""
        self._records[name] = record
        self._seconds_left += seconds_left

    def advance(self, step: int) -> None:
        """Tell that every run has taken this step."""
        self.bar.reach(step)
        if self._records:
            self._show(step)
        self._records, self._seconds_left = {}, 0.0

    def _show(self, step: int) -> None:
        # Sums with different weights cannot be compared; cross-entropies can.
        term = "hard_target" if all("hard_target" in record for record in self._records.values()) else "loss"
        losses = {name.rpartition("/")[2]: record[term] for name, record in self._records.items()}
        low, high = (choose(losses, key=lambda name: losses[name]) for choose in (min, max))
        rate = max(record["tokens_per_second"] for record in self._records.values())
        text = f"{term} {losses[low]:.4f} ({low}) to {losses[high]:.4f} ({high})"
        self.bar.note(f"{text}  {rate:,} tok/s")
        if self.enabled and not self.bar.is_shown:
            _write(
                f"{self.name}: step {step}/{self.total_steps}  {text}  {rate:,} tok/s  "
                f"{clock(self._seconds_left)} left"
            )

    def close(self) -> None:
        self.bar.close()


class Display:
    """Progress of one run on standard error.

    Args:
        name: the run's.
        total_steps: optimizer steps of the whole run.
        enabled: False in all processes but the main one.
        cohort_display: shows the training of this run beside that of others, in place of a bar or lines of its own.
    """

    def __init__(self, name: str, total_steps: int, enabled: bool, cohort_display: CohortDisplay | None = None) -> None:
        self.name, self.total_steps, self.enabled, self.cohort_display = name, total_steps, enabled, cohort_display
        self.bar = Bar(name, total_steps, "steps", enabled and cohort_display is None)

    def resumed(self, step: int) -> None:
        self._write(f"{self.name}: resuming from step {step}")
        self.bar.reach(step)

    def warn(self, text: str) -> None:
        self._write(f"{self.name}: warning: {text}")

    def advance(self) -> None:
        self.bar.advance()

    def training(self, record: dict[str, Any], seconds_left: float) -> None:
        if self.cohort_display is not None:
            self.cohort_display.add(self.name, record, seconds_left)
            return
        terms = "  ".join(f"{key} {value:.4f}" for key, value in record.items() if key not in HIDDEN)
        if self.bar.is_shown:
            self.bar.note(f"{terms}  {record['tokens_per_second']:,} tok/s")
            return
        self._write(
            f"{self.name}: step {record['step']}/{self.total_steps}  {terms}  lr {record['lr']:.2e}  "
            f"|g| {record['grad_norm']:.2f}  {record['tokens_per_second']:,} tok/s  {clock(seconds_left)} left"
        )

    def dev(self, step: int, dev: dict[str, Any], is_best: bool) -> None:
        figures = [f"dev {dev['cross_entropy']:.4f} nats/token"]
        figures += [f"{name} {of['cross_entropy']:.4f}" for name, of in dev.get("paradigms", {}).items()]
        if "bits_per_byte" in dev:
            figures.append(f"{dev['bits_per_byte']:.4f} bits/byte")
        if is_best and "paradigms" not in dev:  # of several the last one is taken
            figures.append("(best so far)")
        self._write(f"{self.name}: step {step}/{self.total_steps}  {'  '.join(figures)}")

    def skipped(self, step: int, reason: str) -> None:
        self._write(f"{self.name}: step {step}/{self.total_steps}  skipped: {reason}")

    def milestone(self, step: int, milestone: str, accuracies: dict[str, Accuracy]) -> None:
        scores = "  ".join(f"{task} {with_error(a.accuracy, a.stderr)} %" for task, a in accuracies.items())
        self._write(f"{self.name}: step {step}/{self.total_steps}  {milestone}  {scores}")

    def finished(self, text: str) -> None:
        self.bar.close()
        self._write(f"{self.name}: {text}")

    def _write(self, text: str) -> None:
        if self.enabled:
            _write(text)


def _write(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
