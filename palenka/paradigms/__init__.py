"""What a paradigm is: what of a window is shown, what is predicted, who sees whom; and how a model that learned so is
asked for the probability of a text.

A new paradigm is one file here: `my_paradigm.py` defines `class MyParadigm(Paradigm)`, and `paradigm: my_paradigm` in a
config, or `paradigm: {name: my_paradigm, …}` with the knobs of its own `Config`, finds it by the file's name.

A paradigm never runs a model, and draws chance from the streams that it is given alone: a window looks the same
whichever batch it stands in, and a resumed run repeats the unbroken one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from palenka.data.batch import FEW, Batch
from palenka.data.windows import Integers, Windows
from palenka.util.doors import Door, Named
from palenka.util.seeds import named_seed


@dataclass(frozen=True)
class Shown:
    """Windows that a batch is made of.

    input_ids: (batch, time).
    labels: (batch, time), the token that follows each of input_ids, IGNORED where it is not the window's own.
    positions: of each window in training order, or among dev windows.
    seed: what names random streams.
    progress: the share of the training that is done, 0 to 1: of its epochs, or, where it is given in steps, of windows.
    """

    input_ids: Integers
    labels: Integers
    positions: Sequence[int]
    seed: int
    progress: float = 1.0

    def stream(self, row: int) -> np.random.Generator:
        """The random stream of a row, named by its window's visit: another one each time that a window is seen."""
        return np.random.default_rng(named_seed(self.seed, "paradigm", self.positions[row]))

    def rows(self, rows: Sequence[int]) -> "Shown":
        """Some of the windows."""
        positions = [self.positions[row] for row in rows]
        return replace(self, input_ids=self.input_ids[rows], labels=self.labels[rows], positions=positions)


class ParadigmConfig(Named):
    """Knobs every paradigm has; each file adds its own."""

    def idle(self) -> Iterator[tuple[str, str]]:
        """Keys that change nothing as the others stand, each with what it needs."""
        yield from ()

    @property
    def part_names(self) -> list[str]:
        """Names of the paradigms that it is made of; a simple one is its own only part."""
        return [self.name]

    @property
    def stages(self) -> "list[tuple[float, ParadigmConfig]]":
        """What makes its batches, one after the other, each with its share of the training; it does, but for some."""
        return [(1.0, self)]

    @property
    def isolates(self) -> bool:
        """Whether documents of a window do not see each other."""
        return False

    @property
    def predicted_share(self) -> float:
        """Of the tokens, those that it predicts, over the whole training."""
        return 1.0

    @property
    def logit_share(self) -> float:
        """Of all positions, those that logits are formed of: all, unless few predict (`Batch.with_places`)."""
        return self.predicted_share if self.predicted_share <= FEW else 1.0


@dataclass(frozen=True)
class Vocabulary:
    """What paradigms need to know of a tokenizer: its size, and the ids of special tokens, as far as it has them.

    `special` are the ids of all of them.
    """

    size: int
    bos: int | None = None
    eos: int | None = None
    pad: int | None = None
    mask: int | None = None
    special: frozenset[int] = frozenset()

    @classmethod
    def of(cls, tokenizer: Any) -> "Vocabulary":
        """That of a tokenizer."""
        ids = {name: getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "pad", "mask")}
        return cls(len(tokenizer), **ids, special=frozenset(getattr(tokenizer, "all_special_ids", ())))


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
    `least_batch` is the number of sequences that a step needs.
    """

    Config: type[ParadigmConfig] = ParadigmConfig
    attention: Literal["causal", "full"] = "causal"
    least_batch = 1

    def __init__(self, config: ParadigmConfig, vocabulary: Vocabulary) -> None:
        self.config, self.vocabulary = config, vocabulary

    @property
    def parts(self) -> Mapping[str, "Paradigm"]:
        """Those that it is made of, by their names; a simple one is its own only part."""
        return {self.config.name: self}

    @property
    def shares(self) -> Mapping[str, float]:
        """How much of the training each part is; they sum to 1."""
        return {self.config.name: 1.0}

    def window_batch(self, windows: Windows, positions: range, progress: float = 1.0) -> Batch:
        """What is made of windows, on the CPU.

        Chance is drawn from a stream for each position: training windows have another position at each visit, so that
        they look different each time, and dev windows always look the same.

        Args:
            windows: of text.
            positions: of those that make the batch.
            progress: the share of the training that is done, 0 to 1. Dev windows look as at its end.
        """
        shown = windows.batch(positions)
        return self.batch(Shown(*shown, positions, windows.seed, progress))

    def batch(self, shown: Shown) -> Batch:
        """What is made of windows."""
        raise NotImplementedError

    def queries(
        self, context: tuple[int, ...], continuation: tuple[int, ...], after: tuple[int, ...] = (),
        words: tuple[int, ...] = (),
    ) -> Sequence[Query]:  # fmt: skip
        """The inputs whose predictions, log-probabilities all together, are the score of a continuation.

        Args:
            context: ids of what stands before, at least one.
            continuation: ids of what is scored.
            after: ids of what stands after it, for those who see it.
            words: the number of the word of each token of the continuation; where they are given, who hides a token
                also hides what follows of its word.
        """
        raise NotImplementedError


DOOR: Door[Paradigm] = Door(__name__, "paradigm")


def of(config: Named, vocabulary: Vocabulary) -> Paradigm:
    """The paradigm of a config's section.

    Raises:
        UserError: the tokenizer lacks a token that it needs.
    """
    return DOOR.find(config.name)(cast(ParadigmConfig, config), vocabulary)
