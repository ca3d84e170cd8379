r"""Mix: sequences of one batch are made by several paradigms, and the loss is the weighted mean of their mean losses.

    L = sum_p w_p L_p,        w_p = r_p / sum_q r_q        r_p: sequences of paradigm p, of each sum_q r_q

L_p is a mean over what p predicts in the step: `causal` predicts six times as much of a sequence as `mntp` does, and
would outweigh it in a mean over tokens. GPT-BERT (Charpentier & Samuel 2024, arXiv 2410.24159).
"""

from itertools import accumulate

import torch
from pydantic import Field, model_validator

from palenka.data.batch import Batch
from palenka.paradigms import Shown, Vocabulary
from palenka.paradigms._several import Several, SeveralConfig


class MixConfig(SeveralConfig):
    """Which paradigms, and how many sequences of each."""

    rows: dict[str, int] = Field(
        min_length=2, description="sequences of each paradigm, and its weight in the loss: {mntp: 15, causal: 1}"
    )

    @property
    def part_names(self) -> list[str]:
        return list(self.rows)

    @property
    def predicted_share(self) -> float:
        of_rows = (count * self.section(name).predicted_share for name, count in self.rows.items())
        return sum(of_rows) / sum(self.rows.values())

    @model_validator(mode="after")
    def _known(self) -> "MixConfig":
        self.check()
        for name, count in self.rows.items():
            if count < 1:
                raise ValueError(f"rows: {name}: {count}: expected a number of sequences of 1 or more")
        return self


class Mix(Several):
    """Several in each batch."""

    Config = MixConfig
    config: MixConfig

    def __init__(self, config: MixConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        self.least_batch = sum(config.rows.values())
        names = sorted(config.rows)  # whatever their order in a file, which is no other training
        numbers = [config.part_names.index(name) for name in names]
        self._turns = [numbers[turn] for turn in _turns([config.rows[name] for name in names])]

    @property
    def shares(self) -> dict[str, float]:
        return {name: count / self.least_batch for name, count in self.config.rows.items()}

    def batch(self, shown: Shown) -> Batch:
        """A window is made by the paradigm whose turn its position is, so that every `least_batch` have the ratio."""
        part = torch.tensor([self._turns[position % self.least_batch] for position in shown.positions])
        batch, time = shown.input_ids.shape
        inputs, labels = torch.from_numpy(shown.input_ids.copy()), torch.empty(batch, time, dtype=torch.int64)
        mask, weight = torch.zeros(batch, 1, time, time, dtype=torch.bool), torch.zeros(batch)
        for number, paradigm in enumerate(self.parts.values()):
            rows = (part == number).nonzero().flatten()
            if len(rows):
                made = paradigm.batch(shown.rows(rows.tolist()))
                inputs[rows], labels[rows] = made.input_ids, made.labels
                mask[rows] = made.visible()
                weight[rows] = list(self.shares.values())[number] / made.counts.sum().clamp(min=1)
        whole = Batch(inputs, labels, mask, part)
        return Batch(inputs, labels, mask, part, weight * whole.counts.sum())


def _turns(counts: list[int]) -> list[int]:
    """Which comes next, each as often as its count says and as evenly as can be.

    Of the n-th turn it is the one that lags most behind its share of n turns.
    """
    done, turns = [0] * len(counts), []
    for turn in accumulate([1] * sum(counts)):
        lags = [turn * count / sum(counts) - had for count, had in zip(counts, done, strict=True)]
        turns.append(lags.index(max(lags)))
        done[turns[-1]] += 1
    return turns
