"""What a person sees while a run trains: a progress bar on a terminal, plain lines in a log."""

import sys
from typing import Any

from tqdm import tqdm

from palenka.evaluation.statistics import Accuracy

HIDDEN = ("split", "step", "epoch", "tokens", "words", "lr", "grad_norm", "tokens_per_second", "domains")


class Display:
    """Progress of one run on standard error.

    Args:
        name: the run's.
        total_steps: optimizer steps of the whole run.
        enabled: False in all processes but the main one.
    """

    def __init__(self, name: str, total_steps: int, enabled: bool) -> None:
        self.name, self.total_steps, self.enabled = name, total_steps, enabled
        self.bar: tqdm[Any] | None = None
        if enabled and sys.stderr.isatty():
            self.bar = tqdm(total=total_steps, desc=name, unit="step", dynamic_ncols=True)

    def resumed(self, step: int) -> None:
        self._write(f"{self.name}: goes on from step {step}")
        if self.bar is not None:
            self.bar.reset(self.total_steps)
            self.bar.update(step)

    def advance(self) -> None:
        if self.bar is not None:
            self.bar.update()

    def training(self, record: dict[str, Any], seconds_left: float) -> None:
        terms = "  ".join(f"{key} {value:.4f}" for key, value in record.items() if key not in HIDDEN)
        if self.bar is not None:
            self.bar.set_postfix_str(f"{terms}  {record['tokens_per_second']:,} tok/s")
            return
        self._write(
            f"{self.name}: step {record['step']}/{self.total_steps}  {terms}  lr {record['lr']:.2e}  "
            f"|g| {record['grad_norm']:.2f}  {record['tokens_per_second']:,} tok/s  {_clock(seconds_left)} left"
        )

    def dev(self, step: int, dev: dict[str, Any], is_best: bool) -> None:
        self._write(
            f"{self.name}: step {step}/{self.total_steps}  dev {dev['cross_entropy']:.4f} nats/token  "
            f"{dev['bits_per_byte']:.4f} bits/byte{'  (best so far)' if is_best else ''}"
        )

    def revision(self, step: int, revision: str, accuracies: dict[str, Accuracy]) -> None:
        scores = "  ".join(f"{task} {100 * a.accuracy:.2f} ± {100 * a.stderr:.2f} %" for task, a in accuracies.items())
        self._write(f"{self.name}: step {step}/{self.total_steps}  {revision}  {scores}")

    def finished(self, text: str) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        self._write(f"{self.name}: {text}")

    def _write(self, text: str) -> None:
        if self.enabled:
            tqdm.write(text, file=sys.stderr)
            sys.stderr.flush()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
