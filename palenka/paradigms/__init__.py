"""What a paradigm is: what of a window is shown, what is predicted, who sees whom; and how a model that learned so is
asked for the probability of a text.

A new paradigm is one file here: `my_paradigm.py` defines `class MyParadigm(Paradigm)`, and `paradigm: my_paradigm` in a
config, or `paradigm: {name: my_paradigm, …}` with the knobs of its own `Config`, finds it by the file's name.

A paradigm never runs a model, and draws chance from the streams that it is given alone: a window looks the same
whichever batch it stands in, and a resumed run repeats the unbroken one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from palenka.data.batch import Batch
from palenka.data.windows import Integers, Windows
from palenka.util.doors import Door, Named
from palenka.util.seeds import named_seed

Streams = Callable[[int], np.random.Generator]
"""The random stream of a row of a batch, named by its window's visit: another one each time that a window is seen."""


class ParadigmConfig(Named):
    """Knobs every paradigm has; each file adds its own."""


@dataclass(frozen=True)
class Vocabulary:
    """What paradigms need to know of a tokenizer: its size, and the ids of special tokens, as far as it has them."""

    size: int
    bos: int | None = None
    pad: int | None = None
    mask: int | None = None

    @classmethod
    def of(cls, tokenizer: Any) -> "Vocabulary":
        """That of a tokenizer."""
        ids = (getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "pad", "mask"))
        return cls(len(tokenizer), *ids)


class Query(NamedTuple):
    """One input that a model is shown, and what of its predictions belongs to a text's score.

    tokens: ids that are shown.
    places: positions whose predictions count.
    targets: the token that each of them is to predict.
    """

    tokens: tuple[int, ...]
    places: tuple[int, ...]
    targets: tuple[int, ...]


class Paradigm:
    """Base of all paradigms.

    `attention` says who sees whom where a text is scored. What a batch shows in training, its `Batch` says itself.
    """

    Config: type[ParadigmConfig] = ParadigmConfig
    attention: Literal["causal", "full"] = "causal"

    def __init__(self, config: ParadigmConfig, vocabulary: Vocabulary) -> None:
        self.config, self.vocabulary = config, vocabulary

    def window_batch(self, windows: Windows, positions: range) -> Batch:
        """What is made of windows, on the CPU.

        Chance is drawn from a stream for each position: training windows have another position at each visit, so that
        they look different each time, and dev windows always look the same.
        """
        input_ids, labels = windows.batch(positions)
        return self.batch(
            input_ids, labels, lambda row: np.random.default_rng(named_seed(windows.seed, "paradigm", positions[row]))
        )

    def batch(self, input_ids: Integers, labels: Integers, streams: Streams) -> Batch:
        """What is made of windows.

        Args:
            input_ids: (batch, time).
            labels: (batch, time), the token that follows each of input_ids, IGNORED where it is not the window's own.
            streams: by row.
        """
        raise NotImplementedError

    def queries(self, context: tuple[int, ...], continuation: tuple[int, ...]) -> Sequence[Query]:
        """The inputs whose predictions, log-probabilities all together, are the score of a continuation.

        Args:
            context: ids of what stands before, at least one.
            continuation: ids of what is scored.
        """
        raise NotImplementedError


DOOR: Door[Paradigm] = Door(__name__, "paradigm")


def of(config: Named, vocabulary: Vocabulary) -> Paradigm:
    """The paradigm of a config's section."""
    return DOOR.find(config.name)(cast(ParadigmConfig, config), vocabulary)
