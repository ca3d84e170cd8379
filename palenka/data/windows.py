"""What a window of text is, for all who cut, show or predict one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Positions = Sequence[int] | range | Integers

IGNORED = -100
"""The label of a position that has nothing to predict."""


@dataclass(frozen=True)
class WindowConfig:
    """How windows are cut. `fraction` in (0, 1]: the share of each domain's tokens that is used."""

    seq_length: int
    bos: Literal["window", "document", "none"] = "window"
    crop: Literal["epoch_offset", "fixed", "random"] = "epoch_offset"
    window_start: Literal["line", "anywhere"] = "line"
    fraction: float = 1.0

    @property
    def room(self) -> int:
        """Tokens that a window has room for (with bos=document: less a `<s>` for each document that starts within)."""
        return self.seq_length - (self.bos == "window")


class Windows(Protocol):
    """Windows by their position; `seed` names the random stream of what is shown of them."""

    seed: int

    def batch(self, positions: Positions, /) -> tuple[Integers, Integers]:
        """input_ids and labels, each (batch, time)."""
        ...
