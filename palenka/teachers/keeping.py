"""Teachers that run once for each window, and are read from then on."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from palenka.data.batch import Batch
from palenka.data.windows import Integers
from palenka.models.forward import ModelOutput
from palenka.teachers.kept import KeptStates, decode, encode
from palenka.teachers.live import TeacherPass, Teachers
from palenka.util.errors import UserError


class KeepingTeachers(Teachers):
    """Teachers that run only on windows whose states are not there.

    Args:
        teachers: that run.
        kept: what they have made before, opened.
        numbers: of windows, from their positions in training order.
        total: positions that the training has.
    """

    def __init__(
        self, teachers: Teachers, kept: KeptStates, numbers: Callable[[range], Integers], total: int
    ) -> None:
        super().__init__(teachers.models, teachers.shares, teachers.entries)
        self.kept, self.numbers, self.total = kept, numbers, total

    @torch.no_grad()
    def run(self, batch: Batch, windows: range | None = None, students: int = 1) -> TeacherPass:
        """The same as without them, but for the rounding of states."""
        if not self._needed:
            return super().run(batch, windows, students)
        if windows is None:
            raise ValueError("states are kept by position, and no positions are given")
        numbers = self.numbers(windows)
        there, found = self.kept.read(numbers)
        self.kept.expect(self.numbers(range(windows.stop, min(windows.stop + len(windows), self.total))))
        stored = torch.from_numpy(found).to(batch.input_ids.device)
        if not there.all():
            lacking = np.flatnonzero(~there)
            rows = torch.from_numpy(lacking).to(stored.device)
            finals = [output.final for output in self._run_models(batch.rows(rows))]
            computed = encode(finals, self.kept.precision)
            if computed.shape[-1] != self.kept.token_bytes:
                sizes = ", ".join(str(final.shape[-1]) for final in finals)
                raise UserError(f"teacher_cache: the teachers' final states have {sizes} numbers, not those of their "
                                f"layers, {', '.join(map(str, self.kept.widths))}; leave it out")  # fmt: skip
            stored[rows] = computed
            self.kept.write(numbers[lacking], computed.cpu().numpy())
        dtype = self.models[0].dtype
        each = decode(stored, self.kept.widths, self.kept.precision, dtype)
        outputs = [_output(states, batch, head) for states, head in zip(each, self.heads, strict=True)]
        return TeacherPass(outputs, lambda: self._mean_logits(outputs), keeps_logits=students > 1)


def _output(states: Tensor, batch: Batch, head: nn.Module) -> ModelOutput:
    return ModelOutput(states, batch.at_places(states), (), {}, head)
