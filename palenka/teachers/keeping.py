"""Teachers that run once for each window, and are read from then on."""

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from palenka.data.batch import Batch
from palenka.data.windows import Integers
from palenka.models.forward import ModelOutput
from palenka.models.outputs import model_shape
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

    def require(self, hidden_states: bool, attention: Sequence[Collection[int]]) -> None:
        """The same; states of layers that are kept are asked for whether or not this student learns from them."""
        super().require(hidden_states or any(self.kept.layers), attention)

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
            ran = zip(self._run_models(batch.rows(rows)), self.kept.layers, strict=True)
            states = [each for output, layers in ran for each in (output.final, *(output.hidden[i] for i in layers))]
            computed = encode(states, self.kept.precision)
            if computed.shape[-1] != self.kept.token_bytes:
                sizes = ", ".join(str(each.shape[-1]) for each in states)
                raise UserError(f"teacher_cache: the teachers' states have {sizes} numbers, not those of their "
                                f"layers, {', '.join(map(str, self.kept.widths))}; leave it out")  # fmt: skip
            stored[rows] = computed
            self.kept.write(numbers[lacking], computed.cpu().numpy())
        each = iter(decode(stored, self.kept.widths, self.kept.precision, self.models[0].dtype))
        outputs = [self._output(next(each), {layer: next(each) for layer in layers}, batch, number)
                   for number, layers in enumerate(self.kept.layers)]  # fmt: skip
        return TeacherPass(outputs, lambda: self._mean_logits(outputs), keeps_logits=students > 1)

    def _output(self, final: Tensor, layers: dict[int, Tensor], batch: Batch, number: int) -> ModelOutput:
        """Of a teacher; its states of layers that are not kept are empty, and no objective looks at them."""
        depth = model_shape(self.models[number].config).num_hidden_layers
        hidden = tuple(layers.get(layer, final.new_empty(0)) for layer in range(depth))
        return ModelOutput(final, batch.at_places(final), (*hidden, final), {}, self.heads[number])
