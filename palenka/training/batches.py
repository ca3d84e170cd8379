"""The batches of a training by number, each made ready while the one before it is used."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from palenka.data.batch import Batch
from palenka.data.tokens import TrainWindows
from palenka.paradigms import Paradigm


@dataclass(frozen=True)
class StepBatch:
    """What one optimizer step sees, all processes together.

    batch: on the CPU.
    positions: of its windows in training order.
    tokens: how many labels count.
    words: begun in the windows.
    epoch: how many epochs are done after it.
    """

    batch: Batch
    positions: range
    tokens: int
    words: int
    epoch: float


class Batches:
    """The batches of a training.

    One thread makes them all: windows remember epochs that they have cut, and are not for several.

    Args:
        windows: in training order.
        paradigm: makes batches of them.
        size: sequences of a batch.
    """

    def __init__(self, windows: TrainWindows, paradigm: Paradigm, size: int) -> None:
        self.windows, self.paradigm, self.size = windows, paradigm, size
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._ahead: tuple[int, Future[StepBatch]] | None = None

    def __getitem__(self, step: int) -> StepBatch:
        number, ahead = self._ahead or (None, None)
        batch = ahead.result() if ahead and number == step else self._worker.submit(self._make, step).result()
        self._ahead = (step + 1, self._worker.submit(self._make, step + 1))
        return batch

    def _make(self, step: int) -> StepBatch:
        positions = range(step * self.size, (step + 1) * self.size)
        batch = self.paradigm.window_batch(self.windows, positions)
        tokens = int(batch.counts.sum())
        epoch, index = self.windows.locate(positions.stop)
        reached = epoch + index / self.windows.epoch_size(epoch)
        pinned = batch.pinned() if torch.cuda.is_available() else batch
        return StepBatch(pinned, positions, tokens, self.windows.words(positions), reached)

    def close(self) -> None:
        self._worker.shutdown(cancel_futures=True)
