"""What a checkpoint holds of a run in training: where it is, its weights, and its optimizer's state."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from palenka.runs.checkpoints import WEIGHTS
from palenka.util.errors import UserError
from palenka.util.files import named

AVERAGE = "ema.pt"
UNREADABLE = (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, OSError, KeyError, ValueError)
"""What safetensors and torch raise where a file is not what they wrote."""


@dataclass
class Progress:
    """Where a run is; saved with each checkpoint."""

    step: int = 0
    tokens: int = 0
    words: int = 0
    epoch: float = 0.0
    seconds: float = 0.0
    best_step: int | None = None
    best_dev: dict[str, Any] = field(default_factory=dict)
    lost_best: dict[str, Any] | None = None
    """Step and cross-entropy of a best checkpoint that was damaged, so that another is exported."""
    skipped: list[int] = field(default_factory=list)  # steps not taken, because their gradient was not finite

    def is_better(self, dev: dict[str, Any]) -> bool:
        """Whether a dev evaluation is the best so far; of several paradigms, whose losses may part, it is the last."""
        return self.best_step is None or "paradigms" in dev or dev["cross_entropy"] < self.best_dev["cross_entropy"]

    def position(self) -> dict[str, Any]:
        """As records say it."""
        return {"step": self.step, "epoch": round(self.epoch, 4), "tokens": self.tokens, "words": self.words}

    def forget_best(self) -> None:
        """The best checkpoint is damaged: the best of the steps to come takes its place."""
        self.lost_best = {"step": self.best_step, "cross_entropy": self.best_dev["cross_entropy"]}
        self.best_step, self.best_dev = None, {}


def write_tensors(folder: Path, module: nn.Module, states: Mapping[str, Any]) -> None:
    """Weights, and in a file each the states of the optimizer, of fp16's loss scale, of an average of weights."""
    save_model(module, str(folder / WEIGHTS))
    for name, part in states.items():
        with named(folder / name), (folder / name).open("wb") as file:  # given a path, PyTorch hides what was refused
            torch.save(part.state_dict(), file)


def read_tensors(folder: Path, module: nn.Module, states: Mapping[str, Any]) -> None:
    """What `write_tensors` wrote.

    Raises:
        UserError: files of an earlier version, which wrote no checksums, are damaged.
    """
    try:
        load_model(module, str(folder / WEIGHTS))
        for name, part in states.items():
            part.load_state_dict(torch.load(folder / name, map_location="cpu", weights_only=True))
    except UNREADABLE as error:
        raise UserError(f"{folder}: cannot be read; remove it to go on without it ({error})") from None
