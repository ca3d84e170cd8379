"""The batches of a training by number, each made ready while the one before it is used."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from palenka.data.batch import Batch
from palenka.data.tokens import TrainWindows
from palenka.data.windows import IGNORED
from palenka.paradigms import Paradigm, Shown
from palenka.training.course import Course


@dataclass(frozen=True)
class StepBatch:
    """What one optimizer step sees, all processes together.

    batch: on the CPU.
    positions: of its windows in training order.
    tokens: of the text, each window's own.
    predicted: how many labels count: as many as tokens where each is predicted.
    words: begun in the windows.
    epoch: how many epochs are done after it.
    """

    batch: Batch
    positions: range
    tokens: int
    predicted: int
    words: int
    epoch: float


class Batches:
    """The batches of a training.

    One thread makes them all: windows remember epochs that they have cut, and are not for several.

    Args:
        windows: in training order.
        paradigm: makes batches of them.
        course: which windows each step sees.
        first: the step that is made ready at once, while the models are built.
    """

    def __init__(self, windows: TrainWindows, paradigm: Paradigm, course: Course, first: int | None = None) -> None:
        self.windows, self.paradigm, self.course = windows, paradigm, course
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._ahead: tuple[int, Future[StepBatch]] | None = None
        if first is not None:
            self._make_ready(first)

    def __getitem__(self, step: int) -> StepBatch:
        number, ahead = self._ahead or (None, None)
        batch = ahead.result() if ahead and number == step else self._worker.submit(self._make, step).result()
        self._make_ready(step + 1)
        return batch

    def _make_ready(self, step: int) -> None:
        self._ahead = (step, self._worker.submit(self._make, step))

    def _make(self, step: int) -> StepBatch:
        positions = self.course.positions(step)
        shown = Shown(*self.windows.batch(positions), positions, self.windows.seed, self._progress(positions.start))
        batch = self.paradigm.batch(shown)
        tokens, predicted = int((shown.labels != IGNORED).sum()), max(1, int(batch.counts.sum()))
        pinned = batch.pinned() if torch.cuda.is_available() else batch
        words, epochs = self.windows.words(positions), self.windows.epochs_before(positions.stop)
        return StepBatch(pinned, positions, tokens, predicted, words, epochs)

    def _progress(self, position: int) -> float:
        """The share of the training that is done before a window: of its epochs, or, where it has steps, of windows."""
        if self.course.epochs:
            return self.windows.epochs_before(position) / self.course.epochs
        return position / self.course.positions(self.course.total_steps - 1).stop

    def close(self) -> None:
        self._worker.shutdown(cancel_futures=True)
