"""Which windows each step of a training sees: a pure function of the step, which counts from 0.

    size(s) = first (1 + floor(s K / T)),   K = last / first

A batch that grows does so by its first size, in K equal parts of T steps: evenly from `first` to `last`, whatever the
processes and micro-batches that share it.

Windows are of one length in a step. Where the first epochs have shorter ones, a batch is as many times as many of them,
so that it has as many tokens; and since lengths change where an epoch begins, the last windows before that which do not
fill a batch are left out, as at the end of a training.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from palenka.util.errors import UserError

MOST_WINDOWS = 10**8  # that a run sees: far beyond any training of this laboratory


@dataclass(frozen=True)
class Phase:
    """Steps whose windows are of one length.

    first_step: its first.
    first_window: the position of that step's first window in training order.
    multiple: how many windows stand for one of the full length.
    """

    first_step: int = 0
    first_window: int = 0
    multiple: int = 1


@dataclass(frozen=True)
class Course:
    """Which windows each step sees.

    first_size, last_size: sequences of full length in the first and in the last step; this is a multiple of that.
    ramp_steps: T.
    total_steps: of the training, T or a few less where windows are left out.
    epochs: passes over the text that the training makes; None: as many as its windows come to.
    phases: in their order.
    """

    first_size: int
    last_size: int
    ramp_steps: int
    total_steps: int
    epochs: float | None = None
    phases: tuple[Phase, ...] = (Phase(),)

    def before(self, step: int) -> int:
        """Windows that the steps before one see, if all are of full length."""
        sizes = self.last_size // self.first_size
        growths = (-(-self.ramp_steps * grown // sizes) for grown in range(1, sizes))  # steps that see more than before
        return self.first_size * (step + sum(max(0, step - growth) for growth in growths))

    def positions(self, step: int) -> range:
        """Of the windows of a step in training order."""
        phase = next(phase for phase in reversed(self.phases) if phase.first_step <= step)
        start, stop = (self.before(each) - self.before(phase.first_step) for each in (step, step + 1))
        return range(phase.first_window + phase.multiple * start, phase.first_window + phase.multiple * stop)


@dataclass(frozen=True)
class _Stretch:
    """Epochs whose windows are of one length: the position of the first of them, and how many there are."""

    length: int
    first: int
    count: int


def plan_course(
    sizes: tuple[int, int], max_steps: int | None, epochs: float | None, windows: Any, where: str
) -> Course:
    """The course of a training.

    Args:
        sizes: of the first and of the last batch.
        max_steps: its length, or else `epochs`.
        epochs: passes over the text.
        windows: of its text, as `palenka.data.tokens.TrainWindows` has them.
        where: the file, for messages.

    Raises:
        UserError: it is too long, or too short for a step, or for one of some length.
    """
    even = Course(*sizes, 0, 0, epochs)
    if max_steps is not None:
        if max_steps * even.last_size > MOST_WINDOWS:
            steps = f"{max_steps:,} steps of {even.last_size:,} sequences"
            raise _too_long(f"{where}: training.max_steps: {steps}", windows)
        return replace(even, ramp_steps=max_steps, total_steps=max_steps)
    stretches = _stretches(epochs or 0, windows, where)
    multiples = [windows.config.seq_length // stretch.length for stretch in stretches]
    whole = sum(stretch.count // multiple for stretch, multiple in zip(stretches, multiples, strict=True))
    even = replace(even, ramp_steps=2 * whole // (even.first_size + even.last_size))
    if not even.ramp_steps:
        raise UserError(f"{where}: {whole} windows of text do not fill a batch of {even.last_size}")
    phases, step = [], 0
    for stretch, multiple in zip(stretches, multiples, strict=True):
        phases.append(Phase(step, stretch.first, multiple))
        most = even.before(step) + stretch.count // multiple
        end = bisect_right(range(even.ramp_steps + 1), most, key=even.before) - 1
        if end == step:
            what = f"{stretch.count} windows of {stretch.length} tokens"
            raise UserError(f"{where}: data.shorter_first: {what} do not fill a batch of as many tokens as the others")
        step = end
    return replace(even, total_steps=step, phases=tuple(phases))


def _stretches(epochs: float, windows: Any, where: str) -> list[_Stretch]:
    if windows.epoch_size(0) * epochs > MOST_WINDOWS:
        raise _too_long(f"{where}: training.num_epochs: {epochs:g} epochs", windows)
    found: list[_Stretch] = []
    first = 0
    for epoch, count in enumerate(_epoch_sizes(epochs, windows)):
        length = windows.length(epoch)
        if found and found[-1].length == length:
            found[-1] = replace(found[-1], count=found[-1].count + count)
        else:
            found.append(_Stretch(length, first, count))
        first += count
    return found


def _epoch_sizes(epochs: float, windows: Any) -> Iterator[int]:
    """How many windows a training sees of each epoch; of the last perhaps a part."""
    whole, rest = divmod(epochs, 1)
    yield from (windows.epoch_size(epoch) for epoch in range(int(whole)))
    if rest:
        yield int(rest * windows.epoch_size(int(whole)))


def _too_long(what: str, windows: Any) -> UserError:
    epochs = MOST_WINDOWS / windows.epoch_size(0)
    return UserError(
        f"{what} are more than {MOST_WINDOWS:,} windows of text, the most that a run may see; with this data they are "
        f"{epochs:,.0f} epochs"
    )
