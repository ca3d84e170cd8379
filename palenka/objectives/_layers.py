"""Which layers a state objective compares."""

from collections.abc import Sequence
from typing import Literal

from palenka.objectives import ModelShape, TeacherShape

Layers = Literal["last", "mapped"]
Pairs = tuple[tuple[int, int], ...]


def chosen_pairs(layers: Layers, student: ModelShape, teachers: Sequence[TeacherShape]) -> list[Pairs]:
    """For each teacher the (teacher layer, student layer) pairs: the last of both, or its `layer_mapping`."""
    if layers == "last":
        return [((teacher.num_hidden_layers, student.num_hidden_layers),) for teacher in teachers]
    return [teacher.layer_pairs for teacher in teachers]
