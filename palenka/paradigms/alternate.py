r"""Alternate: whole epochs by one paradigm, then by another, and so on, with one optimizer and one schedule.

    {name: alternate, epochs: [{causal: 4}, {masked: 16}, {causal: 4}]}

AntLM (Yu et al. 2024, arXiv 2412.03275) trains a Llama and an LTG-BERT so. A run of another length than these epochs
is divided in their proportions.
"""

from itertools import accumulate

import torch
from pydantic import Field, model_validator

from palenka.data.batch import Batch
from palenka.paradigms import ParadigmConfig, Shown
from palenka.paradigms._several import Several, SeveralConfig

ROUNDING = 1e-9


class AlternateConfig(SeveralConfig):
    """Which paradigms follow each other, and for how long."""

    epochs: list[dict[str, float]] = Field(
        min_length=2, description="paradigms in their order, each with its epochs: [{causal: 4}, {masked: 16}]"
    )

    @model_validator(mode="after")
    def _known(self) -> "AlternateConfig":
        for phase in self.epochs:
            if len(phase) != 1 or min(phase.values()) <= 0:
                raise ValueError(f"epochs: {phase}: expected one paradigm with its epochs, such as {{causal: 4}}")
        self.check()
        return self

    @property
    def part_names(self) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self.phases))

    @property
    def stages(self) -> list[tuple[float, ParadigmConfig]]:
        whole = sum(length for _, length in self.phases)
        return [(length / whole, self.section(name)) for name, length in self.phases]

    @property
    def predicted_share(self) -> float:
        return sum(share * stage.predicted_share for share, stage in self.stages)

    @property
    def logit_share(self) -> float:
        return sum(share * stage.logit_share for share, stage in self.stages)

    @property
    def phases(self) -> list[tuple[str, float]]:
        """(Paradigm, epochs) in their order."""
        return [item for phase in self.epochs for item in phase.items()]


class Alternate(Several):
    """One after the other."""

    Config = AlternateConfig
    config: AlternateConfig

    @property
    def shares(self) -> dict[str, float]:
        epochs = dict.fromkeys(self.parts, 0.0)
        for name, length in self.config.phases:
            epochs[name] += length
        return {name: length / sum(epochs.values()) for name, length in epochs.items()}

    def batch(self, shown: Shown) -> Batch:
        """A batch is of the phase in which its first window is."""
        name = self.at(shown.progress)
        made = self.parts[name].batch(shown)
        number = list(self.parts).index(name)
        return Batch(made.input_ids, made.labels, made.attention, torch.full((len(made),), number))

    def at(self, progress: float) -> str:
        """The paradigm whose turn it is after a share of the training."""
        ends = list(accumulate(length for _, length in self.config.phases))
        done = progress * ends[-1] + ROUNDING
        return next((name for (name, _), end in zip(self.config.phases, ends, strict=True) if done < end),
                    self.config.phases[-1][0])  # fmt: skip
